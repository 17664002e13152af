//! The guest driver's life: loaded, used, refused, unloaded, without a wrong byte or a warning.

use crate::Case;
use crate::host::Guest;

pub const CASES: &[Case] = &[
    Case {
        name: "driver::unload_under_use_is_clean",
        needs_guests: true,
        alone: false,
        run: unload_is_clean,
    },
    Case {
        name: "driver::host_that_refuses_all",
        needs_guests: true,
        alone: false,
        run: host_that_refuses_all,
    },
    Case {
        name: "driver::reboot_with_pages_held",
        needs_guests: true,
        alone: false,
        run: reboot_with_pages,
    },
    Case {
        name: "driver::bounce_buffers_may_be_short",
        needs_guests: true,
        alone: false,
        run: bounce_buffers,
    },
    Case {
        name: "driver::bulk_swap_in_kills_nobody",
        needs_guests: true,
        alone: false,
        run: bulk_swap_in,
    },
    Case {
        name: "driver::takes_a_hundredth_of_memory_at_most",
        needs_guests: true,
        alone: false,
        run: takes_little_memory,
    },
];

const MIB: u64 = 1 << 20;
/// Files that together are larger than the guest's memory, in MiB.
const FILES: u32 = 110;

/// Shell functions that the scripts share: those files, whether they hold what they should, the
/// driver's counters, and what the kernel had to complain about.
pub fn tools() -> String {
    format!(
        "files() {{ vtmem-work $1 --count {FILES} --dir /data/files; }}\n\
         counter() {{ cat /sys/kernel/debug/virtio_tmem/$1; }}\n\
         no_complaints() {{ ! dmesg | grep -E \
         'BUG|WARNING|Oops|Call Trace|I/O error|virtio_tmem.*(error|broken|off until)'; }}\n"
    )
}

fn unload_is_clean() {
    let run = Guest::new("96M", 2)
        .ext4_disk(256 * MIB, "none")
        .empty_disk(128 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=/dev/vdb")
        .tmem("192M", "")
        .run(&format!(
            "{}\
             files write && files check || exit 1\n\
             grep -q vtmemswap0 /proc/swaps || exit 2\n\
             rmmod virtio_tmem 2>/dev/null && exit 3\n\
             swapoff /dev/vtmemswap0 || exit 4\n\
             (while [ ! -f /tmp/stop ]; do files check || touch /tmp/wrong; done) & reader=$!\n\
             sleep 1; rmmod virtio_tmem || exit 5\n\
             touch /tmp/stop; wait $reader; [ ! -f /tmp/wrong ] || exit 6\n\
             files check || exit 7\n\
             insmod /modules/virtio_tmem.ko || exit 8\n\
             files check && files check || exit 9\n\
             echo hits=$(counter hits)\n\
             umount /data && mount -t ext4 /dev/vda /data || exit 10\n\
             files check || exit 11\n\
             umount /data && rmmod virtio_tmem || exit 12\n\
             no_complaints || exit 13\n",
            tools()
        ));
    run.succeeded();
    assert!(
        run.number("hits") > 1000,
        "the driver, loaded anew, hardly ever hit:\n{}",
        run.console()
    );
}

fn host_that_refuses_all() {
    let run = Guest::new("96M", 2)
        .ext4_disk(256 * MIB, "none")
        .empty_disk(128 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=/dev/vdb")
        .tmem("0", "")
        .run(&format!(
            "{}\
             files write && files check && files check || exit 1\n\
             mount -t tmpfs -o size=90m big /mnt\n\
             vtmem-work write --count 80 --dir /mnt/files || exit 2\n\
             vtmem-work check --count 80 --dir /mnt/files || exit 3\n\
             echo swapped=$(sed -n 's/pswpout //p' /proc/vmstat)\n\
             echo hits=$(counter hits)\n\
             echo puts=$(counter puts)\n\
             echo refused=$(counter puts_refused)\n\
             rm -r /mnt/files; umount /mnt; swapoff /dev/vtmemswap0 || exit 4\n\
             no_complaints || exit 5\n",
            tools()
        ));
    run.succeeded();
    assert!(
        run.number("swapped") > 1000,
        "nothing was swapped, so nothing was refused"
    );
    assert_eq!(run.number("hits"), 0);
    // Those still on their way have no answer yet: 8 batches of 64 pages at most.
    let (puts, refused) = (run.number("puts"), run.number("refused"));
    assert!(
        refused > 1000 && puts - refused <= 512,
        "{puts} puts, {refused} refused"
    );
}

fn reboot_with_pages() {
    let run = Guest::new("96M", 1)
        .ext4_disk(256 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=none")
        .tmem("192M", "")
        .run(&format!(
            "{} files write; files check; files check || exit 1\n\
             [ $(counter hits) -gt 1000 ] || exit 2\n\
             reboot -f\n",
            tools()
        ));
    assert_eq!(run.status(), Some(3), "{}", run.console());
}

/// Whatever the device is to see is copied to 1 MiB of the guest's memory, which is less than there is under way: who finds no room
/// there waits for what the host has to be answered.
fn bounce_buffers() {
    let run = Guest::new("128M", 2)
        .ext4_disk(256 * MIB, "none")
        .empty_disk(256 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=/dev/vdb swiotlb=512,force")
        .tmem("256M", "staging_kb=4096")
        .args(&["--tmem-access-platform"])
        .run(&format!(
            "{}\
             files write && files check && files check || exit 1\n\
             for seed in 1 2; do\n\
             vtmem-work swap-in --mem {} --rounds 2 --seed $seed & done; wait\n\
             files check || exit 2\n\
             [ $(counter broken) = 0 ] && [ $(counter swap_lost) = 0 ] || exit 3\n\
             echo hits=$(counter hits)\n\
             echo short=$(dmesg | grep -c 'swiotlb buffer is full')\n\
             no_complaints || exit 4\n",
            tools(),
            64 * MIB
        ));
    run.succeeded();
    assert!(run.number("hits") > 10_000, "{}", run.console());
    assert!(
        run.number("short") > 0,
        "there was always room, so that nobody waited"
    );
}

/// Three quarters of the guest's memory go out to swap and are asked for again at once, nine times.
fn bulk_swap_in() {
    let run = Guest::new("200M", 2)
        .empty_disk(700 * MIB, "none")
        .cmdline("vtmem.swap=/dev/vda")
        .tmem("700M", "")
        .run(&format!(
            "{}\
             for seed in 1 2 3; do\n\
             vtmem-work swap-in --mem {} --rounds 3 --seed $seed || exit 1\n\
             done\n\
             echo hits=$(counter hits)\n\
             echo deferred=$(counter swap_deferred)\n\
             ! dmesg | grep -iE 'oom-kill|out of memory' || exit 2\n\
             no_complaints || exit 3\n",
            tools(),
            150 * MIB
        ));
    run.succeeded();
    assert!(
        run.number("hits") > 100_000,
        "swap hardly came from the host:\n{}",
        run.console()
    );
    assert_eq!(
        run.number("deferred"),
        0,
        "the host refused nothing, so no read, and no locked page, has to wait for a worker"
    );
}

/// Without the driver, with it at rest, while 8 vCPUs swap, and when they have ceased to: what is
/// missing of the guest's memory, and what the driver says itself.
fn takes_little_memory() {
    const MEMORY: u64 = 256 * MIB;
    // Free pages on the lists of eight CPUs, up to 2 MiB, are not in MemAvailable, and how many there are is chance.
    // Each loading is held against what there was before and after it, since the kernel's caches grow all the while.
    let run = Guest::new("256M", 8)
        .empty_disk(MEMORY, "none")
        .tmem("256M", "")
        .run(&format!(
            "{}\
             available() {{\n\
             best=0\n\
             for look in 1 2; do\n\
             echo 3 >/proc/sys/vm/drop_caches; sleep 1\n\
             echo 1 >/proc/sys/vm/stat_refresh\n\
             now=$(sed -n 's/MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)\n\
             now=$((now + $(awk '/ count:/ {{ n += $2 }} END {{ print n * 4 }}' /proc/zoneinfo)))\n\
             [ $now -le $best ] || best=$now\n\
             done\n\
             echo $best\n\
             }}\n\
             total=0\n\
             for round in 0 1 2 3; do\n\
             rmmod virtio_tmem || exit 1\n\
             now=$(available); echo round $round without $now\n\
             [ $round = 0 ] || total=$((total + (before + now) / 2 - loaded))\n\
             before=$now\n\
             insmod /modules/virtio_tmem.ko swap_lower=/dev/vda || exit 2\n\
             loaded=$(available); echo round $round with $loaded\n\
             done\n\
             echo missing=$((total / 3))\n\
             rest=$(counter memory_bytes); echo rest=$rest\n\
             mkswap /dev/vtmemswap0 >/dev/null && swapon /dev/vtmemswap0 || exit 3\n\
             for cpu in 1 2 3 4 5 6 7 8; do\n\
             vtmem-work swap-in --mem {} --rounds 2 --seed $cpu >/dev/null & done\n\
             most=0\n\
             while pidof vtmem-work >/dev/null; do\n\
             now=$(counter memory_bytes); [ $now -le $most ] || most=$now; usleep 50000\n\
             done\n\
             echo most=$most\n\
             for second in $(seq 60); do\n\
             after=$(counter memory_bytes); [ $after -gt $rest ] || break; sleep 1\n\
             done\n\
             echo after=$after\n\
             echo puts=$(counter puts)\n\
             no_complaints || exit 4\n",
            tools(),
            24 * MIB
        ));
    run.succeeded();
    assert!(run.number("puts") > 10_000, "{}", run.console());
    let (rest, most) = (run.number("rest"), run.number("most"));
    let missing = run.number("missing") << 10;
    assert!(
        most > rest,
        "{most} bytes while it was busy, {rest} before: nothing was added"
    );
    assert_eq!(
        run.number("after"),
        rest,
        "what was added was not given back"
    );
    let bound = MEMORY / 100;
    assert!(
        missing + most - rest <= bound,
        "{missing} bytes less were available with the driver, {} more while it was busy, {bound} at most:\n{}",
        most - rest,
        run.console()
    );
}
