use super::*;

const LENGTH: usize = 4096;

/// Pages that were written to, each a mapping of its own, with a gap behind it.
fn pages(count: usize) -> Vec<Range> {
    let map = || {
        // SAFETY: a new private anonymous mapping, anywhere; it stays until the process ends.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED);
        let begin = NonNull::new(memory.cast::<u8>()).expect("not null");
        // SAFETY: the second half of the mapping, which nobody uses.
        let protected = unsafe { libc::mprotect(memory.byte_add(LENGTH), LENGTH, libc::PROT_NONE) };
        assert_eq!(protected, 0);
        // SAFETY: the first byte of the mapping.
        unsafe { begin.write_volatile(1) };
        Range {
            begin,
            length: LENGTH,
        }
    };
    (0..count).map(|_| map()).collect()
}

fn first_byte(range: Range) -> u8 {
    // SAFETY: the first byte of one of the mappings.
    unsafe { range.begin.read_volatile() }
}

/// Keeps the thread on its processor: what the kernel has not yet sorted into its lists waits by processor.
fn stay() {
    // SAFETY: an all-zero set is an empty one, and outlives the call; the processor is one that there is.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    assert_eq!(result, 0);
}

/// Asks the kernel to reclaim pages now; from how many it took what was in them, which it does if they were offered.
fn taken(pages: &[Range]) -> usize {
    for page in pages {
        // SAFETY: a mapping of this test's.
        unsafe { libc::madvise(page.begin.as_ptr().cast(), LENGTH, libc::MADV_PAGEOUT) };
    }
    pages.iter().filter(|page| first_byte(**page) == 0).count()
}

/// Asks range by range, as of a kernel before 6.13.
fn old() -> Reclaim {
    Reclaim {
        own: None,
        one_by_one: AtomicBool::new(true),
        ..Reclaim::new()
    }
}

#[test]
fn what_is_offered_waits_for_others_and_is_offered_with_them() {
    stay();
    let reclaim = Reclaim::new();
    let pages = pages(TOGETHER);
    let (last, first) = pages.split_last().expect("some");
    for page in first {
        // SAFETY: nobody uses them but this test, which reads them for what they are.
        unsafe { reclaim.offer(*page) };
    }
    let one_by_one = reclaim.one_by_one.load(Relaxed);
    let waiting = reclaim.lock().len();
    assert_eq!(waiting, if one_by_one { 0 } else { first.len() });
    if !one_by_one {
        assert_eq!(taken(&pages), 0, "offered before its time");
    }
    // SAFETY: as above.
    unsafe { reclaim.offer(*last) };
    assert!(reclaim.lock().is_empty());
    assert_eq!(taken(&pages), TOGETHER);
}

#[test]
fn what_was_withdrawn_is_not_offered() {
    stay();
    let reclaim = Reclaim::new();
    let pages = pages(TOGETHER + 1);
    // SAFETY: nobody uses them but this test.
    unsafe { reclaim.offer(pages[0]) };
    reclaim.withdraw(pages[0]);
    // SAFETY: the first byte of the mapping.
    unsafe { pages[0].begin.write_volatile(2) };
    for page in &pages[1..] {
        // SAFETY: as above.
        unsafe { reclaim.offer(*page) };
    }
    assert_eq!(taken(&pages[1..]), TOGETHER);
    assert_eq!(taken(&pages[..1]), 0);
    assert_eq!(first_byte(pages[0]), 2);
}

#[test]
fn an_old_kernel_is_asked_range_by_range() {
    stay();
    let reclaim = old();
    let pages = pages(3);
    for (before, page) in pages.iter().enumerate() {
        assert_eq!(reclaim.lock().len(), 0, "{before} pages were offered");
        // SAFETY: nobody uses them but this test.
        unsafe { reclaim.offer(*page) };
    }
    assert_eq!(taken(&pages), 3);
}

#[test]
fn what_is_returned_reads_as_zeros() {
    for reclaim in [Reclaim::new(), old()] {
        let pages = pages(5);
        // SAFETY: nobody uses them but this test.
        unsafe { reclaim.discard(&pages[1..]) };
        let bytes: Vec<_> = pages.iter().map(|page| first_byte(*page)).collect();
        assert_eq!(bytes, [1, 0, 0, 0, 0]);
    }
}
