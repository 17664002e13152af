//! The pool: puts in batches as the guest's driver makes them, gets in windows as its kernel reads.

use std::ops::Range;
use std::sync::Arc;

use tmem_device::pool::{
    Guest, HostPool, PAGE_METADATA, Page, PageName, PoolConfig, PoolError, PoolKind, PoolStats,
};
use tmem_device::wire::PAGE_SIZE;

/// Puts of a chain, and gets of a window.
const CHAIN: usize = 64;
const WINDOW: usize = 32;

/// Pages of an object: a file of 400 KiB.
const OBJECT: usize = 100;

pub struct Contender {
    pool: Arc<HostPool>,
    guest: Guest,
    id: u32,
}

impl Contender {
    /// A pool in which all pages have room when they are compressed, and only then.
    pub fn new(pages: &[Page], compressed: u64) -> Self {
        // An eighth for those that are raw, and for gaps.
        let size = compressed + pages.len() as u64 * (PAGE_METADATA + 16);
        Self::of_size(size + size / 8)
    }

    /// A pool in which they all stay as they are.
    pub fn roomy(pages: &[Page]) -> Self {
        Self::of_size(pages.len() as u64 * 2 * PAGE_SIZE as u64)
    }

    fn of_size(size: u64) -> Self {
        let pool = HostPool::new(PoolConfig {
            credit: 0,
            ..PoolConfig::new(size)
        });
        let guest = pool.register().expect("a guest");
        let id = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
        Contender { pool, guest, id }
    }

    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }

    fn name(&self, number: usize) -> PageName {
        let mut object = [0; _];
        object[..8].copy_from_slice(&((number / OBJECT) as u64).to_le_bytes());
        PageName {
            pool: self.id,
            object,
            index: (number % OBJECT) as u64,
        }
    }

    fn names(&self, range: Range<usize>) -> Vec<PageName> {
        range.map(|number| self.name(number)).collect()
    }

    pub fn put_all(&self, pages: &[Page]) {
        self.put(pages, 0..pages.len());
    }

    pub fn put(&self, pages: &[Page], range: Range<usize>) {
        for begin in range.clone().step_by(CHAIN) {
            let part = begin..range.end.min(begin + CHAIN);
            let mut results = [Err(PoolError::Refused); CHAIN];
            let results = &mut results[..part.len()];
            self.guest
                .put_all(&self.names(part.clone()), &pages[part], results);
            assert!(results.iter().all(Result::is_ok), "a put was refused");
        }
    }

    /// Gets all pages, each of which is there, and compares them if asked to.
    pub fn get_all(&self, pages: &[Page], compare: bool) {
        self.windows(0..pages.len(), |number, page| {
            assert!(!compare || *page == pages[number], "page {number} is wrong");
        });
    }

    pub fn get(&self, _: &[Page], range: Range<usize>) {
        self.windows(range, |_, _| ());
    }

    fn windows(&self, range: Range<usize>, look: impl Fn(usize, &Page)) {
        let mut pages = vec![[0; PAGE_SIZE]; WINDOW];
        for begin in range.clone().step_by(WINDOW) {
            let part = begin..range.end.min(begin + WINDOW);
            let mut results = [Ok(false); WINDOW];
            let results = &mut results[..part.len()];
            let pages = &mut pages[..part.len()];
            self.guest
                .get_all(&self.names(part.clone()), pages, results);
            for ((number, page), result) in part.zip(&*pages).zip(results) {
                assert_eq!(*result, Ok(true), "page {number} is not there");
                look(number, page);
            }
        }
    }

    /// Each of two threads does half of the work.
    pub fn in_two(&self, pages: &[Page], work: fn(&Self, &[Page], Range<usize>)) {
        let half = pages.len() / 2 / OBJECT * OBJECT;
        std::thread::scope(|scope| {
            scope.spawn(|| work(self, pages, 0..half));
            work(self, pages, half..pages.len());
        });
    }
}
