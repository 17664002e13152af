//! `vtmem images`.

use std::process::ExitCode;

use super::CliError;

/// Options of `vtmem images`.
#[derive(clap::Args, Debug)]
pub struct ImagesArgs {}

/// Runs `vtmem images`.
pub fn execute(_args: ImagesArgs) -> Result<ExitCode, CliError> {
    Err("not built yet".into())
}
