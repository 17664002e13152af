use super::*;

/// A statistics file with counters of the given names, flags and numbers of values.
fn file(counters: &[(&str, u32, u16)]) -> Vec<u8> {
    let name_size = 16_u32;
    let mut bytes = vec![];
    for word in [
        0,
        name_size,
        counters.len() as u32,
        24,
        24,
        24 + 32 * counters.len() as u32,
    ] {
        bytes.extend(u32::to_ne_bytes(word));
    }
    for (n, (name, flags, values)) in counters.iter().enumerate() {
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(0_i16.to_ne_bytes());
        bytes.extend(values.to_ne_bytes());
        bytes.extend((8 * n as u32).to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        let mut padded = name.as_bytes().to_vec();
        padded.resize(16, 0);
        bytes.extend(padded);
    }
    bytes
}

fn read(bytes: &[u8]) -> io::Result<Vec<Counter>> {
    describe(|buffer, offset| {
        let from = offset as usize;
        let piece = bytes
            .get(from..from + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(piece);
        Ok(())
    })
}

#[test]
fn cumulative_counters_are_found_and_others_left_out() {
    let bytes = file(&[
        ("exits", 0, 1),
        ("halt_hist", 0, 32),
        ("guest_mode", 1, 1),
        ("io_exits", 0, 1),
    ]);
    let counters = read(&bytes).expect("well-formed");
    let names: Vec<_> = counters
        .iter()
        .map(|c| (c.name.as_str(), c.offset))
        .collect();
    assert_eq!(names, [("exits", 24 + 128), ("io_exits", 24 + 128 + 24)]);
}

#[test]
fn truncated_or_absurd_files_are_errors() {
    let bytes = file(&[("exits", 0, 1)]);
    assert!(read(&bytes[..40]).is_err());
    let mut absurd = bytes;
    absurd[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(read(&absurd).is_err());
}
