//! The guest driver's life: loaded, used, refused, unloaded, without a wrong byte or a warning.

use crate::Case;
use crate::host::Guest;

pub const CASES: &[Case] = &[
    Case {
        name: "driver::unload_under_use_is_clean",
        needs_guests: true,
        run: unload_is_clean,
    },
    Case {
        name: "driver::host_that_refuses_all",
        needs_guests: true,
        run: host_that_refuses_all,
    },
    Case {
        name: "driver::reboot_with_pages_held",
        needs_guests: true,
        run: reboot_with_pages,
    },
];

const MIB: u64 = 1 << 20;

/// Shell functions that the scripts share: files larger than the guest's memory, their checksums, and
/// what the kernel had to complain about.
const TOOLS: &str = "\
make_files() { for n in 1 2 3 4 5 6; do seq $n $n 9999999 | head -c 25000000 > /data/f$n; done; sync; }\n\
sums() { cat /data/f1 /data/f2 /data/f3 /data/f4 /data/f5 /data/f6 | md5sum; }\n\
no_complaints() { ! dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|I/O error|virtio_tmem.*(error|broken)'; }\n";

fn unload_is_clean() {
    let run = Guest::new("160M", 2)
        .ext4_disk(512 * MIB, "none")
        .empty_disk(256 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=/dev/vdb")
        .tmem("192M", "")
        .run(&format!(
            "{TOOLS}\
             make_files; want=$(sums)\n\
             [ \"$(sums)\" = \"$want\" ] || exit 1\n\
             grep -q vtmemswap0 /proc/swaps || exit 2\n\
             rmmod virtio_tmem 2>/dev/null && exit 3\n\
             swapoff /dev/vtmemswap0 || exit 4\n\
             (while [ ! -f /tmp/stop ]; do sums; done > /tmp/seen) & reader=$!\n\
             rmmod virtio_tmem || exit 5\n\
             touch /tmp/stop; wait $reader\n\
             [ $(sort -u /tmp/seen | wc -l) = 1 ] || exit 6\n\
             [ \"$(sums)\" = \"$want\" ] || exit 7\n\
             insmod $(find / -name virtio_tmem.ko -xdev | head -1) || exit 8\n\
             [ \"$(sums)\" = \"$want\" ] && [ \"$(sums)\" = \"$want\" ] || exit 9\n\
             hits=$(cat /sys/kernel/debug/virtio_tmem/hits); echo hits=$hits\n\
             umount /data && mount /dev/vda /data || exit 10\n\
             [ \"$(sums)\" = \"$want\" ] || exit 11\n\
             no_complaints || exit 12\n"
        ));
    run.succeeded();
    assert!(
        run.number("hits") > 0,
        "the driver, loaded anew, never hit:\n{}",
        run.console()
    );
}

fn host_that_refuses_all() {
    let run = Guest::new("160M", 2)
        .ext4_disk(512 * MIB, "none")
        .empty_disk(256 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=/dev/vdb")
        .tmem("0", "")
        .run(&format!(
            "{TOOLS}\
             make_files; want=$(sums)\n\
             [ \"$(sums)\" = \"$want\" ] || exit 1\n\
             mount -t tmpfs -o size=200m big /mnt\n\
             cat /data/f1 /data/f2 /data/f3 /data/f4 /data/f5 /data/f6 > /mnt/all || exit 2\n\
             [ \"$(md5sum < /mnt/all)\" = \"$want\" ] || exit 3\n\
             echo swapped=$(sed -n 's/pswpout //p' /proc/vmstat)\n\
             echo hits=$(cat /sys/kernel/debug/virtio_tmem/hits)\n\
             rm /mnt/all; umount /mnt; swapoff /dev/vtmemswap0 || exit 4\n\
             no_complaints || exit 5\n"
        ));
    run.succeeded();
    assert!(
        run.number("swapped") > 1000,
        "nothing was swapped, so nothing was refused"
    );
    assert_eq!(run.number("hits"), 0);
}

fn reboot_with_pages() {
    let run = Guest::new("160M", 1)
        .ext4_disk(512 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=none")
        .tmem("192M", "")
        .run(&format!("{TOOLS} make_files; sums; sums; reboot -f\n"));
    assert_eq!(run.status(), Some(3), "{}", run.console());
}
