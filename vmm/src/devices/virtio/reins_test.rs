use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::thread;
use std::thread::JoinHandle;

use super::*;

/// A worker that counts its rounds.
fn worker(reins: &Arc<Reins>, rounds: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (reins, rounds) = (reins.clone(), rounds.clone());
    thread::spawn(move || {
        loop {
            match reins.order() {
                Order::Run => {
                    rounds.fetch_add(1, Memory::SeqCst);
                    thread::yield_now();
                }
                Order::Hold => reins.hold_here(),
                Order::End => return,
            }
        }
    })
}

#[test]
fn a_worker_that_holds_does_nothing_until_it_is_released() {
    let reins = Arc::new(Reins::new().expect("an eventfd"));
    let rounds = Arc::new(AtomicU64::new(0));
    let thread = worker(&reins, &rounds);
    for _ in 0..100 {
        reins.hold(|| thread.is_finished());
        let held = rounds.load(Memory::SeqCst);
        thread::yield_now();
        reins.hold(|| thread.is_finished());
        assert_eq!(rounds.load(Memory::SeqCst), held);
        reins.release();
        while rounds.load(Memory::SeqCst) == held {
            thread::yield_now();
        }
    }
    reins.hold(|| thread.is_finished());
    reins.end();
    thread.join().expect("it ends, held or not");
}

#[test]
fn nothing_comes_after_the_end_and_nobody_waits_for_who_has_ended() {
    let reins = Arc::new(Reins::new().expect("an eventfd"));
    reins.end();
    reins.release();
    assert_eq!(reins.order(), Order::End);
    let thread = worker(&reins, &Arc::default());
    reins.hold(|| thread.is_finished());
    thread.join().expect("no panic");
}

#[test]
fn a_nudge_wakes_the_worker_and_changes_no_order() {
    let reins = Reins::new().expect("an eventfd");
    let readable = || reins.event.read().is_ok();
    assert!(!readable());
    reins.nudge();
    assert_eq!(reins.order(), Order::Run);
    assert!(readable());
    reins.nudge();
    reins.seen();
    assert!(!readable(), "the worker would wake again and again");
}
