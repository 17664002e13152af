//! `vtmem-work`: the workload programs that run inside the guest.
//!
//! `vtmem-work run --workloads reread,scan,swap,source,sequential --seed 1 --mem BYTES --data /data`
//! `vtmem-work torture --seconds 60 --threads 8 --seed 1 --mem BYTES --dir /data/torture`
//! `vtmem-work pressure --seconds 60 --mem BYTES --swap DEVICE`: short of memory in every way; `pressure-one` is one round of one way
//! `vtmem-work swap-in --mem BYTES --rounds 3`: memory goes out to swap and is asked for again in bulk
//! `vtmem-work mark --number 1`: has the VMM note its counters
//! `vtmem-work write --count 100 --seed 1 --dir /data/files`, then `vtmem-work check` with the same options

mod args;
mod context;
mod dax;
mod files;
mod idle_splice;
mod kernel_log;
mod mapping;
mod misaligned;
mod pressure;
mod reread;
mod scan;
mod sequential;
mod source_search;
mod swap;
mod swap_in;
mod torture;

use args::Args;
use context::{Context, Ledger};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use vtmem_workloads::mark::Marker;
use vtmem_workloads::pressure_lines::Kind;
use vtmem_workloads::workload::{FAILURE_PREFIX, Finished, START_PREFIX, Workload};

/// A guest of `vtmem compare` has this much memory when nothing else is asked for.
const DEFAULT_MEM: u64 = 96 << 20;

const USAGE: &str = "usage: vtmem-work run [--workloads reread,scan,swap,source,sequential] [--seed N] [--mem BYTES] [--data DIR]
       vtmem-work torture [--seconds N] [--threads N] [--seed N] [--mem BYTES] [--dir DIR] [--volume DIR] [--script FILE] [--faults true]
       vtmem-work pressure [--seconds N] [--rounds N] [--seed N] [--mem BYTES] [--dir DIR] [--swap DEVICE] [--kinds bulk,cold,...]
       vtmem-work swap-in [--rounds N] [--seed N] [--mem BYTES]
       vtmem-work idle-splice [--file FILE]
       vtmem-work misaligned [--dir DIR]
       vtmem-work dax [--dir DIR] [--seed N]
       vtmem-work mark [--number N]
       vtmem-work write|check [--count N] [--seed N] [--dir DIR]";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let result = match command.as_deref() {
        Some("run") => Args::parse(arguments).and_then(run),
        Some("torture") => Args::parse(arguments).and_then(torture),
        Some("pressure") => Args::parse(arguments).and_then(pressure),
        Some("pressure-one") => Args::parse(arguments).and_then(pressure_one),
        Some("swap-in") => Args::parse(arguments).and_then(swap_in),
        Some("idle-splice") => Args::parse(arguments).and_then(idle_splice),
        Some("misaligned") => Args::parse(arguments).and_then(misaligned),
        Some("dax") => Args::parse(arguments).and_then(dax),
        Some("mark") => Args::parse(arguments).and_then(mark),
        Some(name @ ("write" | "check")) => {
            Args::parse(arguments).and_then(|args| on_files(name, args))
        }
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("vtmem-work: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: Args) -> Result<ExitCode, String> {
    let names = args.take("workloads", Workload::ALL.map(Workload::name).join(","))?;
    let context = Context {
        seed: args.take("seed", 1)?,
        guest_mem: args.take("mem", DEFAULT_MEM)?,
        data: args.take("data", PathBuf::from("/data"))?,
        ledger: Ledger::default(),
    };
    args.finish()?;
    let workloads = names
        .split(',')
        .map(|name| Workload::from_name(name).ok_or_else(|| format!("{name}: unknown workload")))
        .collect::<Result<Vec<_>, _>>()?;

    let mut all_right = true;
    for workload in workloads {
        println!("{START_PREFIX}{workload}");
        let outcome = match workload {
            Workload::Reread => reread::run(&context),
            Workload::Scan => scan::run(&context),
            Workload::Swap => swap::run(&context),
            Workload::Source => source_search::run(&context),
            Workload::Sequential => sequential::run(&context),
        };
        for (mark, counters) in context.ledger.take_driver() {
            println!("{}", counters.line(mark));
        }
        all_right &= report(workload.name(), outcome);
    }
    Ok(status(all_right))
}

fn torture(mut args: Args) -> Result<ExitCode, String> {
    let options = torture::Options {
        duration: Duration::from_secs(args.take("seconds", 60)?),
        threads: args.take("threads", 6)?,
        seed: args.take("seed", 1)?,
        guest_mem: args.take("mem", DEFAULT_MEM)?,
        directory: args.take("dir", PathBuf::from("/data/torture"))?,
        volume: args.take_path("volume"),
        script: args.take_path("script"),
        faults: args.take("faults", false)?,
    };
    args.finish()?;
    let all_right = report("torture", torture::run(&options).map(Finished::from));
    Ok(status(all_right))
}

fn pressure(mut args: Args) -> Result<ExitCode, String> {
    let kinds = args.take("kinds", Kind::ALL.map(Kind::name).join(","))?;
    let options = pressure::Options {
        duration: Duration::from_secs(args.take("seconds", 0)?),
        rounds: args.take("rounds", 1)?,
        seed: args.take("seed", 1)?,
        mem: args.take("mem", DEFAULT_MEM)?,
        directory: args.take("dir", PathBuf::from("/data/pressure"))?,
        swap: args.take("swap", PathBuf::from("/dev/vtmemswap0"))?,
        kinds: kinds.split(',').map(kind).collect::<Result<_, _>>()?,
    };
    args.finish()?;
    let all_right = report("pressure", pressure::run(&options).map(Finished::from));
    Ok(status(all_right))
}

/// One round in this process, which says how many bytes it compared and how many were wrong.
fn pressure_one(mut args: Args) -> Result<ExitCode, String> {
    let kind = kind(&args.take("kind", String::new())?)?;
    let task = pressure::Task {
        seed: args.take("seed", 1)?,
        mem: args.take("mem", DEFAULT_MEM)?,
        directory: args.take("dir", PathBuf::from("/data/pressure"))?,
        swap: args.take("swap", PathBuf::from("/dev/vtmemswap0"))?,
    };
    args.finish()?;
    let outcome = pressure::run_one(kind, &task).map_err(|e| format!("{}: {e}", kind.name()))?;
    println!("{} {}", outcome.bytes_verified, outcome.bytes_corrupt);
    Ok(ExitCode::SUCCESS)
}

fn kind(name: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::from_name(name)
        .ok_or_else(|| format!("{name}: no kind of pressure; there are {}", names()))
}

fn swap_in(mut args: Args) -> Result<ExitCode, String> {
    let options = swap_in::Options {
        seed: args.take("seed", 1)?,
        bytes: args.take("mem", DEFAULT_MEM)?,
        rounds: args.take("rounds", 3)?,
    };
    args.finish()?;
    let all_right = report("swap-in", swap_in::run(&options).map(Finished::from));
    Ok(status(all_right))
}

fn idle_splice(mut args: Args) -> Result<ExitCode, String> {
    let file = args.take("file", PathBuf::from("/data/spliced"))?;
    args.finish()?;
    idle_splice::run(&file).map_err(|e| e.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn misaligned(mut args: Args) -> Result<ExitCode, String> {
    let directory = args.take("dir", PathBuf::from("/data/files"))?;
    args.finish()?;
    let files = misaligned::run(&directory).map_err(|e| e.to_string())?;
    println!("misaligned writes to {files} files failed");
    Ok(ExitCode::SUCCESS)
}

fn dax(mut args: Args) -> Result<ExitCode, String> {
    let directory = args.take("dir", PathBuf::from("/mnt"))?;
    let seed = args.take("seed", 1)?;
    args.finish()?;
    let wrong = dax::run(&directory, seed).map_err(|e| e.to_string())?;
    println!("wrong={wrong}");
    Ok(status(wrong == 0))
}

fn mark(mut args: Args) -> Result<ExitCode, String> {
    let number = args.take("number", 0)?;
    args.finish()?;
    Marker::new().mark(number);
    Ok(ExitCode::SUCCESS)
}

fn on_files(name: &str, mut args: Args) -> Result<ExitCode, String> {
    let options = files::Options {
        directory: args.take("dir", PathBuf::from("/data/files"))?,
        count: args.take("count", 100)?,
        seed: args.take("seed", 1)?,
    };
    args.finish()?;
    let outcome = if name == "write" {
        options.write()
    } else {
        options.check()
    };
    Ok(status(report(name, outcome.map(Finished::from))))
}

/// What the program ends with.
fn status(all_right: bool) -> ExitCode {
    if all_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints the lines that say how a workload went; returns whether it went well.
fn report(name: &str, finished: io::Result<Finished>) -> bool {
    match finished {
        Ok(finished) => {
            for (number, pass) in finished.passes.iter().enumerate() {
                println!("{}", pass.pass_line(name, number));
            }
            println!("{}", finished.total.line(name));
            finished.total.bytes_corrupt == 0
        }
        Err(error) => {
            println!("{FAILURE_PREFIX}{name}: {error}");
            false
        }
    }
}
