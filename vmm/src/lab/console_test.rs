use super::*;
use std::io::{PipeWriter, Write as _};

fn console() -> (PipeWriter, Console) {
    let (near, far) = io::pipe().expect("a pipe");
    (far, Console::read(near).expect("a thread"))
}

#[test]
fn the_line_of_init_makes_it_ready() {
    let (mut far, console) = console();
    assert_eq!(console.wait(Duration::ZERO), Stage::Booting);
    far.write_all(b"[ 0.1] noise\r\nvtmem-lab: ready\r\n")
        .expect("write");
    assert_eq!(console.wait(Duration::from_secs(60)), Stage::Ready);
    assert_eq!(console.last_lines(), ["[ 0.1] noise"]);
}

#[test]
fn an_end_is_no_readiness_and_the_last_lines_are_kept() {
    let (mut far, console) = console();
    for n in 0..100 {
        writeln!(far, "line {n}").expect("write");
    }
    far.write_all(&[b'x'; 3000]).expect("write");
    drop(far);
    assert_eq!(console.wait(Duration::from_secs(60)), Stage::Ended);
    let lines = console.last_lines();
    assert_eq!(lines.len(), LINES);
    assert_eq!(lines[LINES - 4], "line 99");
    assert!(lines.iter().all(|line| line.len() <= LINE_BYTES as usize));
}

#[test]
fn a_panic_is_not_lost_in_its_trace() {
    let (mut far, console) = console();
    far.write_all(b"[ 7.0] Kernel panic - not syncing: why\r\n")
        .expect("write");
    for n in 0..LINES {
        writeln!(far, "trace {n}").expect("write");
    }
    drop(far);
    assert_eq!(console.wait(Duration::from_secs(60)), Stage::Ended);
    let lines = console.last_lines();
    assert_eq!(lines.len(), 1 + LINES);
    assert!(lines[0].ends_with("not syncing: why"));
}
