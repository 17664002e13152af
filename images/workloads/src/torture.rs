//! `torture`: threads that read, write, truncate, punch holes into, map, replace, swap to, remount and otherwise mistreat the
//! same files in every way the kernel knows, while another takes memory away. Every read is compared with a model of what
//! the files hold. What goes wrong is done again with fewer and fewer operations.

mod contents;
mod direct_writes;
mod early;
mod failing_disk;
mod faults;
mod file;
mod held_disk;
mod hibernate;
mod identity;
pub mod kernel;
mod operation;
mod probes;
mod quota;
mod reload;
mod ring;
mod script;
mod volume;

use crate::context::{about, drop_caches};
use crate::kernel_log::KernelLog;
use crate::mapping::Mapping;
use faults::Faults;
use file::{NOTHING_READ, Tools, TortureFile, Verdict};
use operation::{Kind, Operation, STRIPE};
use script::Trace;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use volume::Volume;
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes, fill_page};
use vtmem_workloads::random::Random;
use vtmem_workloads::torture_lines::{PROGRESS_PREFIX, SCRIPT_PREFIX};
use vtmem_workloads::workload::Outcome;

/// Number of files that threads work on.
const FILES: u32 = 4;
/// Their length at most, in pages: so few that operations meet.
const PAGES: u32 = 128;
/// The pressure's number among the files whose content is generated.
const PRESSURE_FILE: u32 = u32::MAX - 1;
/// Operations between two times that memory is taken.
const PRESSURE: u64 = 300;
/// No file.
const NONE: u32 = u32::MAX;
/// Between two looks at the kernel's log.
const LOG: Duration = Duration::from_millis(200);
/// How often the run says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// A script that fails is replayed for at most this long to find a shorter one.
const SHRINKING: Duration = Duration::from_secs(60);

/// Parameters of a run.
#[derive(Debug)]
pub struct Options {
    /// How long to go on.
    pub duration: Duration,
    /// Threads that work on files, besides one that takes memory.
    pub threads: u32,
    /// What contents and each thread's operations depend on; how the threads interleave does not.
    pub seed: u64,
    /// The guest's memory in bytes. A quarter of it is taken now and then, and as much read of a file: more than there is.
    pub guest_mem: u64,
    /// Where the files go; made when missing.
    pub directory: PathBuf,
    /// The mount point of the file system that they are on, if all of it may be remounted, frozen, swapped to and written
    /// below.
    pub volume: Option<PathBuf>,
    /// Instead of random operations those that this file lists, one a line, one after the other.
    pub script: Option<PathBuf>,
    /// Have the kernel inject faults into what the driver does.
    pub faults: bool,
}

/// What the threads share.
struct Shared {
    /// The last one may be ballast, which is only read.
    files: Vec<TortureFile>,
    volume: Option<Volume>,
    /// The kernel injects faults.
    faults: bool,
    /// Held by who takes much memory, and by who needs that there is enough without swap.
    memory: Mutex<()>,
    stop: AtomicBool,
    operations: AtomicU64,
    verified: AtomicU64,
    corrupt: AtomicU64,
    /// The file in which the first wrong byte was.
    wrong: AtomicU32,
}

impl Shared {
    /// Makes new files in `directory`, and one of `ballast` pages.
    fn new(options: &Options, directory: &Path, ballast: Option<u32>) -> io::Result<Self> {
        fs::create_dir_all(directory).map_err(about(directory.display()))?;
        let lengths = (0..FILES).map(|_| PAGES).chain(ballast);
        let files = (0..)
            .zip(lengths)
            .map(|(number, pages)| TortureFile::create(directory, number, pages, options.seed));
        Ok(Self {
            files: files
                .collect::<io::Result<_>>()
                .map_err(about(directory.display()))?,
            volume: options.volume.as_deref().map(Volume::at).transpose()?,
            faults: options.faults,
            memory: Mutex::default(),
            stop: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
            wrong: AtomicU32::new(NONE),
        })
    }

    fn going_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, (verified, corrupt): Verdict) {
        self.verified.fetch_add(verified, Ordering::Relaxed);
        self.corrupt.fetch_add(corrupt, Ordering::Relaxed);
    }

    /// Does one operation. Whatever a file system cannot do at all is left out.
    fn execute(&self, operation: Operation, tools: &mut Tools) -> io::Result<Verdict> {
        let Some(file) = self.files.get(operation.file as usize) else {
            return Ok(NOTHING_READ);
        };
        if self.volume.is_none() && operation.needs_volume() {
            return Ok(NOTHING_READ);
        }
        let volume = self.volume.as_ref();
        let share = volume.is_some_and(Volume::shares_blocks);
        let journals_data = volume.is_some_and(Volume::is_ext4);
        let done = match operation.kind {
            Kind::Read(access, range) => file.read(access, range, tools),
            Kind::Write(access, range, durable) => file.write(access, range, durable, tools),
            Kind::Punch(range) => file.clear(range, libc::FALLOC_FL_PUNCH_HOLE),
            Kind::Zero(range) => file.clear(range, libc::FALLOC_FL_ZERO_RANGE),
            Kind::Resize(length) => file.resize(length),
            Kind::Collapse(range) => file.collapse(range),
            Kind::Insert(range) => file.insert(range),
            Kind::Reclaim(range, durable) => file.reclaim(range, durable),
            Kind::Forget => kernel::forget(&file.shape().buffered).map(|()| NOTHING_READ),
            Kind::Replace => file.replace(),
            Kind::RenameOver => file.rename_over(),
            Kind::Link => file.link(),
            Kind::Unlink => file.unlink(),
            Kind::Uncache => file.uncache(),
            Kind::Exchange(range, other) => match self.files.get(other as usize) {
                Some(other) if other.number != file.number => {
                    file.exchange(other, range, share, tools)
                }
                _ => Ok(NOTHING_READ),
            },
            Kind::Share(range, other) => match self.files.get(other as usize) {
                Some(other) if other.number != file.number && share => file.share(other, range),
                _ => Ok(NOTHING_READ),
            },
            Kind::Journal if journals_data => file.journal(),
            Kind::Journal => Ok(NOTHING_READ),
            Kind::SwapTo => file.swap_to(journals_data, tools),
            // Faults are aimed at where the driver is now.
            Kind::Reload if self.faults => Ok(NOTHING_READ),
            Kind::Reload => {
                let _memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                file.reload()
            }
            Kind::Freeze => freeze(file),
            Kind::DropCaches => {
                drop_caches();
                Ok(NOTHING_READ)
            }
            Kind::Compact => compact(),
            Kind::IdleSplice => {
                // Nobody unmounts meanwhile.
                let _mounted = file.shape();
                volume.map_or(Ok(NOTHING_READ), Volume::idle_splice)
            }
            Kind::Hibernate if self.faults => Ok(NOTHING_READ),
            Kind::Hibernate => {
                let _memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                hibernate::run()
            }
            Kind::Remount | Kind::WriteBelow(_) | Kind::ZeroBelow(_) | Kind::WriteUnmounted(_) => {
                match volume {
                    Some(volume) => volume.execute(operation, &self.files, tools),
                    None => Ok(NOTHING_READ),
                }
            }
        };
        let verdict = done.map_err(about(operation))?;
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.note(verdict);
        if verdict.1 > 0 {
            let _ = self.wrong.compare_exchange(
                NONE,
                operation.file,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        Ok(verdict)
    }

    /// Reads everything once more.
    fn read_all(&self, tools: &mut Tools) -> io::Result<()> {
        for file in &self.files {
            let verdict = file.read_all(tools)?;
            self.note(verdict);
            if verdict.1 > 0 {
                let _ = self.wrong.compare_exchange(
                    NONE,
                    file.number,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
        }
        Ok(())
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        self.files.iter().try_for_each(TortureFile::remove)?;
        // Not when others left something there.
        let _ = fs::remove_dir(directory);
        Ok(())
    }
}

/// Runs the workload.
///
/// # Errors
/// Any system call that fails on a file.
pub fn run(options: &Options) -> io::Result<Outcome> {
    let start = Instant::now();
    let mut log = KernelLog::open().map_err(about("the kernel's log"))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                log.follow()?;
                thread::sleep(LOG);
            }
            log.follow()
        });
        let outcome = run_watched(options, start);
        over.store(true, Ordering::Relaxed);
        let read = reader.join().unwrap_or_else(|_| Err(panicked()));
        outcome.and_then(|outcome| read.map(|()| outcome))
    })
}

fn panicked() -> io::Error {
    io::Error::other("a thread panicked")
}

fn run_watched(options: &Options, start: Instant) -> io::Result<Outcome> {
    let mut outcome = if options.volume.is_some() && options.script.is_none() {
        probe(options, start)?
    } else {
        Outcome::default()
    };
    if outcome.bytes_corrupt == 0 {
        let (more, wrong, traces) = run_on_files(options, start)?;
        outcome.operations += more.operations;
        outcome.bytes_verified += more.bytes_verified;
        outcome.bytes_corrupt += more.bytes_corrupt;
        if let (Some(file), None) = (wrong, &options.script) {
            print_script(options, &script::of_file(&traces, file));
        }
    }
    outcome.nanoseconds = start.elapsed().as_nanos() as u64;
    Ok(outcome)
}

/// Does what would show at once that something is missing, and stops at the first that does. No file is open before or after:
/// they remount.
fn probe(options: &Options, start: Instant) -> io::Result<Outcome> {
    let directory = options.directory.with_extension("probe");
    let volume = options.volume.as_deref().map(Volume::at).transpose()?;
    let mut verdicts = vec![];
    if let Some(volume) = &volume {
        verdicts.push(direct_writes::run(volume, options.seed)?);
        if volume.is_ext4() {
            verdicts
                .push(early::run(volume, options.seed).map_err(about("blocks exchanged early"))?);
            verdicts.push(quota::run(volume).map_err(about("quotas"))?);
        }
    }
    options.volume.as_deref().map_or(Ok(()), volume::kept)?;
    verdicts.push(failing_disk::run(options.seed)?);
    let bytes_verified = verdicts.iter().map(|verdict| verdict.0).sum();
    let mut bytes_corrupt = verdicts.iter().map(|verdict| verdict.1).sum();
    let mut operations = 0;
    for (about, script) in probes::all() {
        operations += script.len() as u64;
        if bytes_corrupt == 0 && replay(options, &directory, &script)? {
            bytes_corrupt += 1;
            print_lines(about, &script);
        }
    }
    let outcome = Outcome {
        nanoseconds: 0,
        operations,
        bytes_verified,
        bytes_corrupt,
    };
    print_progress(start, outcome);
    Ok(outcome)
}

/// The run proper. Also returns the file in which the first wrong byte was, and what all threads did.
fn run_on_files(
    options: &Options,
    start: Instant,
) -> io::Result<(Outcome, Option<u32>, Vec<Trace>)> {
    let ballast = options.guest_mem / 4 / PAGE_SIZE as u64;
    let ballast = (ballast.min(1 << 20) as u32).next_multiple_of(STRIPE);
    let shared = Shared::new(options, &options.directory, Some(ballast))?;
    let mut tools = Tools::new()?;
    let mut traces = Vec::new();
    if let Some(script) = &options.script {
        let text = fs::read_to_string(script).map_err(about(script.display()))?;
        let operations: Result<Vec<Operation>, _> = lines(&text).map(str::parse).collect();
        for operation in operations.map_err(io::Error::other)? {
            shared.execute(operation, &mut tools)?;
        }
    } else {
        let faults = options.faults.then(Faults::begin).transpose();
        let mut faults = faults.map_err(about("fault injection"))?;
        traces = shared.work_until_the_end(options, start, faults.as_mut())?;
        if let Some(faults) = faults {
            faults.end()?;
        }
        drop_caches();
    }
    shared.read_all(&mut tools)?;
    shared.remove(&options.directory)?;
    let wrong = shared.wrong.load(Ordering::Relaxed);
    let wrong = Some(wrong).filter(|file| *file != NONE);
    Ok((shared.so_far(), wrong, traces))
}

/// The operations of a script: what comes before them on a line, on a console say, and other lines are left out.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_matches('\0')
        .lines()
        .map(|line| line.rsplit(SCRIPT_PREFIX).next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Shared {
    /// Has the threads work until time is over or something is wrong, and returns what they did.
    fn work_until_the_end(
        &self,
        options: &Options,
        start: Instant,
        mut faults: Option<&mut Faults>,
    ) -> io::Result<Vec<Trace>> {
        let traces = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in 0..options.threads {
                let random = Random::new(options.seed, u64::from(number));
                let traces = &traces;
                threads.push(scope.spawn(move || {
                    self.until_stopped(|| {
                        let mut trace = Trace::default();
                        let done = self.work(random, &mut trace);
                        traces.lock().unwrap_or_else(|e| e.into_inner()).push(trace);
                        done
                    })
                }));
            }
            threads.push(scope.spawn(|| self.until_stopped(|| self.press(options))));
            let mut next = PROGRESS;
            let mut faulted = Ok(());
            while self.going_on() && start.elapsed() < options.duration {
                thread::sleep(Duration::from_millis(20));
                if start.elapsed() >= next {
                    next += PROGRESS;
                    print_progress(start, self.so_far());
                    if let Some(faults) = &mut faults {
                        faulted = faulted.and(faults.next());
                    }
                }
            }
            self.stop.store(true, Ordering::Relaxed);
            print_progress(start, self.so_far());
            faulted?;
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
        })?;
        Ok(traces.into_inner().unwrap_or_else(|e| e.into_inner()))
    }

    /// An error ends the whole run, not only the thread.
    fn until_stopped(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let result = work();
        self.stop.store(true, Ordering::Relaxed);
        result
    }

    fn work(&self, mut random: Random, trace: &mut Trace) -> io::Result<()> {
        let mut tools = Tools::new()?;
        while self.going_on() && self.corrupt.load(Ordering::Relaxed) == 0 {
            let operation = Operation::random(&mut random, FILES, PAGES);
            trace.note(self.operations.load(Ordering::Relaxed), operation);
            self.execute(operation, &mut tools)?;
        }
        Ok(())
    }

    /// Takes a quarter of the guest's memory, checks that it keeps what was put there, and gives it back; then reads the
    /// ballast.
    fn press(&self, options: &Options) -> io::Result<()> {
        let pages = options.guest_mem as usize / 4 / PAGE_SIZE;
        let mut round = options.seed;
        let mut tools = Tools::new()?;
        while self.going_on() {
            round = round.wrapping_add(1);
            let turn = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
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
            self.note(((pages * PAGE_SIZE) as u64, corrupt));
            drop(memory);
            drop(turn);
            if let Some(ballast) = self.files.get(FILES as usize) {
                self.note(ballast.read_all(&mut tools)?);
            }
            // Paced by the others' operations: on a slow machine too, those are what most time goes into.
            let next = self.operations.load(Ordering::Relaxed) + PRESSURE;
            while self.going_on() && self.operations.load(Ordering::Relaxed) < next {
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    fn so_far(&self) -> Outcome {
        Outcome {
            nanoseconds: 0,
            operations: self.operations.load(Ordering::Relaxed),
            bytes_verified: self.verified.load(Ordering::Relaxed),
            bytes_corrupt: self.corrupt.load(Ordering::Relaxed),
        }
    }
}

fn print_progress(start: Instant, so_far: Outcome) {
    println!(
        "{PROGRESS_PREFIX}{} {} {} {}",
        start.elapsed().as_secs(),
        so_far.operations,
        so_far.bytes_verified,
        so_far.bytes_corrupt
    );
}

/// Looks for a short script that goes wrong again, and prints it, or what was done to the file at last.
fn print_script(options: &Options, all: &[Operation]) {
    let start = Instant::now();
    let directory = options.directory.with_extension("replay");
    let mut failure = None;
    let shrunk = script::shrink(all, |operations| {
        if start.elapsed() > SHRINKING {
            return None;
        }
        match replay(options, &directory, operations) {
            Ok(corrupt) => Some(corrupt),
            Err(error) => {
                failure = Some(error);
                None
            }
        }
    });
    if let Some(error) = failure {
        eprintln!("torture: replaying ended with {error}");
    }
    match shrunk {
        Some(operations) => print_lines("goes wrong by itself", &operations),
        None => print_lines(
            "did not go wrong again by itself; the last operations on the file:",
            &all[all.len().saturating_sub(64)..],
        ),
    }
}

fn print_lines(note: &str, operations: &[Operation]) {
    println!("{SCRIPT_PREFIX}# {note}");
    for operation in operations {
        println!("{SCRIPT_PREFIX}{operation}");
    }
}

/// Whether these operations alone, on new files, make a byte wrong.
fn replay(options: &Options, directory: &Path, operations: &[Operation]) -> io::Result<bool> {
    let shared = Shared::new(options, directory, None)?;
    let mut tools = Tools::new()?;
    let mut corrupt = false;
    for operation in operations {
        corrupt |= shared.execute(*operation, &mut tools)?.1 > 0;
        if corrupt {
            break;
        }
    }
    if !corrupt {
        drop_caches();
        shared.read_all(&mut tools)?;
        corrupt = shared.corrupt.load(Ordering::Relaxed) > 0;
    }
    shared.remove(directory)?;
    Ok(corrupt)
}

/// Freezes the file's file system for a moment; who writes to other files waits.
fn freeze(file: &TortureFile) -> io::Result<Verdict> {
    let shape = file.whole();
    match kernel::freeze(&shape.buffered, true) {
        // Another thread has.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(NOTHING_READ),
        done => done?,
    }
    thread::sleep(Duration::from_millis(5));
    kernel::freeze(&shape.buffered, false)?;
    Ok(NOTHING_READ)
}

fn compact() -> io::Result<Verdict> {
    // Not in every kernel.
    if let Ok(file) = File::options()
        .write(true)
        .open("/proc/sys/vm/compact_memory")
    {
        io::Write::write_all(&mut &file, b"1")?;
    }
    Ok(NOTHING_READ)
}
