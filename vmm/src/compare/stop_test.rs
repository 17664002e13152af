use super::*;
use std::os::unix::process::ExitStatusExt;

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000");
    command
}

#[test]
fn terminated_children_end() {
    let stop = Stop::default();
    let child = stop.spawn(&mut sleeper()).unwrap();
    child.terminate();
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM));
}

#[test]
fn dropped_children_are_gone() {
    let stop = Stop::default();
    let child = stop.spawn(&mut sleeper()).unwrap();
    let pid = child.with(|child| child.id());
    drop(child);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(lock(&stop.state.children).is_empty());
}

#[test]
fn no_child_starts_after_a_signal() {
    let stop = Stop::default();
    stop.state.signal.store(SIGINT, Ordering::SeqCst);
    assert_eq!(stop.signal(), Some(SIGINT));
    assert!(stop.spawn(&mut sleeper()).is_err());
}
