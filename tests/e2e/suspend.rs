//! A guest that sleeps, and wakes up.

use crate::Case;
use crate::driver::tools;
use crate::host::Guest;

pub const CASES: &[Case] = &[Case {
    name: "suspend::what_is_at_the_host_comes_home_before_a_guest_hibernates",
    needs_guests: true,
    alone: false,
    run: hibernates,
}];

const MIB: u64 = 1 << 20;

fn guest() -> Guest {
    Guest::new("256M", 2).tmem("400M", "swap_lower=/dev/vdb")
}

/// A guest with swapped pages and page cache at the host writes an image of itself to swap, and ends. Another one, of another VMM,
/// reads that, and goes on as the first.
fn hibernates() {
    let slept = guest()
        .ext4_disk(256 * MIB, "none")
        .empty_disk(700 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda")
        // In braces the shell reads it to its end at once: the disk is another's when it goes on.
        .run(&format!(
            "{{\n{}\
             mkswap /dev/vtmemswap0 >/dev/null && swapon /dev/vtmemswap0 || exit 1\n\
             files write && files check && files check || exit 2\n\
             mount -t tmpfs -o size=220m big /mnt\n\
             big() {{ vtmem-work $1 --count 200 --dir /mnt/files || exit $2; }}\n\
             big write 3; big check 4\n\
             stores=$(counter swap_stores); hits=$(counter hits)\n\
             echo asleep=$stores; echo shutdown >/sys/power/disk; echo disk >/sys/power/state || exit 5\n\
             echo homed=$(counter swap_homed)\n\
             big check 6; files check && files check || exit 7\n\
             echo stores=$(($(counter swap_stores) - stores)); echo hits=$(($(counter hits) - hits))\n\
             grep -q 'vda ext4 on' /sys/kernel/debug/virtio_tmem/mounts || exit 8\n\
             [ $(counter broken) = 0 ] && [ $(counter swap_lost) = 0 ] || exit 9\n\
             rm -r /mnt/files; umount /mnt; swapoff /dev/vtmemswap0 || exit 10\n\
             umount /data && rmmod virtio_tmem || exit 11\n\
             no_complaints || exit 12\n\
             echo awake=1\n}}\n",
            tools()
        ));
    assert_eq!(slept.status(), Some(0), "{}", slept.console());
    assert!(slept.number("asleep") > 1000, "{}", slept.console());
    assert!(
        !slept.console().contains("vtmem-exit"),
        "{}",
        slept.console()
    );

    let woken = guest()
        .disk(&slept.disk_path(0), "cache=none")
        .disk(&slept.disk_path(1), "cache=none")
        .run("cat /sys/block/vtmemswap0/dev >/sys/power/resume; dmesg | tail -20; exit 99\n");
    woken.succeeded();
    assert_eq!(woken.number("awake"), 1);
    // What was used before came home, and is used again.
    assert!(woken.number("homed") > 1000, "{}", woken.console());
    assert!(woken.number("stores") > 1000, "{}", woken.console());
    assert!(woken.number("hits") > 1000, "{}", woken.console());
}
