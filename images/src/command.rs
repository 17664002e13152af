//! Runs the programs that a build needs.

use crate::error::{ImagesError, Result};
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

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

/// The same, telling how many lines it has printed so far.
pub(crate) fn run_counting_lines(command: &mut Command, mut told: impl FnMut(u64)) -> Result<()> {
    let failed = |command: &Command, what: String, output: String| ImagesError::Command {
        program: shown(command),
        what,
        output,
    };
    let cannot = |command: &Command, error: std::io::Error| {
        failed(
            command,
            format!("cannot be started: {error}"),
            String::new(),
        )
    };
    let spawned = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| cannot(command, error))?;
    let stderr = child.stderr.take();
    // Read beside the other, or a program that fills one pipe would wait for us for ever.
    let stderr = thread::spawn(move || {
        let mut text = Vec::new();
        // What cannot be read says nothing; how the program ended counts.
        let _ = stderr.map(|mut pipe| pipe.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    if let Some(pipe) = child.stdout.take() {
        let lines = BufReader::new(pipe)
            .split(b'\n')
            .map_while(|line| line.ok());
        (1..).zip(lines).for_each(|(count, _)| told(count));
    }
    let status = child.wait().map_err(|error| cannot(command, error))?;
    if status.success() {
        return Ok(());
    }
    let output = stderr.join().unwrap_or_default();
    Err(failed(command, format!("failed ({status})"), output))
}

/// The kernel's `make` in `directory`: one that runs us would otherwise hand on its own options and job server.
pub(crate) fn own_make(directory: &Path) -> Command {
    let mut make = program("make");
    for variable in [
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "MAKEOVERRIDES",
        "ARCH",
        "CROSS_COMPILE",
    ] {
        make.env_remove(variable);
    }
    make.arg("-C").arg(directory);
    make
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
