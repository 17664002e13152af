use super::*;

#[test]
fn this_machine_can_be_looked_at_and_a_wait_be_ended() {
    let (mut machine, stop) = Machine::new().expect("a file");
    let sample = machine.sample();
    assert!(sample.available.is_some_and(|bytes| bytes > 1 << 20));
    assert!(!sample.triggered);
    assert_eq!(machine.lacks().len(), {
        let psi = usize::from(machine.psi.as_ref().and_then(Psi::trigger).is_none());
        let limit = machine.cgroup.as_ref().and_then(Cgroup::available);
        psi + usize::from(limit.is_none())
    });
    stop.stop();
    // However often, and for however long.
    for _ in 0..3 {
        assert_eq!(machine.wait(Duration::from_secs(1000)), Wake::Stop);
    }
}

#[test]
fn a_kernel_without_pressure_is_told_from_a_proc_that_is_not_mounted() {
    let error = io::Error::from(io::ErrorKind::NotFound);
    let off = no_pressure(&Ok(true), &error);
    assert!(off.contains("boot with psi=1"), "{off}");
    for process in [
        Ok(false),
        Err(io::Error::from(io::ErrorKind::PermissionDenied)),
    ] {
        let unknown = no_pressure(&process, &error);
        assert!(unknown.starts_with("could not find out"), "{unknown}");
        assert!(unknown.contains("mount /proc"), "{unknown}");
        assert!(!unknown.contains("psi=1"), "{unknown}");
    }
}

#[test]
fn without_proc_nothing_is_said_not_to_be_so() {
    let empty = tempfile::tempdir().expect("a directory");
    let (mut machine, _stop) = Machine::seen_at(empty.path()).expect("a file");
    assert_eq!(machine.lacks().len(), 3, "{:?}", machine.lacks());
    for lack in machine.lacks() {
        assert!(lack.starts_with("could not find out"), "{lack}");
        assert!(lack.contains("mount /proc"), "{lack}");
    }
    let sample = machine.sample();
    assert!(sample.available.is_none() && sample.cgroup_available.is_none());
}
