use super::*;

#[test]
fn lines_come_one_by_one_and_the_last_needs_no_end() {
    let (far, mut near) = io::pipe().expect("a pipe");
    let (sender, lines) = mpsc::channel();
    near.write_all(b"one\r\ntwo\n\nthree").expect("write");
    drop(near);
    split_lines(far, Stream::Stderr, &sender);
    drop(sender);
    let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["one", "two", "", "three"]);
}

#[test]
fn a_reader_that_went_away_does_not_stop_the_copy() {
    struct Gone;
    impl io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (far, mut near) = io::pipe().expect("a pipe");
    let writer = std::thread::spawn(move || near.write_all(&[7; 1 << 20]));
    copy(far, &mut Gone);
    writer.join().expect("a thread").expect("all of it is read");
}

#[test]
fn a_wide_pipe_takes_much_before_it_is_read() {
    let (mut reader, mut writer) = wide_pipe().expect("a pipe");
    // A process that may not widen it blocks here; then the limit for pipes is used up.
    writer
        .write_all(&vec![7; PIPE_BYTES as usize])
        .expect("write");
    drop(writer);
    let mut all = vec![];
    reader.read_to_end(&mut all).expect("read");
    assert_eq!(all.len(), PIPE_BYTES as usize);
}
