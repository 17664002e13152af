use super::*;

const ID: Id = Id {
    slot: 7,
    generation: 3,
};

fn stored(data: &[u8]) -> Vec<u8> {
    let mut target = vec![0xa5; space(data.len())];
    write(&mut target, 11, ID, data);
    target
}

#[test]
fn a_record_comes_back_and_nothing_beside_it_is_touched() {
    for length in [1, 15, 16, 17, 240, 241, 4096, 4160] {
        let data: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
        let stored = stored(&data);
        assert_eq!(stored.len() % UNIT, 0);
        assert!(stored[HEADER + length..].iter().all(|&byte| byte == 0xa5));
        assert_eq!(read(&stored, 11, ID, length), Some(&data[..]));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let data = [0x5a; 300];
    let mut stored = stored(&data);
    for bit in 0..(HEADER + data.len()) * 8 {
        stored[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&stored, 11, ID, data.len()), None, "bit {bit}");
        stored[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(read(&stored, 11, ID, data.len()).is_some());
}

#[test]
fn what_was_cut_off_anywhere_is_noticed() {
    let data: Vec<u8> = (0..4096u32).map(|at| (at % 251) as u8).collect();
    let whole = stored(&data);
    for kept in (0..HEADER + data.len()).step_by(8) {
        let mut torn = whole.clone();
        torn[kept..].fill(0);
        assert_eq!(read(&torn, 11, ID, data.len()), None, "{kept} bytes kept");
    }
    assert_eq!(read(&whole[..100], 11, ID, data.len()), None);
}

#[test]
fn another_record_is_not_taken_for_this_one() {
    let data = [1; 64];
    let stored = stored(&data);
    let other = |slot, generation| Id { slot, generation };
    assert_eq!(read(&stored, 11, other(8, 3), 64), None, "another slot");
    assert_eq!(read(&stored, 11, other(7, 2), 64), None, "an older record");
    assert_eq!(read(&stored, 12, ID, 64), None, "another process's");
    assert_eq!(read(&stored, 11, ID, 63), None, "another length");
}
