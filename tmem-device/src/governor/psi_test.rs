use std::fs;

use super::*;

#[test]
fn the_average_of_ten_seconds_is_found_and_nonsense_is_not_believed() {
    let text = "some avg10=1.25 avg60=0.50 avg300=0.00 total=123\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=1\n";
    assert_eq!(avg10(text), Some(1.25));
    for nonsense in [
        "",
        "full avg10=1.0",
        "some avg60=1.0",
        "some avg10=",
        "some avg10=-1",
        "some avg10=NaN",
        "some avg10=101",
    ] {
        assert_eq!(avg10(nonsense), None, "{nonsense}");
    }
}

#[test]
fn a_host_without_psi_is_an_error_and_one_without_triggers_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(Psi::open(directory.path()).is_err());
    let pressure = directory.path().join("pressure");
    fs::create_dir(&pressure).expect("a directory");
    fs::write(
        pressure.join("memory"),
        "some avg10=7.00 avg60=0 avg300=0 total=0\n",
    )
    .expect("a file");
    let psi = Psi::open(directory.path()).expect("it can be read");
    // This one could be opened for writing; what was written is all it has now.
    assert!(psi.trigger().is_some());
    fs::write(
        pressure.join("memory"),
        "some avg10=7.00 avg60=0 avg300=0 total=0\n",
    )
    .expect("a file");
    assert_eq!(psi.some_avg10(), Some(7.0));
}
