//! For tests whose subject this host lacks.

use std::fmt::Display;
use std::io::Write as _;

/// Says why a test, or a part of one, does not run here: past the harness, which shows nothing of tests that pass. `ci/test` repeats it
/// at its end. With `VTMEM_REQUIRE_ALL` it is a failure.
#[track_caller]
pub(crate) fn not_run(why: impl Display) {
    let thread = std::thread::current();
    let message = format!("NOT RUN: {}: {why}", thread.name().unwrap_or("a test"));
    assert!(std::env::var_os("VTMEM_REQUIRE_ALL").is_none(), "{message}");
    // Nobody reads it: then nobody can be told.
    let _ = writeln!(std::io::stderr(), "{message}");
}
