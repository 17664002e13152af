//! On a real /dev/kvm, with a guest of two instructions: any that can be opened runs it.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::*;
use crate::boot::BootSource;
use crate::devices::virtio::tmem::TmemConfig;
use crate::hypervisor::Hypervisor;
use crate::hypervisor::kvm::KvmHypervisor;
use crate::machine::{self, MachineConfig};
use crate::not_run::not_run;

/// Where the guest is loaded.
const ADDRESS: u64 = 16 << 20;

/// `again: out 0x80, al; jmp again`: leaves the guest for the VMM over and over.
const CODE: [u8; 4] = [0xe6, 0x80, 0xeb, 0xfc];

/// A 64-bit ELF file with that code.
fn kernel() -> tempfile::NamedTempFile {
    let mut file = vec![0; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..18].copy_from_slice(&2_u16.to_le_bytes());
    file[18..20].copy_from_slice(&62_u16.to_le_bytes());
    file[20..24].copy_from_slice(&1_u32.to_le_bytes());
    file[24..32].copy_from_slice(&ADDRESS.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[52..54].copy_from_slice(&64_u16.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&1_u16.to_le_bytes());
    let segment = &mut file[64..120];
    segment[..4].copy_from_slice(&1_u32.to_le_bytes());
    segment[8..16].copy_from_slice(&120_u64.to_le_bytes());
    for (place, value) in [(16, ADDRESS), (24, ADDRESS), (32, 4), (40, 4)] {
        segment[place..place + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    file.extend(CODE);
    let kernel = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(kernel.path(), file).expect("written");
    kernel
}

/// Runs that guest with a pool of `size` bytes, on a thread of its own; `None` where no /dev/kvm can be opened.
pub(crate) fn run(size: u64) -> Option<(Arc<Machine>, JoinHandle<Exit>)> {
    if let Err(error) = KvmHypervisor::open() {
        not_run(error);
        return None;
    }
    let kernel = kernel();
    let config = MachineConfig {
        boot: BootSource {
            kernel: kernel.path().to_owned(),
            initrd: None,
            cmdline: String::new(),
        },
        memory: 64 << 20,
        cpus: 1,
        disks: vec![],
        tmem: Some(TmemConfig {
            size,
            ..TmemConfig::default()
        }),
        acpi: true,
        marks: None,
        // The tests' process is not to be confined for good.
        confinement: crate::confine::Confinement::Off,
        controlled: true,
    };
    let (sender, machines) = mpsc::channel();
    let running = thread::spawn(move || {
        let open = || KvmHypervisor::open().map(|kvm| Box::new(kvm) as Box<dyn Hypervisor>);
        let started = |machine: &Arc<Machine>| {
            sender.send(machine.clone()).expect("somebody listens");
        };
        machine::run(&config, open, started).expect("it is started")
    });
    // Its file goes here: that thread may be confined.
    let machine = machines.recv().expect("a machine");
    drop(kernel);
    Some((machine, running))
}

#[test]
fn a_paused_machine_leaves_its_guest_no_more_and_goes_on_when_resumed() {
    let Some((machine, running)) = run(16 << 20) else {
        return;
    };
    let exits = || machine.counters().exits["total"];
    let more_than = |before: u64| {
        while exits() <= before {
            thread::yield_now();
        }
    };
    more_than(0);
    for _ in 0..20 {
        machine.pause().expect("it runs");
        assert_eq!(machine.pause(), Err(WrongPhase(Phase::Paused)));
        let paused = exits();
        for _ in 0..100 {
            thread::yield_now();
        }
        assert_eq!(exits(), paused);
        machine.resume().expect("it is paused");
        assert_eq!(machine.resume(), Err(WrongPhase(Phase::Running)));
        more_than(paused);
    }
    // A paused one ends, too.
    machine.pause().expect("it runs");
    machine.end(Exit::ShutDown);
    let ended = running.join().expect("no panic");
    assert_eq!(ended, Exit::ShutDown);
    assert_eq!(machine.pause(), Err(WrongPhase(Phase::Ended)));
}
