//! `vtmem completions` and `vtmem man`: what packages install beside the program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, CliError};

/// Options of `vtmem completions`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  vtmem completions bash >/etc/bash_completion.d/vtmem")]
pub struct CompletionsArgs {
    /// For which shell.
    shell: Shell,
}

/// Options of `vtmem man`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  vtmem man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Where to write the pages, one for each command; it must exist.
    directory: PathBuf,
}

/// Prints a shell's completions.
pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut command = Cli::command();
    clap_complete::generate(args.shell, &mut command, "vtmem", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Writes the man pages.
///
/// # Errors
/// They cannot be written there.
pub fn man(args: &ManArgs) -> Result<ExitCode, CliError> {
    let about = |error: std::io::Error| format!("{}: {error}", args.directory.display());
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(about)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_is_completed() {
        Cli::command().debug_assert();
        let dir = tempfile::tempdir().expect("a directory");
        let args = ManArgs {
            directory: dir.path().to_owned(),
        };
        man(&args).expect("pages");
        for page in [
            "vtmem.1",
            "vtmem-run.1",
            "vtmem-ctl-set.1",
            "vtmem-doctor.1",
        ] {
            assert!(dir.path().join(page).exists(), "{page}");
        }
        let mut script = vec![];
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "vtmem", &mut script);
        let script = String::from_utf8(script).expect("a text");
        assert!(script.contains("--api-socket") && script.contains("--tmem"));
    }
}
