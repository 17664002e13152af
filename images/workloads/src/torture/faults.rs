//! The kernel's own fault injection (Documentation/fault-injection), aimed at the driver: allocations fail that it makes, or
//! that the kernel makes a few calls below it; writes fail that it hands to the swap disk, and readahead that it hands to
//! the file system. None of that may be seen by who reads and writes: each has a way on without.

use crate::context::about;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use vtmem_workloads::torture_lines::FAULTS_PREFIX;

const DEBUGFS: &str = "/sys/kernel/debug";
const SYMBOLS: &str = "/proc/kallsyms";
const MODULE: &str = "[virtio_tmem]";
/// How many faults a kind may inject; the kernel counts down.
const TIMES: u32 = 1_000_000_000;
/// Calls between what fails and the driver: its own allocations, and those of the functions it calls, but not what a file
/// system allocates when the driver has it go on.
const ALLOCATION_DEPTH: u32 = 8;
/// The page allocator's own calls, and those for a folio of the page cache, are eight already.
const PAGE_DEPTH: u32 = 12;
/// Readahead reaches the block layer through all of a file system.
const REQUEST_DEPTH: u32 = 32;

/// A kind of fault, and how many of a hundred chances it takes.
struct Kind {
    name: &'static str,
    probability: u32,
    depth: u32,
    /// More to set: by default allocations that may sleep do not fail, nor do single pages.
    settings: &'static [(&'static str, &'static str)],
}

const ALLOCATIONS: [Kind; 2] = [
    Kind {
        name: "failslab",
        probability: 20,
        depth: ALLOCATION_DEPTH,
        settings: &[("ignore-gfp-wait", "N")],
    },
    Kind {
        name: "fail_page_alloc",
        probability: 20,
        depth: PAGE_DEPTH,
        settings: &[
            ("ignore-gfp-wait", "N"),
            ("ignore-gfp-highmem", "N"),
            ("min-order", "0"),
        ],
    },
];
const REQUESTS: Kind = Kind {
    name: "fail_make_request",
    probability: 20,
    depth: REQUEST_DEPTH,
    settings: &[],
};
/// Whose requests fail: one after the other, for the kernel takes one range of code.
const REQUESTERS: [&str; 2] = ["vtmem_swap_store", "vtmem_read_pages"];
/// The data disk and the swap disk below the driver's.
const DISKS: [&str; 2] = ["vda", "vdb"];

/// Faults, for as long as this lives.
#[derive(Debug)]
pub(super) struct Faults {
    requesters: Vec<Range<u64>>,
    turn: usize,
}

impl Faults {
    /// Begins.
    ///
    /// # Errors
    /// The kernel has no fault injection, or the driver is not loaded.
    pub fn begin() -> io::Result<Self> {
        let text = fs::read_to_string(SYMBOLS).map_err(about(SYMBOLS))?;
        let code = functions(&text);
        let (Some(first), Some(last)) = (code.first(), code.last()) else {
            return Err(io::Error::other(
                "faults are for the driver, which is not loaded",
            ));
        };
        let all = first.address..last.address + 1;
        let requesters = REQUESTERS.iter().map(|name| {
            place(&code, name).ok_or_else(|| io::Error::other(format!("the driver has no {name}")))
        });
        let mut faults = Self {
            requesters: requesters.collect::<io::Result<_>>()?,
            turn: 0,
        };
        for kind in &ALLOCATIONS {
            kind.begin(&all)?;
        }
        for disk in DISKS {
            write(&format!("/sys/block/{disk}/make-it-fail"), "1")?;
        }
        faults.next()?;
        Ok(faults)
    }

    /// Has the requests of another part of the driver fail.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&mut self) -> io::Result<()> {
        let requester = &self.requesters[self.turn % self.requesters.len()];
        let first = self.turn == 0;
        self.turn += 1;
        REQUESTS.set("probability", "0")?;
        REQUESTS.aim(requester)?;
        if first {
            REQUESTS.begin(requester)
        } else {
            REQUESTS.set("probability", &REQUESTS.probability.to_string())
        }
    }

    /// Ends, and says how many faults there were.
    ///
    /// # Errors
    /// The kernel's.
    pub fn end(self) -> io::Result<()> {
        for kind in ALLOCATIONS.iter().chain([&REQUESTS]) {
            kind.set("probability", "0")?;
            println!("{FAULTS_PREFIX}{} {}", kind.name, kind.injected()?);
        }
        Ok(())
    }
}

impl Kind {
    fn path(&self, setting: &str) -> String {
        format!("{DEBUGFS}/{}/{setting}", self.name)
    }

    fn set(&self, setting: &str, value: &str) -> io::Result<()> {
        write(&self.path(setting), value)
    }

    fn aim(&self, code: &Range<u64>) -> io::Result<()> {
        self.set("require-start", &format!("{:#x}", code.start))?;
        self.set("require-end", &format!("{:#x}", code.end))
    }

    fn begin(&self, code: &Range<u64>) -> io::Result<()> {
        self.aim(code)?;
        for (setting, value) in self.settings {
            self.set(setting, value)?;
        }
        self.set("stacktrace-depth", &self.depth.to_string())?;
        // What is injected is counted, not logged.
        self.set("verbose", "0")?;
        self.set("interval", "1")?;
        self.set("times", &TIMES.to_string())?;
        self.set("probability", &self.probability.to_string())
    }

    fn injected(&self) -> io::Result<u32> {
        let path = self.path("times");
        let left = fs::read_to_string(&path).map_err(about(&path))?;
        let left: u32 = left.trim().parse().map_err(io::Error::other)?;
        Ok(TIMES - left)
    }
}

fn write(path: &str, value: &str) -> io::Result<()> {
    if !Path::new(path).exists() {
        return Err(io::Error::other(format!(
            "{path} is not there: this kernel has no fault injection"
        )));
    }
    fs::write(path, value).map_err(about(path))
}

/// A function of the driver.
#[derive(Debug)]
struct Function<'a> {
    address: u64,
    name: &'a str,
}

/// The driver's functions in the order of their addresses.
fn functions(symbols: &str) -> Vec<Function<'_>> {
    let mut functions: Vec<_> = symbols
        .lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [address, "t" | "T", name, MODULE] = words[..] else {
                return None;
            };
            let address = u64::from_str_radix(address, 16).ok()?;
            Some(Function { address, name })
        })
        .collect();
    functions.sort_by_key(|function| function.address);
    functions
}

/// Where a function's code is.
fn place(functions: &[Function<'_>], name: &str) -> Option<Range<u64>> {
    let at = functions.iter().position(|f| f.name == name)?;
    let start = functions[at].address;
    let next = functions[at..].iter().find(|f| f.address > start)?;
    Some(start..next.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "\
ffffffff81000000 T _stext
ffffffffa0001100 t vtmem_read_pages\t[virtio_tmem]
ffffffffa0001000 t vtmem_swap_store\t[virtio_tmem]
ffffffffa0001000 T vtmem_alias\t[virtio_tmem]
ffffffffa0002000 t vtmem_last\t[virtio_tmem]
ffffffffa0009000 d vtmem_hooks\t[virtio_tmem]
ffffffffa0000000 t other\t[loop]
";

    #[test]
    fn functions_are_the_driver_s_alone_and_end_where_the_next_begins() {
        let functions = functions(SYMBOLS);
        assert_eq!(functions.len(), 4);
        let store = place(&functions, "vtmem_swap_store");
        assert_eq!(store, Some(0xffff_ffff_a000_1000..0xffff_ffff_a000_1100));
        let read = place(&functions, "vtmem_read_pages");
        assert_eq!(read, Some(0xffff_ffff_a000_1100..0xffff_ffff_a000_2000));
        assert_eq!(place(&functions, "vtmem_hooks"), None);
        assert_eq!(place(&functions, "vtmem_last"), None);
    }
}
