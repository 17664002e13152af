//! The pool's size bounds what the process takes, not only what it says it takes.
//!
//! A process of its own, so that nothing else allocates.

use tmem_device::pool::{HostPool, ObjectId, PoolConfig, PoolKind};
use tmem_device::wire::PAGE_SIZE;

const SIZE: u64 = 48 << 20;

/// What the allocator may lose, and the threads' scratch space.
const SLACK: u64 = SIZE / 8;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .expect("resident")
        .parse()
        .expect("a number");
    pages * 4096
}

/// Pages of all lengths when stored, from same-filled to incompressible.
fn fill(page: &mut [u8; PAGE_SIZE], random: &mut u64) {
    let next = |random: &mut u64| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random
    };
    let noisy = (next(random) % (PAGE_SIZE as u64 / 8 + 1)) as usize;
    let (words, _) = page.as_chunks_mut::<8>();
    words.fill([0; 8]);
    words[..noisy]
        .iter_mut()
        .for_each(|word| *word = next(random).to_le_bytes());
}

fn own_object(thread: u64, index: u64) -> ObjectId {
    let mut object = [thread as u8; _];
    object[..8].copy_from_slice(&index.to_le_bytes());
    object
}

#[test]
fn the_process_stays_near_the_cap_and_gives_memory_back() {
    let before = resident();
    let pool = HostPool::new(PoolConfig::new(SIZE));
    let guest = pool.register().expect("a guest");
    let id = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let guest = &guest;
            scope.spawn(move || {
                let (mut page, mut random) = ([0; PAGE_SIZE], thread + 1);
                for index in 0..25_000u64 {
                    fill(&mut page, &mut random);
                    let object = match thread {
                        // Few large objects, and as many as pages.
                        0 | 1 => [(random % 100) as u8; _],
                        _ => own_object(thread, index),
                    };
                    guest
                        .put(id, &object, index << 2 | thread, &page)
                        .expect("room by eviction");
                }
            });
        }
    });
    let stats = pool.stats();
    assert!(stats.evictions > 20_000, "the pool was not full: {stats:?}");
    // Full but for what the last puts made room for: each evicts, and compresses, a few pages at most.
    assert!(stats.used_bytes <= SIZE && stats.used_bytes > SIZE - SIZE / 32);
    let full = resident() - before;
    println!("pool of {SIZE}: {full} resident, {stats:?}");
    assert!(
        full <= SIZE + SLACK,
        "{full} bytes resident for a pool of {SIZE}"
    );

    guest.destroy_pool(id).expect("the pool exists");
    let empty = resident().saturating_sub(before);
    println!("emptied: {empty} resident");
    assert!(empty < SIZE / 8, "{empty} bytes resident for an empty pool");
}
