//! The command line: one subcommand a file.

pub mod compare;
pub mod controlled;
pub mod ctl;
pub mod demo;
pub mod doctor;
pub mod images;
pub mod lab;
pub mod manual;
pub mod parse;
pub mod pressure;
pub mod run;
pub mod tmem;
pub mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// What went wrong, as one line that says what to do next. Ends the process with status 2.
pub type CliError = Box<dyn std::error::Error + Send + Sync>;

/// Exit status of a wrong command line or of a host that lacks something.
pub const STATUS_USER_ERROR: u8 = 2;

/// Transcendent memory for KVM guests: their page cache and swap overflow into host memory that the
/// host can take back.
#[derive(Parser, Debug)]
#[command(
    name = "vtmem",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    /// Say more on standard error; twice for debugging. `VTMEM_LOG` takes finer filters.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Launch a guest.
    Run(Box<run::RunArgs>),
    /// Compare cache=none, writethrough, writeback and tmem: table, JSON, HTML.
    Compare(Box<compare::CompareArgs>),
    /// Build the images, then compare with defaults.
    Demo(demo::DemoArgs),
    /// Run a command where /dev/kvm works: on an emulated host with hardware virtualization.
    Lab(lab::LabArgs),
    /// Mistreat a guest's page cache and swap over tmem, and check every byte.
    Torture(torture::TortureArgs),
    /// Run a guest short of memory with tmem and without, and see that it fares no worse.
    Pressure(pressure::PressureArgs),
    /// Build, list or remove the guest's and the lab's images.
    Images(images::ImagesArgs),
    /// Watch and steer a guest by its control socket.
    Ctl(ctl::CtlArgs),
    /// Tell what this host can do, and what to do about the rest.
    Doctor,
    /// Print a shell's completions.
    Completions(manual::CompletionsArgs),
    /// Write the man pages.
    Man(manual::ManArgs),
}

/// Runs `vtmem` with this process's arguments; returns its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = ["warn", "info", "debug", "trace"][usize::from(cli.verbose.min(3))];
    let filter = EnvFilter::try_from_env("VTMEM_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let done = match cli.command {
        Command::Run(args) => run::execute(*args),
        Command::Compare(args) => compare::execute(*args),
        Command::Demo(args) => demo::execute(args),
        Command::Lab(args) => lab::execute(args),
        Command::Torture(args) => torture::execute(args),
        Command::Pressure(args) => pressure::execute(args),
        Command::Images(args) => images::execute(args),
        Command::Ctl(args) => ctl::execute(args),
        Command::Doctor => Ok(doctor::execute()),
        Command::Completions(args) => Ok(manual::completions(&args)),
        Command::Man(args) => manual::man(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(STATUS_USER_ERROR)
    })
}
