//! The shortest ways known to tell that the driver fails to do something. Every run begins with them: what a random run on a
//! slow machine may not meet for minutes is met in seconds.

use super::operation::Operation;

/// Operations, one a line; on files of 128 pages, new ones for each.
const PROBES: &[(&str, &str)] = &[
    (
        "a hole is punched where the host holds pages that are not cached",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 punch 0+4\n0 read 0+4 buffered",
    ),
    (
        "a page is overwritten without having been read, and dropped",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 write 0+4 buffered durably\n0 forget\n0 read 0+4 buffered",
    ),
    (
        "the same, and the inode leaves memory with it",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 write 0+4 buffered durably\n0 uncache\n0 read 0+4 buffered",
    ),
    (
        "an inode number is used again",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 replace\n0 read 0+4 buffered",
    ),
    (
        "pages are written directly",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 write 0+4 direct\n0 read 0+4 buffered",
    ),
    (
        "a file is truncated inside a page and grows again",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 resize 9000\n0 resize 20000\n0 read 0+4 buffered",
    ),
    (
        // Windows are read into large folios, past the host; single pages are asked for.
        "large folios cover pages that the host holds",
        "0 write 0+32 buffered durably\n0 write 32+32 buffered durably\n0 write 64+32 buffered durably\n\
         0 write 96+32 buffered durably\n0 reclaim 0+32\n0 reclaim 32+32\n0 reclaim 64+32\n0 reclaim 96+32\n\
         0 read 0+32 buffered\n0 read 32+32 buffered\n0 read 64+32 buffered\n0 read 96+32 buffered\n\
         0 write 0+32 buffered\n0 write 32+32 buffered\n0 write 64+32 buffered\n0 write 96+32 buffered durably\n\
         0 forget\n0 read 101+1 buffered\n0 read 70+1 buffered\n0 read 41+1 buffered\n0 read 9+1 buffered\n0 read 0+32 buffered\n0 read 32+32 buffered\n0 read 64+32 buffered\n0 read 96+32 buffered",
    ),
    (
        "the disk changes while it is mounted read-only",
        "0 write 0+4 buffered durably\n0 write-below 0+4\n0 read 0+4 buffered",
    ),
    (
        "a part of the disk is zeroed while it is mounted read-only",
        "0 write 0+4 buffered durably\n0 zero-below 0+4\n0 read 0+4 buffered",
    ),
    (
        "a pool is made while a splice waits",
        "0 write 0+4 buffered durably\n0 idle-splice\n0 read 0+4 buffered\n0 reclaim 0+4\n0 read 0+4 buffered",
    ),
    (
        "the machine sleeps while the host holds pages",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 hibernate\n0 read 0+4 buffered\n0 write 0+4 direct\n0 read 0+4 buffered",
    ),
    (
        "the disk changes while it is not mounted",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 write-unmounted 0+4\n0 read 0+4 buffered\n\
         0 reclaim 0+4\n0 write-unmounted 0+4\n0 read 0+4 buffered",
    ),
    (
        "pages that came with one that was read alone are overwritten on the disk",
        "0 write 0+32 buffered durably\n0 reclaim 0+32\n0 read 0+4 alone\n0 write 4+4 direct\n0 read 0+32 alone\n\
         0 reclaim 0+32\n0 read 0+32 ring",
    ),
    (
        "data go through the journal, and no longer",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 journal\n0 write 0+4 buffered\n0 reclaim 0+4 durably\n\
         0 read 0+4 buffered\n0 write 0+4 buffered\n0 journal\n0 write 0+4 direct\n0 reclaim 0+4\n0 read 0+4 buffered",
    ),
    (
        "what another file has is written, and its blocks shared",
        "0 write 0+4 buffered durably\n1 write 0+4 buffered durably\n1 reclaim 0+4\n1 share 0+4 0\n1 read 0+4 buffered\n\
         0 write 0+4 buffered durably\n1 read 0+4 direct",
    ),
    (
        "the driver goes and comes back, and a page changes before it is asked for",
        "0 write 0+4 buffered durably\n0 reclaim 0+4\n0 reload\n0 write 0+4 buffered durably\n0 reclaim 0+4\n\
         0 read 0+4 buffered",
    ),
    // Of files that these are done to, nothing is put any more until the file system is mounted anew.
    (
        "two files exchange blocks, or share them",
        "0 write 0+4 buffered durably\n1 write 0+4 buffered durably\n1 reclaim 0+4\n0 reclaim 0+4\n0 exchange 0+4 1\n\
         0 read 0+4 buffered\n1 read 0+4 buffered",
    ),
    (
        "two files exchange blocks while pages of both are cached",
        "0 write 0+4 buffered durably\n1 write 0+4 buffered durably\n0 exchange 0+4 1\n0 read 0+4 buffered",
    ),
    ("a file is swapped to", "0 swap-to"),
];

/// What each is about, and its operations.
pub fn all() -> impl Iterator<Item = (&'static str, Vec<Operation>)> {
    PROBES.iter().map(|(about, script)| {
        // A test reads them all.
        let operations = script.lines().filter_map(|line| line.parse().ok());
        (*about, operations.collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_an_operation() {
        for ((about, script), (_, operations)) in PROBES.iter().zip(all()) {
            assert_eq!(script.lines().count(), operations.len(), "{about}");
        }
    }
}
