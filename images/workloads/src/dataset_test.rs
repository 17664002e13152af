use super::*;
use std::collections::HashSet;

fn bytes(set: Set, guest_mem: u64) -> u64 {
    (0..set.file_count(guest_mem))
        .map(|i| u64::from(set.file(i).pages) * PAGE_SIZE as u64)
        .sum()
}

#[test]
fn sets_are_larger_than_the_guest() {
    for guest_mem in [64 << 20, 100 << 20, 128 << 20, 1 << 30] {
        let reread = bytes(Set::Reread, guest_mem);
        assert!(
            (2 * guest_mem..=4 * guest_mem).contains(&reread),
            "{guest_mem}: {reread}"
        );
        assert!(bytes(Set::Scan, guest_mem) > guest_mem);
    }
    assert_eq!(Set::Reread.file_count(0), 1);
    assert!(Set::Scan.file_count(u64::MAX) > 0);
}

#[test]
fn paths_and_numbers_are_unique() {
    let all: Vec<_> = files(128 << 20).collect();
    assert_eq!(
        all.iter().map(|f| &f.path).collect::<HashSet<_>>().len(),
        all.len()
    );
    assert_eq!(
        all.iter().map(|f| f.file).collect::<HashSet<_>>().len(),
        all.len()
    );
    assert!(all.iter().any(|f| f.path.starts_with("scan/")));
}

#[test]
fn writes_what_verifies() {
    let file = Set::Scan.file(3);
    let mut out = Vec::new();
    file.write_to(5, &mut out).unwrap();
    assert_eq!(out.len(), file.pages as usize * PAGE_SIZE);
    for (page, found) in out.chunks_exact(PAGE_SIZE).enumerate() {
        let found = found.try_into().unwrap();
        assert_eq!(
            crate::content::corrupt_bytes(5, file.file, page as u32, found),
            0
        );
    }
}
