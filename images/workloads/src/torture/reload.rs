//! The driver is unloaded while file systems use it, and loaded again as it was.

use super::file::{NOTHING_READ, Verdict};
use crate::context::{about, command};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use vtmem_workloads::driver::DIRECTORY;
use vtmem_workloads::torture_lines::COUNTER_PREFIX;

const NAME: &str = "virtio_tmem";
const MODULE: &str = "/modules/virtio_tmem.ko";
const PARAMETERS: &str = "/sys/module/virtio_tmem/parameters";
/// The driver's swap disk, which must not be in use when it goes.
const SWAP: &str = "/dev/vtmemswap0";
/// Of what the driver counts since it was loaded, what says whether it was at work.
const TOLD: [&str; 2] = ["puts", "hits"];
const SWAPS: &str = "/proc/swaps";
/// Loading it takes memory in large pieces, which may be short for a moment.
const TRIES: u32 = 100;
const AWHILE: Duration = Duration::from_millis(50);

/// One at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Unloads and loads the driver, if it is there and nobody needs it just now.
///
/// # Errors
/// It cannot be loaded again.
pub fn run() -> io::Result<Verdict> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !Path::new(PARAMETERS).exists() || !Path::new(MODULE).exists() {
        return Ok(NOTHING_READ);
    }
    let swaps = fs::read_to_string(SWAPS).map_err(about(SWAPS))?;
    let swaps = swaps.lines().any(|line| line.starts_with(SWAP));
    // In a process of its own: the kernel thinks of whoever does this first when memory runs out.
    if swaps && command("swapoff", &[SWAP]).is_err() {
        return Ok(NOTHING_READ);
    }
    let load = parameters()?;
    let load: Vec<_> = [MODULE]
        .into_iter()
        .chain(load.iter().map(String::as_str))
        .collect();
    let counted = TOLD.map(|name| fs::read_to_string(format!("{DIRECTORY}/{name}")));
    if command("rmmod", &[NAME]).is_ok() {
        for (name, count) in TOLD.iter().zip(counted) {
            println!("{COUNTER_PREFIX}{name}:{}", count?.trim());
        }
        patiently(|| command("insmod", &load))?;
        if swaps {
            patiently(|| command("mkswap", &[SWAP]))?;
        }
    }
    if swaps {
        patiently(|| command("swapon", &[SWAP]))?;
    }
    Ok(NOTHING_READ)
}

/// The parameters that it was loaded with, as `insmod` takes them.
fn parameters() -> io::Result<Vec<String>> {
    let entries = fs::read_dir(PARAMETERS).map_err(about(PARAMETERS))?;
    let mut parameters = Vec::new();
    for entry in entries {
        let entry = entry?;
        let value = fs::read_to_string(entry.path())?;
        let value = value.trim();
        if !value.is_empty() && value != "(null)" {
            parameters.push(format!("{}={value}", entry.file_name().display()));
        }
    }
    Ok(parameters)
}

fn patiently(mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..TRIES {
        if work().is_ok() {
            return Ok(());
        }
        thread::sleep(AWHILE);
    }
    work()
}
