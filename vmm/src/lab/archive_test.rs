use std::time::Duration;

use super::*;
use crate::accel::Clock;
use crate::lab::NullDisk;

fn job<'a>(config: &'a LabConfig, argv: &'a [String], connection: Connection) -> Job<'a> {
    Job {
        config,
        argv,
        environment: &[],
        connection,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn every_word_reaches_the_job_as_it_is() {
    let hostile = ["echo", "a b", "it's", "$(reboot)", "", "\n*", "'\\''"];
    let argv = words(&["printf", "%s|"]);
    let argv: Vec<_> = argv.into_iter().chain(words(&hostile)).collect();
    let config = LabConfig::new(Clock::Virtual);
    let environment = [("A".to_owned(), "it's".to_owned())];
    let job = Job {
        environment: &environment,
        ..job(&config, &argv, Connection::NoInput)
    };
    let out = std::process::Command::new("sh")
        .args(["-c", &job.script()])
        .output()
        .expect("a shell");
    let want: String = hostile.iter().map(|word| format!("{word}|")).collect();
    assert_eq!(String::from_utf8_lossy(&out.stdout), want);
    assert!(job.script().starts_with("export A='it'\\''s'\nexec "));
}

#[test]
fn no_command_is_a_shell() {
    let config = LabConfig::new(Clock::Real);
    let size = Connection::Terminal {
        rows: 24,
        columns: 80,
    };
    let job = job(&config, &[], size);
    assert_eq!(job.script(), "exec sh\n");
    assert!(
        job.setup()
            .ends_with("interactive=1\nrows=24\ncolumns=80\n")
    );
}

#[test]
fn the_output_disk_follows_the_images() {
    let mut config = LabConfig::new(Clock::Virtual);
    let null = |name: &str, image: Option<&str>| NullDisk {
        name: name.to_owned(),
        size: (5 << 20) + 1,
        latency: Duration::from_micros(400),
        block_size: 4096,
        image: image.map(Into::into),
    };
    config.null_disks = vec![
        null("nullb0", Some("image")),
        null("nullb1", None),
        null("nullb2", Some("image")),
    ];
    config.outputs = words(&["/out", "/tmp/x y"]);
    let job = job(&config, &[], Connection::Streams);
    assert_eq!(
        job.setup(),
        "memory_disks 3\n\
         null_disk 'nullb0' 6 400000 4096 \"$(memory_disk 0)\"\n\
         null_disk 'nullb1' 6 400000 4096\n\
         null_disk 'nullb2' 6 400000 4096 \"$(memory_disk 1)\"\n\
         output=$(memory_disk 2)\n\
         standard_input\n"
    );
    assert_eq!(job.outputs(), "/out\n/tmp/x y\n");
}

#[test]
fn the_same_job_gives_the_same_archive() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("base"), b"base").expect("write");
    fs::write(path("program"), b"program").expect("write");
    fs::write(path("input"), b"input").expect("write");
    let mut config = LabConfig::new(Clock::Virtual);
    config.files = vec![(path("input"), "/in/put".to_owned())];
    let argv = words(&["true"]);
    let job = job(&config, &argv, Connection::NoInput);
    for name in ["one", "two"] {
        let file = File::create(path(name)).expect("a file");
        job.write(&path("base"), &path("program"), &file)
            .expect("write the archive");
    }
    let one = fs::read(path("one")).expect("read");
    assert_eq!(one, fs::read(path("two")).expect("read"));
    let members = vtmem_images::cpio::read(&one[4..]).expect("an archive");
    let content = |name: &str| {
        members
            .iter()
            .find(|member| member.path == name)
            .map(|member| member.data)
    };
    assert_eq!(content("in/put"), Some(&b"input"[..]));
    assert_eq!(content("bin/vtmem"), Some(&b"program"[..]));
    assert_eq!(content("lab/job"), Some(&b"exec 'true'\n"[..]));
}
