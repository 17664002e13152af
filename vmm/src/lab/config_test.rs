use super::*;
use std::fs;

fn null_disk(name: &str, size: u64, image: Option<PathBuf>) -> NullDisk {
    NullDisk {
        name: name.to_owned(),
        size,
        latency: Duration::ZERO,
        block_size: 4096,
        image,
    }
}

fn problem(change: impl FnOnce(&mut LabConfig)) -> String {
    let mut config = LabConfig::new(Clock::Virtual);
    change(&mut config);
    match config.check() {
        Err(LabError::Config(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_holds_disks_and_files_besides_the_host() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, vec![0; 3 << 20]).expect("write");
    let mut config = LabConfig::new(Clock::Virtual);
    config.null_disks = vec![null_disk("a", (5 << 20) + 1, None)];
    config.files = vec![(file, "/in/file".to_owned())];
    assert_eq!(config.memory_mib(), 1200 + 6 + 6);
    config.check().expect("nothing is wrong");
}

#[test]
fn what_cannot_work_is_named() {
    let missing = || PathBuf::from("/nonexistent/file");
    let twice = problem(|config| {
        config.null_disks = vec![null_disk("a", 1, None), null_disk("a", 1, None)];
    });
    assert!(twice.contains("called a"), "{twice}");
    let image = problem(|config| config.null_disks = vec![null_disk("a", 1, Some(missing()))]);
    assert!(image.contains("/nonexistent/file"), "{image}");
    let file = problem(|config| config.files = vec![(missing(), "/in".to_owned())]);
    assert!(file.contains("/nonexistent/file"), "{file}");
    for wrong in ["out", "", "/", "/a\nb"] {
        let output = problem(|config| config.outputs = vec![wrong.to_owned()]);
        assert!(output.contains("absolute"), "{output}");
    }
}

#[test]
fn an_image_must_fit_its_disk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = directory.path().join("image");
    fs::write(&image, vec![0; (1 << 20) + 1]).expect("write");
    let too_big = problem(|config| config.null_disks = vec![null_disk("a", 1 << 20, Some(image))]);
    assert!(too_big.contains("1048577 bytes"), "{too_big}");
}
