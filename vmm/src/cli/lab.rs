//! `vtmem lab`.

use std::process::ExitCode;

use super::CliError;

/// Options of `vtmem lab`.
#[derive(clap::Args, Debug)]
pub struct LabArgs {}

/// Runs `vtmem lab`.
pub fn execute(_args: LabArgs) -> Result<ExitCode, CliError> {
    Err("not built yet".into())
}
