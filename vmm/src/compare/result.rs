//! What a comparison found: the JSON file's form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vtmem_workloads::driver::Counters;
use vtmem_workloads::workload::Workload;

use super::mode::Mode;
use super::policy::{Policy, Variant};

/// Version of the JSON file's form.
pub const SCHEMA: u32 = 1;

/// A whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `lab` or `kvm`.
    pub accel: String,
    /// `virtual` or `wall`: which clock `seconds` come from.
    pub clock: String,
    /// What virtual time was divided by; none for wall time.
    pub instructions_per_ns: Option<f64>,
    /// Memory of each guest.
    pub guest_mem_bytes: u64,
    /// Host memory that each guest had besides.
    pub host_mem_bytes: u64,
    /// Finished runs, by workload and then by mode.
    pub runs: Vec<Run>,
    /// Why other runs did not finish; left out when all did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One workload under one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`Workload::name`].
    pub workload: String,
    /// [`Mode::name`].
    pub mode: String,
    /// [`Policy::name`] of what was switched off; none if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Time that the workload took.
    pub seconds: f64,
    /// Reads, writes or searches.
    pub operations: u64,
    /// Bytes compared with what they should be.
    pub bytes_verified: u64,
    /// Bytes among them that were wrong.
    pub bytes_corrupt: u64,
    /// KVM's own count of the guest's exits.
    pub exits: Exits,
    /// Pages of 4 KiB that went between the guest and anything behind it: what it read from its disks and wrote to them,
    /// whatever the host made of that, and what was put or got.
    pub pages_moved: u64,
    /// Exits for 1000 of those pages; none if there were none.
    pub exits_per_1000_pages: Option<f64>,
    /// What the disks did, as the host's block layer counts it where it does.
    pub disk: Disk,
    /// The most host memory in use until the workload's end: the guest's RAM, the VMM, its page cache and the pool.
    pub host_peak_bytes: u64,
    /// What the device counted; none without one.
    pub tmem: Option<Tmem>,
    /// The workload's passes one by one, if it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
}

/// One pass of a workload; the fields are those of [`Run`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// One of [`Workload::passes`].
    pub name: String,
    /// Time that the pass took.
    pub seconds: f64,
    /// Reads, writes or searches.
    pub operations: u64,
    /// Bytes compared with what they should be, meanwhile.
    pub bytes_verified: u64,
    /// Bytes among them that were wrong.
    pub bytes_corrupt: u64,
    /// KVM's own count of the guest's exits.
    pub exits: Exits,
    /// Pages of 4 KiB that went between the guest and anything behind it: what it read from its disks and wrote to them,
    /// whatever the host made of that, and what was put or got.
    pub pages_moved: u64,
    /// Exits for 1000 of those pages; none if there were none.
    pub exits_per_1000_pages: Option<f64>,
    /// What the disks did.
    pub disk: Disk,
    /// What the device counted; none without one.
    pub tmem: Option<Tmem>,
}

/// Exits of all vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exits {
    /// Exits of every kind.
    pub total: u64,
    /// Those that KVM counts by reason, as it names them.
    #[serde(flatten)]
    pub reasons: BTreeMap<String, u64>,
}

/// Sums over the disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub read_ops: u64,
    /// Writes.
    pub write_ops: u64,
}

/// What the virtio-tmem device did meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmem {
    /// Pages that the guest put.
    pub puts: u64,
    /// Puts that found no room.
    pub puts_refused: u64,
    /// Pages that the guest asked for.
    pub gets: u64,
    /// Gets that were answered with a page.
    pub hits: u64,
    /// Pages copied from the guest or to it: puts that were not refused, and hits.
    pub pages_copied: u64,
    /// Flushes of pages, ranges and objects.
    pub flushes: u64,
    /// Descriptor chains that carried all of these.
    pub chains: u64,
    /// Doorbells of the put queue: how often puts and flushes left the guest.
    pub doorbells: u64,
    /// Doorbells of the get queue, each of which is an exit: gets, and puts and flushes that could not wait.
    pub get_exits: u64,
    /// Pages that were read and that the guest knew not to be in the host: misses without an exit.
    pub misses_in_guest: u64,
    /// Flushes of what the guest knew not to be in the host: without an exit.
    pub flushes_in_guest: u64,
    /// Reclaimed pages that the guest held not to be worth a copy.
    pub puts_declined: u64,
    /// Pages among the gets that were fetched ahead, with a page that was read alone.
    pub gets_ahead: u64,
    /// Exits among [`Tmem::get_exits`] to have what is on the put queue executed at once, for no batch or no credit was
    /// left.
    pub drains: u64,
    /// Ephemeral pages given up for newer ones.
    pub evictions: u64,
    /// Pages in the pool at the end.
    pub stored_pages: u64,
    /// Bytes they took there.
    pub stored_bytes: u64,
}

impl Run {
    /// Which guest of the comparison it was; none if this version does not know it.
    pub fn variant(&self) -> Option<Variant> {
        let policy = match &self.policy {
            Some(name) => Some(Policy::from_name(name)?),
            None => None,
        };
        Some(Variant {
            mode: Mode::from_name(&self.mode)?,
            policy,
        })
    }
}

impl Tmem {
    /// Whether the guest's driver looked at any page at all.
    pub fn was_there(&self) -> bool {
        let seen = [
            self.puts,
            self.gets,
            self.misses_in_guest,
            self.flushes_in_guest,
            self.puts_declined,
        ];
        seen.iter().any(|&pages| pages > 0)
    }

    /// Adds what the guest's driver counted.
    pub fn with_driver(self, driver: Counters) -> Self {
        Self {
            misses_in_guest: driver.misses_local,
            flushes_in_guest: driver.flushes_local,
            puts_declined: driver.puts_unworthy,
            gets_ahead: driver.gets_ahead,
            drains: driver.drains,
            ..self
        }
    }
}

/// Exits for 1000 pages, to two digits; none for no pages.
pub fn exits_per_1000_pages(exits: u64, pages: u64) -> Option<f64> {
    let exact = exits as f64 * 1000.0 / pages as f64;
    (pages > 0).then(|| (exact * 100.0).round() / 100.0)
}

impl Comparison {
    /// The result of `workload` under a mode, or another variant.
    pub fn run(&self, workload: Workload, variant: impl Into<Variant>) -> Option<&Run> {
        let variant = variant.into();
        let is = |run: &&Run| run.workload == workload.name() && run.variant() == Some(variant);
        self.runs.iter().find(is)
    }

    /// Bytes verified in all runs.
    pub fn bytes_verified(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes_verified).sum()
    }

    /// Bytes corrupt in all runs.
    pub fn bytes_corrupt(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes_corrupt).sum()
    }

    /// Whether every run finished with every byte right.
    pub fn all_right(&self) -> bool {
        self.problems.is_empty() && !self.runs.is_empty() && self.bytes_corrupt() == 0
    }

    /// Workloads that have a run, in their usual order.
    pub fn workloads(&self) -> Vec<Workload> {
        let ran = |w: &Workload| self.runs.iter().any(|run| run.workload == w.name());
        Workload::ALL.into_iter().filter(ran).collect()
    }

    /// Modes that have a run, in their usual order.
    pub fn modes(&self) -> Vec<Mode> {
        let ran = |m: &Mode| {
            self.runs
                .iter()
                .any(|run| run.variant() == Some(Variant::from(*m)))
        };
        Mode::ALL.into_iter().filter(ran).collect()
    }

    /// Mechanisms that were switched off in a run, in their usual order.
    pub fn policies(&self) -> Vec<Policy> {
        let ran = |p: &Policy| {
            self.runs
                .iter()
                .any(|run| run.variant() == Some(Variant::without(*p)))
        };
        Policy::ALL.into_iter().filter(ran).collect()
    }

    /// Takes over another comparison's runs and problems.
    pub fn absorb(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.problems.extend(other.problems);
    }

    /// Puts the runs in their usual order, whatever order they finished in.
    pub fn sort(&mut self) {
        self.runs.sort_by_key(|run| {
            (
                Workload::from_name(&run.workload),
                run.policy.is_some(),
                run.variant(),
            )
        });
    }

    /// The JSON file's content.
    pub fn to_json(&self) -> String {
        // A structure of numbers, strings and lists always has a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
#[path = "result_test.rs"]
pub(crate) mod tests;
