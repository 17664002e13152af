//! `vtmem`: transcendent memory for KVM guests.

use std::process::ExitCode;

fn main() -> ExitCode {
    vtmem::cli::main()
}
