//! Memory mappings: anonymous memory for working sets that must be swapped, and pieces of files.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use vtmem_workloads::content::PAGE_SIZE;

/// A readable and writable mapping of whole pages.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    pages: usize,
}

// SAFETY: the mapping belongs to this value alone and is reached only through it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `pages` pages of anonymous memory, which read as zeros; none takes memory before it is touched.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn anonymous(pages: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapping = Self::map(pages, flags, -1, 0)?;
        // Huge pages would be swapped in one piece where another kernel takes single pages.
        mapping.advise(libc::MADV_NOHUGEPAGE);
        Ok(mapping)
    }

    /// The same, in huge pages where the kernel has some.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn huge(pages: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapping = Self::map(pages, flags, -1, 0)?;
        mapping.advise(libc::MADV_HUGEPAGE);
        Ok(mapping)
    }

    /// Maps `pages` pages of `file` from page number `first`. Whoever shortens the file meanwhile kills this process when
    /// it touches the rest.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn of_file(file: &File, first: u32, pages: usize) -> io::Result<Self> {
        let offset = i64::from(first) * PAGE_SIZE as i64;
        Self::map(pages, libc::MAP_SHARED, file.as_raw_fd(), offset)
    }

    /// The same, with the kernel told not to read ahead: each page that is missing is read alone.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn of_file_alone(file: &File, first: u32, pages: usize) -> io::Result<Self> {
        let mapping = Self::of_file(file, first, pages)?;
        mapping.advise(libc::MADV_RANDOM);
        Ok(mapping)
    }

    /// Maps `file`'s first `pages` pages to be read, and tells the kernel that they will be read at random. What is
    /// written to the mapping stays there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn of_file_at_random(file: &File, pages: usize) -> io::Result<Self> {
        let mapping = Self::map(pages, libc::MAP_PRIVATE, file.as_raw_fd(), 0)?;
        mapping.advise(libc::MADV_RANDOM);
        Ok(mapping)
    }

    /// Hints change speed only.
    fn advise(&self, advice: i32) {
        // Without it, only slower.
        let _ = self.ask(advice);
    }

    fn ask(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the range is this mapping, and the advices of this file change no content.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), self.length(), advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn map(pages: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Self> {
        let pages = pages.max(1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages.saturating_mul(PAGE_SIZE),
                protection,
                flags,
                fd,
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, pages })
    }

    fn length(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// All bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this long, initialised (zeros at least), and borrowed from `self` exclusively; who maps a
        // file sees to it that nobody else writes there meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length()) }
    }

    /// Page number `index`.
    ///
    /// # Panics
    /// Beyond the end.
    pub fn page(&mut self, index: usize) -> &mut [u8; PAGE_SIZE] {
        let (pages, _) = self.bytes().as_chunks_mut();
        &mut pages[index]
    }

    /// Has the kernel reclaim the pages that are in memory and that nobody else maps, as it would for want of memory.
    /// Dirty pages of files stay.
    pub fn reclaim(&mut self) {
        for page in self.bytes().chunks(PAGE_SIZE) {
            // Only what is mapped is looked at.
            std::hint::black_box(page[0]);
        }
        self.advise(libc::MADV_PAGEOUT);
    }

    /// The same, of the last page alone.
    pub fn reclaim_last(&mut self) {
        std::hint::black_box(self.page(self.pages - 1)[0]);
        self.advise(libc::MADV_PAGEOUT);
    }

    /// Has the kernel read what is swapped out, all of it at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bring_back(&self) -> io::Result<()> {
        self.ask(libc::MADV_WILLNEED)
    }

    /// Page number `index` alone goes out.
    ///
    /// # Panics
    /// Beyond the end.
    pub fn reclaim_one(&mut self, index: usize) {
        let page = self.page(index).as_mut_ptr();
        // SAFETY: a page of this mapping; the advice changes no content. Without it, the page stays.
        unsafe { libc::madvise(page.cast(), PAGE_SIZE, libc::MADV_PAGEOUT) };
    }

    /// Tells the kernel that this memory is what to take first.
    ///
    /// # Errors
    /// The kernel's.
    pub fn cool(&self) -> io::Result<()> {
        self.ask(libc::MADV_COLD)
    }

    /// Has all of it in memory, until it is unmapped.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, and no content changes.
        match unsafe { libc::mlock(self.start.as_ptr().cast(), self.length()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its address and length, in bytes, for who speaks of it to the kernel from another process.
    pub fn place(&self) -> (usize, usize) {
        (self.start.as_ptr().addr(), self.length())
    }

    /// Which pages are in memory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn resident(&self) -> io::Result<Vec<bool>> {
        let mut pages = vec![0_u8; self.pages];
        // SAFETY: the range is this mapping, and there is a byte for each of its pages.
        match unsafe {
            libc::mincore(
                self.start.as_ptr().cast(),
                self.length(),
                pages.as_mut_ptr(),
            )
        } {
            0 => Ok(pages.iter().map(|page| page & 1 == 1).collect()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping, which nothing borrows any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length()) };
    }
}
