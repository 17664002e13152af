//! Memory whose every page is known.

use crate::context::about;
use crate::mapping::Mapping;
use std::io;
use std::ops::Range;
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes, fill_page};
use vtmem_workloads::workload::Outcome;

/// The memory's number among the files whose content is generated.
const FILE: u32 = u32::MAX - 2;

/// Anonymous memory, filled from a seed.
pub struct Sheet {
    /// The memory.
    pub memory: Mapping,
    seed: u64,
    pages: usize,
}

impl Sheet {
    /// Maps and fills `bytes`.
    ///
    /// # Errors
    /// The memory cannot be mapped.
    pub fn new(seed: u64, bytes: u64) -> io::Result<Self> {
        let pages = usize::try_from(bytes).unwrap_or(usize::MAX) / PAGE_SIZE;
        let memory =
            Mapping::anonymous(pages).map_err(about(format_args!("memory of {pages} pages")))?;
        Ok(Self::on(memory, seed, pages))
    }

    /// The same, on memory that is mapped already.
    pub fn on(memory: Mapping, seed: u64, pages: usize) -> Self {
        let mut sheet = Self {
            memory,
            seed,
            pages,
        };
        sheet.fill(seed, 0..pages);
        sheet
    }

    /// How many pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Gives the pages other contents, those of another seed.
    pub fn refill(&mut self, seed: u64) {
        self.seed = seed;
        self.fill(seed, 0..self.pages);
    }

    fn fill(&mut self, seed: u64, pages: Range<usize>) {
        for index in pages {
            fill_page(seed, FILE, index as u32, self.memory.page(index));
        }
    }

    /// Compares all of it.
    pub fn verify(&mut self, totals: &mut Outcome) {
        for index in 0..self.pages {
            let page = self.memory.page(index);
            totals.bytes_corrupt += corrupt_bytes(self.seed, FILE, index as u32, page);
            totals.bytes_verified += PAGE_SIZE as u64;
        }
    }
}
