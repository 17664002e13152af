use super::*;

#[derive(clap::Parser, Debug)]
struct Command {
    #[command(flatten)]
    compare: CompareArgs,
}

fn parsed(arguments: &[&str]) -> Result<CompareArgs, clap::Error> {
    let arguments = ["compare"].iter().chain(arguments);
    <Command as clap::Parser>::try_parse_from(arguments).map(|command| command.compare)
}

#[test]
fn everything_is_compared_unless_chosen() {
    let settings = parsed(&[]).unwrap().settings().unwrap();
    assert_eq!(settings.workloads, Workload::ALL);
    assert_eq!(settings.variants, Mode::ALL.map(Variant::from));
    let chosen = [
        "--workload",
        "swap,reread",
        "--workload",
        "swap",
        "--mode",
        "tmem",
        "--mode",
        "none,tmem",
    ];
    let settings = parsed(&chosen).unwrap().settings().unwrap();
    assert_eq!(settings.workloads, [Workload::Reread, Workload::Swap]);
    assert_eq!(
        settings.variants,
        [Mode::None, Mode::Tmem].map(Variant::from)
    );
}

#[test]
fn policies_come_with_what_they_are_compared_with() {
    let variants = |arguments: &[&str]| parsed(arguments).unwrap().settings().unwrap().variants;
    let labels = |arguments: &[&str]| -> Vec<&str> {
        variants(arguments)
            .into_iter()
            .map(Variant::label)
            .collect()
    };
    assert_eq!(
        labels(&["--mode", "none", "--policy", "no-windows,no-presence"]),
        ["none", "tmem", "no-presence", "no-windows"]
    );
    let all = labels(&["--mode", "tmem", "--policy", "all"]);
    assert_eq!(all.len(), 1 + Policy::ALL.len());
    assert_eq!(labels(&["--only-policy", "no-batches"]), ["no-batches"]);
    assert!(parsed(&["--policy", "no-sense"]).is_err());
    assert!(parsed(&["--only-policy", "no-batches", "--mode", "none"]).is_err());
}

#[test]
fn wrong_values_are_refused() {
    for wrong in [
        ["--workload", "dance"],
        ["--mode", "unsafe"],
        ["--guest-mem", "lots"],
        ["--instructions-per-ns", "0"],
        ["--instructions-per-ns", "NaN"],
        ["--disk-latency", "100"],
    ] {
        assert!(parsed(&wrong).is_err(), "{wrong:?}");
    }
    for wrong in ["1M", "134217729"] {
        let error = parsed(&["--guest-mem", wrong])
            .unwrap()
            .settings()
            .unwrap_err();
        assert!(error.to_string().contains("--guest-mem"), "{error}");
    }
}

#[test]
fn files_that_cannot_be_written_are_found_out_first() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.json");
    check_writable(&file).unwrap();
    assert!(!file.exists());
    fs::write(&file, "old").unwrap();
    check_writable(&file).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert!(check_writable(directory.path()).is_err());
    assert!(check_writable(&directory.path().join("no/such")).is_err());
}

#[test]
fn what_is_recorded_is_one_guest_that_puts_everything() {
    let settings = parsed(&["--workload", "scan", "--record", "/tmp/scan.trace"])
        .unwrap()
        .settings()
        .unwrap();
    assert_eq!(settings.variants, [Variant::without(Policy::NoAdmission)]);
    assert_eq!(settings.record, Some(PathBuf::from("/tmp/scan.trace")));
    for other in [["--mode", "none"], ["--policy", "all"]] {
        assert!(parsed(&[&other[..], &["--record", "x"]].concat()).is_err());
    }
}
