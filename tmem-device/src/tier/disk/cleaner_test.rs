use super::fault::FaultyMedium;
use super::model_test::{audit, promised, tier_on};
use super::*;

const SEGMENTS: u32 = 16;

fn page(number: usize) -> Vec<u8> {
    let mut page = vec![number as u8; 4096];
    page[..8].copy_from_slice(&number.to_le_bytes());
    page
}

/// Stores pages 64 at a time until `live` bytes are, and says where.
fn fill(tier: &DiskTier, live: u64) -> Vec<Handle> {
    let mut handles = Vec::new();
    while tier.stats().live_bytes < live {
        let pages: Vec<Vec<u8>> = (handles.len()..handles.len() + 64).map(page).collect();
        let pages: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
        handles.extend(tier.store(&pages).expect("within the promise"));
    }
    handles
}

#[test]
fn pages_that_are_replaced_at_random_for_long_cost_no_more_than_is_promised() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let batch = 64 * record::space(4096) as u64;
    let mut handles = fill(&tier, promised(SEGMENTS) - 2 * batch);
    let before = tier.stats();
    let mut random = 1u64;
    const ROUNDS: u64 = 100;
    for _ in 0..ROUNDS {
        let mut numbers = Vec::new();
        while numbers.len() < 64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = (random >> 33) as usize % handles.len();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        let pages: Vec<Vec<u8>> = numbers.iter().map(|&number| page(number)).collect();
        let pages: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
        let new = tier.store(&pages).expect("within the promise");
        let old: Vec<Handle> = numbers.iter().map(|&number| handles[number]).collect();
        tier.discard(&old);
        for (number, handle) in numbers.into_iter().zip(new) {
            handles[number] = handle;
        }
    }
    audit(&tier);
    let stats = tier.stats();
    let moved = (stats.moved_bytes - before.moved_bytes) as f64;
    let stored = (ROUNDS * batch) as f64;
    assert!(
        moved / stored < 7.0,
        "{} moved for each byte stored",
        moved / stored
    );
    let mut buffer = [0; MAX_RECORD];
    for (number, &handle) in handles.iter().enumerate() {
        let mut wanted = [Load::new(handle, &mut buffer)];
        tier.load(&mut wanted);
        assert_eq!(wanted[0].result, Ok(4096));
        assert_eq!(buffer[..4096], page(number));
    }
}

#[test]
fn single_records_take_a_block_each_only_until_they_are_cleaned() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let records = 10 * SEGMENT / 4096 * 4;
    for number in 0..records {
        tier.store(&[&page(number)[..1000]])
            .expect("a quarter of what they take is live");
    }
    assert!(tier.stats().moved_bytes > 0);
    audit(&tier);
}

#[test]
fn the_index_takes_sixteen_bytes_for_each_record_and_little_beside() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    // As many records as fill the table's chunks.
    let records = vec![vec![7; 800]; 8192];
    for batch in records.chunks(256) {
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        tier.store(&batch).expect("room");
    }
    let stats = tier.stats();
    assert_eq!(stats.records, 8192);
    let each = stats.index_bytes as f64 / 8192.0;
    assert!(each < 20.0, "{each} bytes each");
}
