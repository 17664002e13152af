//! `vtmem compare`.

use std::process::ExitCode;

use super::CliError;

/// Options of `vtmem compare`.
#[derive(clap::Args, Debug)]
pub struct CompareArgs {}

/// Runs `vtmem compare`.
pub fn execute(_args: CompareArgs) -> Result<ExitCode, CliError> {
    Err("not built yet".into())
}
