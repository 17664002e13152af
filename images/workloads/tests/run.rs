//! `vtmem-work` on a small data set, on the machine that runs the tests: marks go nowhere, results come out.

use std::fs::{self, File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use vtmem_workloads::dataset::{self, SOURCE_DIR, SOURCE_EXPECT};
use vtmem_workloads::source::{Expectation, PATTERN};

const MEM: u64 = 4 << 20;
const SEED: u64 = 42;

fn data_disk() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in dataset::files(MEM) {
        let path = root.path().join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        file.write_to(SEED, &mut BufWriter::new(File::create(path).unwrap()))
            .unwrap();
    }
    let tree = root.path().join(SOURCE_DIR);
    fs::create_dir_all(tree.join("include")).unwrap();
    fs::write(
        tree.join("include/lock.h"),
        "typedef struct {} spinlock_t;\n\n",
    )
    .unwrap();
    fs::write(
        tree.join("main.c"),
        "int main(void)\n{\n\tspinlock_t lock;\n}",
    )
    .unwrap();
    let expected = Expectation::of_tree(&tree, PATTERN).unwrap();
    fs::write(root.path().join(SOURCE_EXPECT), expected.to_text()).unwrap();
    root
}

fn work(data: &Path, workloads: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vtmem-work"))
        .args(["run", "--workloads", workloads, "--seed", &SEED.to_string()])
        .args(["--mem", &MEM.to_string(), "--data"])
        .arg(data)
        .output()
        .unwrap()
}

/// The result lines without the time, which differs.
fn results(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with("vtmem-result: "))
        .map(|line| {
            let (head, tail) = line.split_once("\"nanoseconds\":").expect(line);
            format!("{head}{}", tail.split_once(',').expect(line).1)
        })
        .collect()
}

#[test]
fn all_workloads_verify_and_repeat() {
    let data = data_disk();
    let first = work(data.path(), "reread,scan,swap,source");
    assert!(first.status.success(), "{first:?}");
    let lines = results(&first);
    assert_eq!(lines.len(), 4);
    for (line, name) in lines.iter().zip(["reread", "scan", "swap", "source"]) {
        assert!(
            line.starts_with(&format!("vtmem-result: {{\"workload\":\"{name}\"")),
            "{line}"
        );
        assert!(line.ends_with("\"bytes_corrupt\":0}"), "{line}");
        assert!(!line.contains("\"bytes_verified\":0,"), "{line}");
    }
    assert_eq!(
        lines,
        results(&work(data.path(), "reread,scan,swap,source"))
    );
}

#[test]
fn wrong_bytes_are_counted() {
    let data = data_disk();
    for (path, place) in [("scan/00/0002.dat", 5000), ("source/main.c", 3)] {
        let file = OpenOptions::new()
            .write(true)
            .open(data.path().join(path))
            .unwrap();
        file.write_all_at(&[0xff, 0xfe, 0xfd], place).unwrap();
    }
    let output = work(data.path(), "scan,source");
    assert_eq!(output.status.code(), Some(1));
    let lines = results(&output);
    assert!(lines[0].ends_with("\"bytes_corrupt\":3}"), "{}", lines[0]);
    assert!(!lines[1].ends_with("\"bytes_corrupt\":0}"), "{}", lines[1]);
}

#[test]
fn what_is_missing_is_named() {
    let data = data_disk();
    fs::remove_file(data.path().join("scan/00/0001.dat")).unwrap();
    fs::remove_file(data.path().join(SOURCE_EXPECT)).unwrap();
    let output = work(data.path(), "scan,source,swap");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("vtmem-failure: scan: ") && text.contains("scan/00/0001.dat"),
        "{text}"
    );
    assert!(
        text.contains("vtmem-failure: source: ") && text.contains(SOURCE_EXPECT),
        "{text}"
    );
    assert!(
        text.contains("\"workload\":\"swap\""),
        "the others still run: {text}"
    );
}

#[test]
fn check_finds_the_byte_that_write_did_not_write() {
    let directory = tempfile::tempdir().unwrap();
    let files = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_vtmem-work"))
            .args([command, "--count", "3", "--seed", "5", "--dir"])
            .arg(directory.path())
            .output()
            .unwrap();
        (output.status.code(), results(&output).concat())
    };
    assert_eq!(files("write").0, Some(0));
    let (status, right) = files("check");
    assert_eq!(status, Some(0));
    assert!(right.contains("\"bytes_verified\":3145728,\"bytes_corrupt\":0"));
    flip(&directory.path().join("0002.dat"), 77_777);
    let (status, wrong) = files("check");
    assert_eq!(status, Some(1));
    assert!(wrong.contains("\"bytes_corrupt\":1}"), "{wrong}");
}

/// Changes the byte at `place`, whatever it is.
fn flip(path: &Path, place: usize) {
    let mut content = fs::read(path).unwrap();
    content[place] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn unknown_options_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_vtmem-work"))
        .args(["run", "--workload", "scan"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--workload: unknown option"));
}
