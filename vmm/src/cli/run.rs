//! `vtmem run`.

use std::process::ExitCode;

use super::CliError;

/// Options of `vtmem run`.
#[derive(clap::Args, Debug)]
pub struct RunArgs {}

/// Runs `vtmem run`.
pub fn execute(_args: RunArgs) -> Result<ExitCode, CliError> {
    Err("not built yet".into())
}
