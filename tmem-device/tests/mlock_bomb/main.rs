//! The time bomb of 2011: a pool holds most of the memory, and another process locks most of it, as fast as it can.
//!
//! Runs in a memory cgroup of its own, with processes of its own, so it needs root and cgroups; where it cannot have them it
//! says so and passes, or fails with `VTMEM_REQUIRE_ALL=1`. `VTMEM_BOMB_MIB` is the memory, 512 MiB unless told.

mod bomb;
mod cgroup;
mod holder;
mod process;

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cgroup::Cgroup;
use process::{Process, Role};

/// Paired runs: with a full pool, and with an empty one.
const RUNS: usize = 20;

/// Runs with swapped pages.
const SPILL_RUNS: usize = 5;

/// Of the memory, in percent: what the pool may take, and what the other process locks.
const POOL: u64 = 70;
const LOCKED: u64 = 80;

/// What came of one run.
#[derive(Debug)]
struct Run {
    /// How long the bomb took, and its longest MiB. `None` if it was killed.
    bomb: Option<bomb::Report>,
    /// What was left of the pool. `None` if its process was killed.
    pool: Option<holder::Report>,
    oom_kills: u64,
}

fn memory() -> u64 {
    let mib = std::env::var("VTMEM_BOMB_MIB").ok();
    let mib = mib.map_or(512, |mib| {
        mib.parse().expect("VTMEM_BOMB_MIB is a number of MiB")
    });
    mib << 20
}

fn run(memory: u64, holder: holder::Plan) -> Run {
    let cgroup = Cgroup::new(memory).expect("cgroups could be made before");
    let mut pool = Process::start(Role::Holder, &cgroup, &holder.to_string());
    pool.expect("full");
    let mut bomb = Process::start(Role::Bomb, &cgroup, &(memory * LOCKED / 100).to_string());
    let bomb_report = bomb.last_line().and_then(|line| line.parse().ok());
    // The memory stays locked until the pool has been looked at.
    pool.say("look");
    let pool_report = pool.last_line().and_then(|line| line.parse().ok());
    bomb.say("end");
    let (bomb_ended, pool_ended) = (bomb.end(), pool.end());
    Run {
        bomb: bomb_report.filter(|_| bomb_ended),
        pool: pool_report.filter(|_| pool_ended),
        oom_kills: cgroup.oom_kills(),
    }
}

/// What a process of the test is, if this is one.
#[test]
fn role() {
    match process::own_role() {
        Some((Role::Holder, plan)) => holder::main(plan.parse().expect("a plan")),
        Some((Role::Bomb, bytes)) => bomb::main(bytes.parse().expect("a number")),
        None => {}
    }
}

/// Whether memory cgroups can be had; if not, and they need not be, says why a test does not run.
fn has_cgroups(test: &str) -> bool {
    let Err(reason) = Cgroup::new(64 << 20) else {
        return true;
    };
    assert!(
        std::env::var_os("VTMEM_REQUIRE_ALL").is_none(),
        "no memory cgroup: {reason}"
    );
    // Past the harness, which shows nothing of tests that pass.
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {reason}");
    false
}

/// Bombs go off one at a time.
static MACHINE: Mutex<()> = Mutex::new(());

#[test]
fn swapped_pages_survive_the_bomb() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    if !has_cgroups("swapped_pages_survive_the_bomb") {
        return;
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let memory = memory();
    let plan = holder::Plan {
        size: memory * POOL / 100,
        fill: true,
        reclaimable: true,
        spill: Some(directory.path().join("spill")),
    };
    for number in 0..SPILL_RUNS {
        let run = run(memory, plan.clone());
        println!("run {number}: {run:?}");
        assert_eq!(run.oom_kills, 0, "run {number}");
        let (Some(_), Some(pool)) = (run.bomb, run.pool) else {
            panic!("run {number}: a process was killed");
        };
        assert_eq!((pool.missing, pool.wrong), (0, 0), "run {number}: {pool:?}");
        assert!(pool.held > plan.size / 4096 / 2, "run {number}: {pool:?}");
    }
    // Where the kernel cannot take what the tier has, it ends as it was foretold. that the kernel could take.
    let bad = run(
        memory,
        holder::Plan {
            reclaimable: false,
            ..plan
        },
    );
    assert!(
        bad.oom_kills > 0 || bad.bomb.is_none() || bad.pool.is_none(),
        "a pool of ordinary memory survived, so this test shows nothing: {bad:?}"
    );
}

#[test]
fn mlock_bomb() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    if !has_cgroups("mlock_bomb") {
        return;
    }
    let memory = memory();
    let pool = memory * POOL / 100;
    let plan = |fill, reclaimable| holder::Plan {
        size: pool,
        fill,
        reclaimable,
        spill: None,
    };

    let mut ratios = Vec::new();
    let mut longest = Duration::ZERO;
    for number in 0..RUNS {
        let empty = run(memory, plan(false, true));
        let without = empty.bomb.expect("nothing is in its way").total;
        let full = run(memory, plan(true, true));
        assert_eq!(full.oom_kills, 0, "run {number}: {full:?}");
        let Run {
            bomb: Some(bomb),
            pool: Some(pool),
            ..
        } = full
        else {
            panic!("run {number}: a process was killed: {full:?}");
        };
        assert_eq!(pool.wrong, 0, "run {number}: {pool:?}");
        assert!(
            pool.held > 0 && pool.missing > pool.stored / 4,
            "run {number}: {pool:?}"
        );
        longest = longest.max(bomb.longest);
        let ratio = bomb.total.as_secs_f64() / without.as_secs_f64();
        println!("run {number}: {without:?} with an empty pool, {bomb:?}, {pool:?}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[RUNS / 2];
    println!("median of {RUNS} ratios {median:.2}, longest MiB {longest:?}");
    assert!(
        median <= 3.0,
        "the bomb takes {median} times as long: {ratios:?}"
    );
    assert!(
        longest <= Duration::from_millis(500),
        "{longest:?} for one MiB"
    );

    // Without the pool's way of giving memory back, this ends as it was foretold.
    let bad = run(memory, plan(true, false));
    assert!(
        bad.oom_kills > 0 || bad.bomb.is_none() || bad.pool.is_none(),
        "a pool of ordinary memory survived, so this test shows nothing: {bad:?}"
    );
}
