//! End-to-end tests: the `vtmem` binary, real Linux guests, a real `/dev/kvm`.
//!
//! Machines without hardware virtualization run them in the lab. A test that can't run says why and
//! counts as ignored; with `VTMEM_REQUIRE_E2E=1` (CI) it fails instead.

mod api;
mod boot;
mod cli_errors;
mod compare;
mod confine;
mod dax;
mod disks;
mod driver;
mod events;
mod host;
mod lab;
mod mounts;
mod pressure;
mod signals;
mod specification;
mod spill;
mod suspend;
mod torture;

use std::sync::{PoisonError, RwLock};

use libtest_mimic::{Arguments, Trial};

/// Tests share the machine; one that is to have it for itself takes this for writing.
static MACHINE: RwLock<()> = RwLock::new(());

/// One end-to-end test.
struct Case {
    /// `area::what_it_shows`.
    name: &'static str,
    /// Whether it launches guests, and so needs images and KVM or the lab.
    needs_guests: bool,
    /// Whether nothing else may run beside it.
    alone: bool,
    /// The test itself; panics when the promise does not hold.
    run: fn(),
}

/// All tests, by area.
fn areas() -> impl Iterator<Item = &'static [Case]> {
    [
        specification::CASES,
        cli_errors::CASES,
        api::CASES,
        boot::CASES,
        confine::CASES,
        dax::CASES,
        disks::CASES,
        driver::CASES,
        events::CASES,
        lab::CASES,
        mounts::CASES,
        pressure::CASES,
        signals::CASES,
        spill::CASES,
        suspend::CASES,
        torture::CASES,
        compare::CASES,
    ]
    .into_iter()
}

fn main() {
    let args = Arguments::from_args();
    // Prepared once and before any test's clock runs: images take minutes on a fresh machine.
    let guests = if args.list {
        Ok(())
    } else {
        host::prepare_guests()
    };
    let required = std::env::var_os("VTMEM_REQUIRE_E2E").is_some_and(|v| v != "0");
    let trials = areas()
        .flat_map(|area| area.iter())
        .map(|case| {
            let missing = match (&guests, case.needs_guests) {
                (Err(why), true) => Some(why.clone()),
                _ => None,
            };
            let ignored = missing.is_some() && !required;
            if let (true, Some(why)) = (ignored, &missing) {
                eprintln!("{} can't run here: {why}", case.name);
            }
            let (run, alone) = (case.run, case.alone);
            Trial::test(case.name, move || match missing {
                Some(why) => Err(format!("required, but it can't run here: {why}").into()),
                None => {
                    let (_shared, _alone);
                    if alone {
                        _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
                    } else {
                        _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
                    }
                    run();
                    Ok(())
                }
            })
            .with_ignored_flag(ignored)
        })
        .collect();
    libtest_mimic::run(&args, trials).exit();
}
