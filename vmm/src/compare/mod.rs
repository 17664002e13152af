//! `vtmem compare`: the same work under four disk settings, and what it cost.
//!
//! Each mode, and each [`policy`], gets a fresh guest ([`guest`]), on this host one after the other ([`kvm`]), or in labs side by side
//! ([`lab`]). What the guest prints ([`console`]) and what the VMM notes at the guest's marks ([`marks`]) makes its
//! [`outcome`]; all of them make the [`result`], which is shown as a [`table`] and as an
//! [`html`] page, both of which say what the [`mechanisms`] of tmem did and what each one buys.

pub mod cgroup;
pub mod chart;
pub mod console;
pub mod guest;
pub mod html;
pub mod kvm;
pub mod lab;
pub mod marks;
pub mod mechanisms;
pub mod mode;
pub mod outcome;
pub mod policy;
pub mod progress;
pub mod quantity;
pub mod result;
pub mod stop;
pub mod table;

use std::path::PathBuf;

use vtmem_workloads::workload::Workload;

use policy::Variant;
use result::{Comparison, SCHEMA};

/// What is compared, and how much of everything there is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Workloads to run in each guest, in this order.
    pub workloads: Vec<Workload>,
    /// Modes, and tmem with something switched off; one guest each.
    pub variants: Vec<Variant>,
    /// Memory of each guest, in bytes.
    pub guest_mem: u64,
    /// Host memory for each guest besides, in bytes.
    pub host_mem: u64,
    /// What all contents and all choices depend on.
    pub seed: u64,
    /// Where what the one guest asks of its pool is recorded.
    pub record: Option<PathBuf>,
}

impl Settings {
    /// A comparison with these settings and no runs yet; `accel` is `kvm` or `lab`. With
    /// `instructions_per_ns` its clock is virtual.
    pub fn empty_comparison(&self, accel: &str, instructions_per_ns: Option<f64>) -> Comparison {
        let clock = match instructions_per_ns {
            Some(_) => "virtual",
            None => "wall",
        };
        Comparison {
            schema: SCHEMA,
            accel: accel.to_owned(),
            clock: clock.to_owned(),
            instructions_per_ns,
            guest_mem_bytes: self.guest_mem,
            host_mem_bytes: self.host_mem,
            runs: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The swap disk's size in bytes: all of the swap workload's set fits, and the system's own pages.
    pub fn swap_bytes(&self) -> u64 {
        self.guest_mem.saturating_mul(2)
    }

    /// The workloads as command lines list them.
    pub fn workload_list(&self) -> String {
        self.workloads
            .iter()
            .map(|w| w.name())
            .collect::<Vec<_>>()
            .join(",")
    }
}
