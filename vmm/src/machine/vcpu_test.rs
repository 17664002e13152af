use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::machine::bus::Bus;

/// A vCPU whose every run is one exit.
struct Counter(Arc<AtomicU64>);

impl Vcpu for Counter {
    fn run(&mut self, _handler: &dyn ExitHandler) -> VcpuStop {
        self.0.fetch_add(1, Ordering::SeqCst);
        VcpuStop::Again
    }
}

/// A vCPU that stays in the guest until it is kicked, as KVM_RUN does.
struct Busy;

impl Vcpu for Busy {
    fn run(&mut self, _handler: &dyn ExitHandler) -> VcpuStop {
        // SAFETY: no descriptors, so no memory is read.
        unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
        VcpuStop::Again
    }
}

fn start(vcpus: Vec<Box<dyn Vcpu>>) -> (VcpuThreads, Arc<ExitSlot>) {
    let buses = Arc::new(Buses {
        io: Bus::default(),
        mmio: Bus::default(),
    });
    let exit = Arc::new(ExitSlot::new().expect("an eventfd"));
    let kind = Thread::Vcpu {
        marks: false,
        spills: false,
    };
    let threads = VcpuThreads::start(vcpus, &buses, &exit, kind).expect("threads");
    (threads, exit)
}

#[test]
fn paused_vcpus_run_no_more_until_they_are_resumed() {
    let exits = Arc::new(AtomicU64::new(0));
    let (threads, exit) = start(vec![
        Box::new(Counter(exits.clone())),
        Box::new(Busy),
        Box::new(Counter(exits.clone())),
    ]);
    for _ in 0..50 {
        threads.pause();
        let paused = exits.load(Ordering::SeqCst);
        for _ in 0..100 {
            thread::yield_now();
        }
        assert_eq!(exits.load(Ordering::SeqCst), paused);
        threads.resume();
        while exits.load(Ordering::SeqCst) == paused {
            thread::yield_now();
        }
    }
    exit.set(Exit::PoweredOff);
    threads.join();
}

#[test]
fn a_paused_machine_ends_and_one_that_ends_can_be_paused() {
    let (threads, exit) = start(vec![Box::new(Busy), Box::new(Busy)]);
    threads.pause();
    exit.set(Exit::ShutDown);
    threads.join();

    let (threads, exit) = start(vec![Box::new(Busy), Box::new(Busy)]);
    exit.set(Exit::ShutDown);
    threads.pause();
    threads.join();
}
