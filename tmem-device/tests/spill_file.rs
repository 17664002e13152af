//! The disk tier on a real file, by direct I/O where the file system has any: several threads store, load and discard
//! more than the file holds at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use tmem_device::tier::disk::{DiskConfig, DiskTier};
use tmem_device::tier::{Handle, Load, MAX_RECORD, StoreError, Tier};

const SIZE: u64 = 16 << 20;
const THREADS: u64 = 4;
const ROUNDS: u64 = 100;
const BATCH: u64 = 64;

/// Batches that a thread keeps before it discards in every round.
const KEPT: usize = 24;

/// The record of this number: its length and each of its bytes follow from it.
fn record(number: u64) -> Vec<u8> {
    let length = 1 + (number * 1237 % MAX_RECORD as u64) as usize;
    let mut record: Vec<u8> = (0..length)
        .map(|at| (number.wrapping_mul(31) as usize + at * 7) as u8)
        .collect();
    let named = length.min(8);
    record[..named].copy_from_slice(&number.to_le_bytes()[..named]);
    record
}

fn check(tier: &DiskTier, stored: &[(u64, Handle)]) {
    let mut buffers = vec![[0; MAX_RECORD]; stored.len()];
    let mut wanted: Vec<Load> = stored
        .iter()
        .zip(&mut buffers)
        .map(|(&(_, handle), buffer)| Load::new(handle, buffer))
        .collect();
    tier.load(&mut wanted);
    for (load, &(number, _)) in wanted.iter().zip(stored) {
        let length = load.result.expect("the disk is good");
        assert_eq!(load.buffer[..length], record(number));
    }
}

#[test]
fn threads_find_what_they_stored_and_nothing_is_left_when_it_is_discarded() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("spill");
    let config = DiskConfig {
        // The machine may be busy; nothing here is about time.
        store_limit: std::time::Duration::from_secs(600),
        load_limit: std::time::Duration::from_secs(600),
        ..DiskConfig::new(&path, SIZE)
    };
    let tier = DiskTier::open(&config).expect("it opens");
    let full = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (tier, full) = (&tier, &full);
            scope.spawn(move || {
                let mut stored: Vec<(u64, Handle)> = Vec::new();
                for round in 0..ROUNDS {
                    let first = (round * THREADS + thread) * BATCH;
                    let numbers = first..first + BATCH;
                    let records: Vec<Vec<u8>> = numbers.clone().map(record).collect();
                    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                    match tier.store(&records) {
                        Ok(handles) => stored.extend(numbers.zip(handles)),
                        Err(StoreError::Full) => {
                            full.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    // Some of each batch that is there go: there is something to clean.
                    if stored.len() > KEPT * BATCH as usize {
                        let mut gone = Vec::new();
                        stored.retain(|&(number, handle)| {
                            let goes = (number + round) % 8 == 0;
                            gone.extend(goes.then_some(handle));
                            !goes
                        });
                        tier.discard(&gone);
                    }
                    let from = (round as usize * 53) % stored.len().max(1);
                    check(tier, &stored[from..stored.len().min(from + 100)]);
                }
                check(tier, &stored);
                let handles: Vec<Handle> = stored.iter().map(|&(_, handle)| handle).collect();
                tier.discard(&handles);
            });
        }
    });
    let stats = tier.stats();
    assert_eq!(
        (stats.records, stats.live_bytes, stats.load_errors),
        (0, 0, 0)
    );
    assert!(stats.used_bytes <= 1 << 20, "the open segment alone");
    assert_eq!(stats.stored + stats.refused, THREADS * ROUNDS * BATCH);
    assert_eq!(stats.refused, full.into_inner() * BATCH);
    assert!(stats.moved_bytes > 0, "it was cleaned: {stats:?}");
    assert!(
        stats.written_bytes > SIZE,
        "more than it holds went through"
    );
    let length = std::fs::metadata(&path).expect("it is there").len();
    assert!(length <= SIZE, "{length} bytes");
}
