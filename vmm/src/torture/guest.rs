//! A guest that is mistreated: its command, and what it says while it runs.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::thread;

use vtmem_images::GuestImage;

use crate::accel::Accel;
use crate::compare::stop::Stop;

/// `vtmem run` of `guest`, in real time; disks, tmem and the kernel's command line are still to be added.
///
/// # Errors
/// This program's own path is not to be had.
pub fn command(guest: &GuestImage, accel: Accel, mem: u64, cpus: u8) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let accel = if accel == Accel::Lab { "lab" } else { "kvm" };
    command
        .args(["run", "--accel", accel, "--clock", "real"])
        .arg("--kernel")
        .arg(&guest.kernel)
        .arg("--initrd")
        .arg(&guest.initrd)
        .args(["--mem", &mem.to_string()])
        .args(["--cpus", &cpus.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Runs it to its end, and hands each line of its console on. Returns its exit status, and what it said on standard error.
///
/// # Errors
/// It cannot be started, in one line.
pub fn follow(
    command: &mut Command,
    stop: &Stop,
    mut line: impl FnMut(&str),
) -> Result<(Option<i32>, String), String> {
    let child = stop
        .spawn(command)
        .map_err(|error| format!("cannot start a guest: {error}"))?;
    let stderr = child.with(|child| child.stderr.take());
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        // What is not text says nothing.
        let _ = stderr.map(|mut pipe| pipe.read_to_string(&mut text));
        text
    });
    if let Some(console) = child.with(|child| child.stdout.take()) {
        for text in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            line(String::from_utf8_lossy(&text).trim());
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for a guest: {error}"))?;
    Ok((status.code(), stderr.join().unwrap_or_default()))
}
