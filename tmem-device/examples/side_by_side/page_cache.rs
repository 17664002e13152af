//! The page cache: a file that was just written, read a page at a time.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use tmem_device::pool::Page;
use tmem_device::wire::PAGE_SIZE;

pub struct PageCache {
    file: File,
}

impl PageCache {
    pub fn new(pages: &[Page]) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(pages.as_flattened())?;
        Ok(PageCache { file })
    }

    pub fn read(&self, pages: usize) {
        let mut page = [0; PAGE_SIZE];
        for number in 0..pages {
            let offset = number as u64 * PAGE_SIZE as u64;
            self.file
                .read_exact_at(&mut page, offset)
                .expect("the file can be read");
        }
    }
}
