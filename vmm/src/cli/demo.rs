//! `vtmem demo`: the comparison with defaults, and its report.

use std::path::{self, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;

use super::CliError;
use super::compare::{self, CompareArgs};
use super::images::ImageSource;
use crate::accel::Accel;

/// Options of `vtmem demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Builds what is not in the cache yet (minutes, the first time), runs every workload of `vtmem compare`
under every mode, prints the table and writes the report. The same, step by step:
  vtmem images build
  vtmem compare --json vtmem-demo.json --html vtmem-demo.html

Exit status: as that of `vtmem compare`.")]
pub struct DemoArgs {
    /// Where to write all figures.
    #[arg(long, value_name = "FILE", default_value = "vtmem-demo.json")]
    json: PathBuf,
    /// Where to write the report with plots.
    #[arg(long, value_name = "FILE", default_value = "vtmem-demo.html")]
    html: PathBuf,
    /// Where the guests run: on this host's KVM, in labs, or wherever they can.
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
    #[command(flatten)]
    source: ImageSource,
}

/// What `vtmem compare` does without options.
#[derive(clap::Parser)]
struct Defaults {
    #[command(flatten)]
    compare: CompareArgs,
}

/// Runs `vtmem demo`.
///
/// # Errors
/// As for [`compare::execute`].
pub fn execute(args: DemoArgs) -> Result<ExitCode, CliError> {
    let status = compare::execute(CompareArgs {
        json: Some(args.json.clone()),
        html: Some(args.html.clone()),
        accel: args.accel,
        source: args.source,
        ..Defaults::parse_from(["compare"]).compare
    })?;
    let shown = |file: PathBuf| path::absolute(&file).unwrap_or(file);
    println!("\nreport   {}", shown(args.html).display());
    println!("figures  {}", shown(args.json).display());
    Ok(status)
}
