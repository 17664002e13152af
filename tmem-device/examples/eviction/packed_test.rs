use super::*;

fn recording(rows: &[[u64; 4]]) -> Vec<u8> {
    let record = |[kind, object, index, count]: [u64; 4]| Record {
        kind: (kind as u16).into(),
        status: 1.into(),
        pool: 3.into(),
        object: object.into(),
        index: index.into(),
        count: count.into(),
    };
    let records: Vec<_> = rows.iter().copied().map(record).collect();
    records.as_bytes().to_vec()
}

#[test]
fn objects_are_numbered_and_all_else_comes_back() {
    let hashed = [
        [1, u64::MAX, 1 << 40, 7],
        [2, 5, 0, u64::MAX],
        [4, u64::MAX, 3, 0],
        [4, 9, u64::MAX, 1],
    ];
    let mut numbered = hashed;
    for (row, object) in numbered.iter_mut().zip([0, 1, 0, 2]) {
        row[1] = object;
    }
    let packed = pack(&recording(&hashed)).unwrap();
    assert_eq!(unpack(&packed), Some(recording(&numbered)));
    assert_eq!(pack(&[0; 33]), None);
    for length in 0..packed.len() {
        assert_ne!(unpack(&packed[..length]), Some(recording(&numbered)));
    }
}
