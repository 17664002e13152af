//! `vtmem demo`.

use std::process::ExitCode;

use super::CliError;

/// Options of `vtmem demo`.
#[derive(clap::Args, Debug)]
pub struct DemoArgs {}

/// Runs `vtmem demo`.
pub fn execute(_args: DemoArgs) -> Result<ExitCode, CliError> {
    Err("not built yet".into())
}
