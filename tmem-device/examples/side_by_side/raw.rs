//! LZ4 as the pool uses it, and a copy: what nobody can do without.

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use tmem_device::pool::Page;
use tmem_device::wire::PAGE_SIZE;

use crate::report::Figures;
use crate::timed;

/// What does not become shorter than this stays as it is, as in the pool.
const COMPRESSED_MAX: usize = PAGE_SIZE / 8 * 7;

pub struct Raw {
    table: CompressTable,
    output: Vec<u8>,
    /// One after the other; and where each begins.
    kept: Vec<u8>,
    begins: Vec<usize>,
}

impl Raw {
    pub fn new(pages: &[Page]) -> Self {
        let mut raw = Raw {
            table: CompressTable::small(),
            output: vec![0; get_maximum_output_size(PAGE_SIZE)],
            kept: Vec::new(),
            begins: vec![0],
        };
        for page in pages {
            let length = raw.compress(page);
            if length <= COMPRESSED_MAX {
                raw.kept.extend_from_slice(&raw.output[..length]);
            } else {
                raw.kept.extend_from_slice(page);
            }
            raw.begins.push(raw.kept.len());
        }
        raw
    }

    /// Bytes that all pages take.
    pub fn bytes(&self) -> u64 {
        self.kept.len() as u64
    }

    fn compress(&mut self, page: &Page) -> usize {
        compress_into_with_table(page, &mut self.output, &mut self.table)
            .expect("there is room for the worst")
    }

    pub fn round(&mut self, pages: &[Page], figures: &mut Figures) {
        figures.raw_compress.add(timed(pages.len(), || {
            for page in pages {
                std::hint::black_box(self.compress(page));
            }
        }));
        figures.raw_compress_2.add(timed(pages.len(), || {
            let (one, other) = pages.split_at(pages.len() / 2);
            std::thread::scope(|scope| {
                scope.spawn(|| compress_all(one));
                compress_all(other);
            });
        }));
        let mut to = vec![[0; PAGE_SIZE]; 32];
        figures.raw_decompress.add(timed(pages.len(), || {
            for (number, ends) in self.begins.windows(2).enumerate() {
                let data = &self.kept[ends[0]..ends[1]];
                let page = &mut to[number % 32];
                if data.len() == PAGE_SIZE {
                    page.copy_from_slice(data);
                } else {
                    decompress_into(data, page).expect("it was compressed so");
                }
            }
            std::hint::black_box(&to);
        }));
        figures.copy.add(timed(pages.len(), || {
            for (number, page) in pages.iter().enumerate() {
                to[number % 32].copy_from_slice(page);
                std::hint::black_box(&to);
            }
        }));
    }
}

fn compress_all(pages: &[Page]) {
    let mut table = CompressTable::small();
    let mut output = vec![0; get_maximum_output_size(PAGE_SIZE)];
    for page in pages {
        let length = compress_into_with_table(page, &mut output, &mut table);
        std::hint::black_box(length.expect("there is room for the worst"));
    }
}
