//! The marks file: the VMM's and the host's counters at the beginning and at the end of each workload.

use std::collections::BTreeMap;

use super::result::{Disk, Exits, Tmem};
use serde::Deserialize;

/// Bytes of a page.
const PAGE_SIZE: u64 = 4096;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Mark {
    mark: u8,
    exits: BTreeMap<String, u64>,
    disks: Vec<DiskMark>,
    tmem: Option<TmemMark>,
    host_memory: Option<HostMemory>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct DiskMark {
    /// As the VMM counted requests.
    #[serde(flatten)]
    guest: Disk,
    /// As the host counted what came of them.
    host: Option<HostDisk>,
}

/// A block device's own figures; or for a file, of which the kernel keeps none, the bytes of the whole VMM.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct HostDisk {
    read_bytes: u64,
    write_bytes: u64,
    read_ops: Option<u64>,
    write_ops: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct TmemMark {
    puts: u64,
    puts_refused: u64,
    gets: u64,
    hits: u64,
    flushes: u64,
    chains: u64,
    put_doorbells: u64,
    get_doorbells: u64,
    evictions: u64,
    stored_pages: u64,
    stored_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct HostMemory {
    peak: u64,
}

/// What happened between two marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Exits meanwhile.
    pub exits: Exits,
    /// Disk operations meanwhile.
    pub disk: Disk,
    /// Pages that went between the guest and anything behind it meanwhile.
    pub pages_moved: u64,
    /// The device's work meanwhile.
    pub tmem: Option<Tmem>,
    /// The most host memory in use until the second mark, where the host counts it.
    pub host_peak_bytes: Option<u64>,
}

/// Reads a marks file.
///
/// # Errors
/// A line that is not a mark, in one line.
pub fn parse(text: &str) -> Result<Vec<Mark>, String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|error| format!("marks file, line {}: {error}", number + 1))
        })
        .collect()
}

/// What happened from the first mark numbered `from` to the first numbered `to`.
///
/// # Errors
/// A mark that is missing, or counters that ran backwards, in one line.
pub fn difference(marks: &[Mark], from: u8, to: u8) -> Result<Difference, String> {
    let find = |number: u8, what: &str| {
        let place = marks.iter().position(|mark| mark.mark == number);
        place.ok_or_else(|| format!("its {what} was not marked ({number:#x})"))
    };
    let (begin, end) = (find(from, "begin")?, find(to, "end")?);
    if end < begin {
        return Err("its end was marked before its begin".to_owned());
    }
    Mark::difference(&marks[begin], &marks[end]).ok_or_else(|| "a counter ran backwards".to_owned())
}

impl Mark {
    fn difference(begin: &Self, end: &Self) -> Option<Difference> {
        let mut exits = Exits::default();
        for (reason, count) in &end.exits {
            let count = count.checked_sub(begin.exits.get(reason).copied().unwrap_or(0))?;
            match reason.as_str() {
                "total" => exits.total = count,
                // Most reasons never occur on a given machine.
                _ if count > 0 => drop(exits.reasons.insert(reason.clone(), count)),
                _ => {}
            }
        }
        let tmem = match (begin.tmem, end.tmem) {
            (Some(begin), Some(end)) => Some(TmemMark::difference(begin, end)?),
            _ => None,
        };
        let asked = requests(&end.disks).minus(requests(&begin.disks))?;
        let bytes = asked.read_bytes.checked_add(asked.write_bytes)?;
        Some(Difference {
            exits,
            disk: sum(&end.disks)?.minus(sum(&begin.disks)?)?,
            pages_moved: bytes / PAGE_SIZE + tmem.map_or(0, |tmem| tmem.pages_copied),
            tmem,
            host_peak_bytes: end.host_memory.map(|memory| memory.peak),
        })
    }
}

impl TmemMark {
    fn difference(begin: Self, end: Self) -> Option<Tmem> {
        let puts = end.puts.checked_sub(begin.puts)?;
        let puts_refused = end.puts_refused.checked_sub(begin.puts_refused)?;
        let hits = end.hits.checked_sub(begin.hits)?;
        Some(Tmem {
            puts,
            puts_refused,
            gets: end.gets.checked_sub(begin.gets)?,
            hits,
            pages_copied: puts.checked_sub(puts_refused)?.checked_add(hits)?,
            flushes: end.flushes.checked_sub(begin.flushes)?,
            chains: end.chains.checked_sub(begin.chains)?,
            doorbells: end.put_doorbells.checked_sub(begin.put_doorbells)?,
            get_exits: end.get_doorbells.checked_sub(begin.get_doorbells)?,
            evictions: end.evictions.checked_sub(begin.evictions)?,
            stored_pages: end.stored_pages,
            stored_bytes: end.stored_bytes,
            ..Tmem::default()
        })
    }
}

/// What the guest asked of all disks.
fn requests(disks: &[DiskMark]) -> Disk {
    let guest = disks.iter().map(|disk| disk.guest);
    guest.fold(Disk::default(), |sum, disk| Disk {
        read_bytes: sum.read_bytes.saturating_add(disk.read_bytes),
        write_bytes: sum.write_bytes.saturating_add(disk.write_bytes),
        read_ops: sum.read_ops.saturating_add(disk.read_ops),
        write_ops: sum.write_ops.saturating_add(disk.write_ops),
    })
}

/// All disks together. Bytes of the whole VMM count once, however many files it has as disks.
fn sum(disks: &[DiskMark]) -> Option<Disk> {
    let mut vmm_counted = false;
    disks.iter().try_fold(Disk::default(), |sum, disk| {
        let mut counters = disk.guest;
        match disk.host {
            Some(HostDisk {
                read_bytes,
                write_bytes,
                read_ops: Some(read_ops),
                write_ops: Some(write_ops),
            }) => {
                counters = Disk {
                    read_bytes,
                    write_bytes,
                    read_ops,
                    write_ops,
                };
            }
            Some(vmm) => {
                let again = std::mem::replace(&mut vmm_counted, true);
                counters.read_bytes = if again { 0 } else { vmm.read_bytes };
                counters.write_bytes = if again { 0 } else { vmm.write_bytes };
            }
            None => {}
        }
        Some(Disk {
            read_bytes: sum.read_bytes.checked_add(counters.read_bytes)?,
            write_bytes: sum.write_bytes.checked_add(counters.write_bytes)?,
            read_ops: sum.read_ops.checked_add(counters.read_ops)?,
            write_ops: sum.write_ops.checked_add(counters.write_ops)?,
        })
    })
}

impl Disk {
    fn minus(self, earlier: Self) -> Option<Self> {
        Some(Self {
            read_bytes: self.read_bytes.checked_sub(earlier.read_bytes)?,
            write_bytes: self.write_bytes.checked_sub(earlier.write_bytes)?,
            read_ops: self.read_ops.checked_sub(earlier.read_ops)?,
            write_ops: self.write_ops.checked_sub(earlier.write_ops)?,
        })
    }
}

#[cfg(test)]
#[path = "marks_test.rs"]
mod tests;
