//! Runs the programs that a build needs.

use crate::error::{ImagesError, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where administration programs live that an ordinary user's PATH leaves out.
const MORE_PLACES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The program called `name`, if there is one.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_PLACES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// A program by name, in the C locale and without standard input.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(find_program(name).unwrap_or_else(|| name.into()));
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// What a program printed.
pub(crate) struct Printed {
    pub stdout: String,
    pub stderr: String,
}

/// Runs it to its end; an end other than success is an error.
pub(crate) fn run(command: &mut Command) -> Result<Printed> {
    let result = command.output();
    let failed = |what: String, output: String| ImagesError::Command {
        program: shown(command),
        what,
        output,
    };
    let output = result.map_err(|e| failed(format!("cannot be started: {e}"), String::new()))?;
    let printed = Printed {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    if output.status.success() {
        Ok(printed)
    } else {
        let all = printed.stdout + &printed.stderr;
        Err(failed(format!("failed ({})", output.status), all))
    }
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
