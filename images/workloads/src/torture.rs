//! `torture`: threads that read, write, truncate, punch holes into, map and replace the same files in every way the
//! kernel knows, while others drop caches and take memory away. Every read is compared with a model of what the files hold.

mod file;

use crate::context::{about, drop_caches};
use crate::mapping::Mapping;
use file::{Access, TortureFile};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes, fill_page};
use vtmem_workloads::random::Random;
use vtmem_workloads::workload::Outcome;

/// Number of files.
const FILES: u32 = 16;
/// The pressure's number among the files whose content is generated.
const PRESSURE_FILE: u32 = u32::MAX - 1;

/// Parameters of a run.
#[derive(Debug)]
pub struct Options {
    /// How long to go on.
    pub duration: Duration,
    /// Threads that work on files, besides one that drops caches and one that takes memory.
    pub threads: u32,
    /// What contents and each thread's choices depend on; how the threads interleave does not.
    pub seed: u64,
    /// The guest's memory in bytes: the files' size together, so that they never all stay cached.
    pub guest_mem: u64,
    /// Where the files go; made when missing.
    pub directory: PathBuf,
}

/// What the threads share.
struct Shared {
    files: Vec<TortureFile>,
    stop: AtomicBool,
    operations: AtomicU64,
    verified: AtomicU64,
    corrupt: AtomicU64,
}

impl Shared {
    fn going_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, verified: u64, corrupt: u64) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.verified.fetch_add(verified, Ordering::Relaxed);
        self.corrupt.fetch_add(corrupt, Ordering::Relaxed);
    }
}

/// Runs the workload.
///
/// # Errors
/// Any system call that fails on a file.
pub fn run(options: &Options) -> io::Result<Outcome> {
    let directory = &options.directory;
    std::fs::create_dir_all(directory).map_err(about(directory.display()))?;
    let pages =
        (options.guest_mem / PAGE_SIZE as u64 / u64::from(FILES)).clamp(128, 1 << 20) as u32;
    let files = (0..FILES)
        .map(|number| TortureFile::create(directory, number, pages, options.seed))
        .collect::<io::Result<_>>()?;
    let shared = Shared {
        files,
        stop: AtomicBool::new(false),
        operations: AtomicU64::new(0),
        verified: AtomicU64::new(0),
        corrupt: AtomicU64::new(0),
    };

    let start = Instant::now();
    thread::scope(|scope| {
        let shared = &shared;
        let stream = |number: u32| Random::new(options.seed, u64::from(number));
        let mut threads: Vec<_> = (0..options.threads)
            .map(|number| {
                scope.spawn(move || until_stopped(shared, || work(shared, stream(number))))
            })
            .collect();
        threads.push(
            scope.spawn(move || until_stopped(shared, || drop_things(shared, stream(u32::MAX)))),
        );
        threads.push(scope.spawn(move || until_stopped(shared, || press(shared, options))));
        while shared.going_on() && start.elapsed() < options.duration {
            thread::sleep(Duration::from_millis(20));
        }
        shared.stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })?;

    drop_caches();
    let mut buffer = file::buffer()?;
    for file in &shared.files {
        let (verified, corrupt) = file.read_all(&mut buffer)?;
        shared.note(verified, corrupt);
    }
    let nanoseconds = start.elapsed().as_nanos() as u64;
    for file in &shared.files {
        file.remove()?;
    }
    // Not when others left something there.
    let _ = std::fs::remove_dir(directory);
    Ok(Outcome {
        nanoseconds,
        operations: shared.operations.into_inner(),
        bytes_verified: shared.verified.into_inner(),
        bytes_corrupt: shared.corrupt.into_inner(),
    })
}

/// An error ends the whole run, not only the thread.
fn until_stopped(shared: &Shared, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let result = work();
    shared.stop.store(true, Ordering::Relaxed);
    result
}

fn work(shared: &Shared, mut random: Random) -> io::Result<()> {
    let mut buffer = file::buffer()?;
    while shared.going_on() {
        let file = &shared.files[random.below(shared.files.len() as u64) as usize];
        let access = match random.below(10) {
            0..5 => Access::Buffered,
            5..8 => Access::Mapped,
            _ => Access::Direct,
        };
        let (verified, corrupt) = match random.below(1000) {
            0..600 => file.read(access, &mut random, &mut buffer)?,
            600..900 => file.write(access, &mut random, &mut buffer)?,
            900..960 => file.clear(&mut random)?,
            960..985 => file.resize(&mut random)?,
            985..995 => file.collapse(&mut random)?,
            _ => file.replace()?,
        };
        shared.note(verified, corrupt);
    }
    Ok(())
}

/// Empties caches, of one file mostly, sometimes of all. Paced by the others' operations, not by time: on a slow machine
/// too, reclaim and not this is what most pages leave the cache by.
fn drop_things(shared: &Shared, mut random: Random) -> io::Result<()> {
    let mut next = 0;
    while shared.going_on() {
        if shared.operations.load(Ordering::Relaxed) < next {
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        match random.below(16) {
            0 => drop_caches(),
            _ => shared.files[random.below(shared.files.len() as u64) as usize].forget()?,
        }
        next = shared.operations.load(Ordering::Relaxed) + 100 + random.below(400);
    }
    Ok(())
}

/// Takes a quarter of the guest's memory, checks that it keeps what was put there, and gives it back.
fn press(shared: &Shared, options: &Options) -> io::Result<()> {
    let pages = options.guest_mem as usize / 4 / PAGE_SIZE;
    let mut round = options.seed;
    while shared.going_on() {
        round = round.wrapping_add(1);
        let mut memory = Mapping::anonymous(pages)?;
        for index in 0..pages {
            fill_page(round, PRESSURE_FILE, index as u32, memory.page(index));
        }
        let corrupt = (0..pages)
            .map(|index| corrupt_bytes(round, PRESSURE_FILE, index as u32, memory.page(index)))
            .sum();
        if corrupt > 0 {
            eprintln!("torture: {corrupt} bytes of anonymous memory are wrong");
        }
        shared.note((pages * PAGE_SIZE) as u64, corrupt);
    }
    Ok(())
}
