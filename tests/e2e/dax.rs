//! Files that are read and written past the page cache, for a while.

use crate::Case;
use crate::driver::tools;
use crate::host::Guest;

pub const CASES: &[Case] = &[Case {
    name: "dax::what_a_file_had_before_is_not_the_hosts_afterwards",
    needs_guests: true,
    alone: false,
    run: had_before,
}];

/// ext4 on memory that is a disk; the file's pages are at the host when it becomes DAX.
fn had_before() {
    let run = Guest::new("256M", 1)
        .modules(&["nd_e820", "nd_pmem"])
        .cmdline("memmap=64M!160M vtmem.swap=none")
        .tmem("64M", "admission=always")
        .run(&format!(
            "{}\
             mke2fs -b 4096 /dev/pmem0 >/dev/null 2>&1 && mount -t ext4 /dev/pmem0 /mnt || exit 1\n\
             echo +/mnt >/sys/kernel/debug/virtio_tmem/mounts || exit 2\n\
             vtmem-work dax --dir /mnt || exit 3\n\
             echo puts=$(counter puts)\n\
             no_complaints || exit 4\n",
            tools()
        ));
    run.succeeded();
    assert!(run.number("puts") >= 64, "{}", run.console());
    assert_eq!(run.number("wrong"), 0);
}
