//! What a file system's taking part may cost others: nobody waits for it, and no user's failed request ends it.

use crate::Case;
use crate::driver::tools;
use crate::host::Guest;

pub const CASES: &[Case] = &[
    Case {
        name: "mounts::nobody_waits_for_a_pool_that_is_made",
        needs_guests: true,
        alone: false,
        run: nobody_waits_for_a_pool,
    },
    Case {
        name: "mounts::writes_that_submit_nothing_cost_nothing",
        needs_guests: true,
        alone: false,
        run: writes_that_submit_nothing,
    },
];

const MIB: u64 = 1 << 20;
/// Longer than anything takes that does not hang, in seconds of the guest.
const PATIENCE: u32 = 60;

/// A splice that waits holds the protection against freezing, and a frozen file system is not written to: neither keeps others from
/// writing, unmounting, or unloading the driver.
fn nobody_waits_for_a_pool() {
    let run = Guest::new("96M", 2)
        .ext4_disk(64 * MIB, "none")
        .ext4_disk(64 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=none")
        .tmem("64M", "")
        .run(&format!(
            "{}\
             mounts=/sys/kernel/debug/virtio_tmem/mounts\n\
             state() {{ sed -n \"s/^$1 ext4 \\\\([a-z]*\\\\) .*/\\\\1/p\" $mounts; }}\n\
             soon() {{ for second in $(seq {PATIENCE}); do [ \"$(state $1)\" = $2 ] && return; sleep 1; done; false; }}\n\
             mkdir -p /other && mount -t ext4 /dev/vdb /other && echo other >/other/file || exit 1\n\
             echo data >/data/file; sync; echo 3 >/proc/sys/vm/drop_caches\n\
             vtmem-work idle-splice --file /data/spliced >/tmp/said & splice=$!\n\
             until grep -q splicing /tmp/said; do sleep 1; done; sleep 1\n\
             timeout {PATIENCE} rmmod virtio_tmem || exit 2\n\
             insmod /modules/virtio_tmem.ko || exit 3\n\
             cat /data/file >/dev/null\n\
             timeout {PATIENCE} sh -c 'echo written >/data/written' || exit 4\n\
             soon vda on || exit 5\n\
             echo 3 >/proc/sys/vm/drop_caches; timeout {PATIENCE} rmmod virtio_tmem || exit 6\n\
             kill $splice\n\
             insmod /modules/virtio_tmem.ko || exit 7\n\
             fsfreeze --freeze /data || exit 8\n\
             (echo +/data >$mounts) & sleep 2\n\
             timeout {PATIENCE} umount /other || exit 9\n\
             timeout {PATIENCE} rmmod virtio_tmem || exit 10\n\
             fsfreeze --unfreeze /data || exit 11\n\
             no_complaints || exit 12\n",
            tools()
        ));
    run.succeeded();
}

/// Any user may ask for direct writes that are not aligned: they fail before anything is written, and the file is kept as before.
fn writes_that_submit_nothing() {
    let run = Guest::new("96M", 2)
        .ext4_disk(256 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=none")
        .tmem("192M", "")
        .run(&format!(
            "{}\
             files write && files check && files check || exit 1\n\
             vtmem-work misaligned --dir /data/files || exit 2\n\
             files check || exit 3\n\
             before=$(counter hits)\n\
             files check || exit 4\n\
             echo hits=$(($(counter hits) - before))\n\
             no_complaints || exit 5\n",
            tools()
        ));
    run.succeeded();
    assert!(
        run.number("hits") > 5000,
        "files are hardly kept any more after requests that failed:\n{}",
        run.console()
    );
}
