//! Whether a guest with tmem fared worse than one without.

use vtmem_workloads::pressure_lines::Kind;

use super::report::{Report, Rounds};

/// Of so many bytes that are compared, one came from the host at least, or the run shows nothing of tmem.
const BYTES_PER_HIT: u64 = 100 * 4096;

/// What is wrong with `tmem`, a line each; nothing if it passes. Without a control, nothing is forgiven.
pub fn faults(kinds: &[Kind], tmem: &Report, control: Option<&Report>) -> Vec<String> {
    let mut faults = vec![];
    let none = Rounds::default();
    for kind in kinds {
        let of = |report: &Report| report.kinds.get(kind).cloned().unwrap_or(none.clone());
        let with = of(tmem);
        let without = control.map(of).unwrap_or_default();
        let mut say = |what: String| faults.push(format!("{}: {what}", kind.name()));
        if with.rounds == 0 {
            say("no round came to its end".to_owned());
        }
        if with.wrong > 0 {
            say(format!("{} bytes wrong", with.wrong));
        }
        if with.killed > 0 && without.killed == 0 {
            say(format!(
                "the OOM killer ended {} processes, and none with a plain swap disk",
                with.killed
            ));
        }
        if !with.broken.is_empty() && without.broken.is_empty() {
            say(format!("ended early: {}", with.broken.join("; ")));
        }
        for complaint in &with.complaints {
            say(format!("the kernel complains: {complaint}"));
        }
    }
    if tmem.counter("hits").saturating_mul(BYTES_PER_HIT) < tmem.verified() {
        faults.push(format!(
            "{} pages came from the host, too few for this to say anything of tmem; was the driver there?",
            tmem.counter("hits")
        ));
    }
    faults.extend(tmem.failure.clone());
    if let Some(failure) = control.and_then(|control| control.failure.clone()) {
        faults.push(format!("the control, without tmem: {failure}"));
    }
    faults
}

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
