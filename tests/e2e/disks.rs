//! virtio-blk under every cache mode: what the guest wrote is on the disk, what it may not write is
//! not.

use crate::Case;
use crate::host::Guest;

pub const CASES: &[Case] = &[Case {
    name: "disks::every_cache_mode_keeps_what_was_synced",
    needs_guests: true,
    alone: false,
    run: every_cache_mode_keeps_what_was_synced,
}];

const MIB: u64 = 1 << 20;

fn every_cache_mode_keeps_what_was_synced() {
    let run = Guest::new("128M", 2)
        .empty_disk(8 * MIB, "none")
        .empty_disk(8 * MIB, "writethrough")
        .empty_disk(8 * MIB, "writeback")
        .run(
            "for d in a b c; do\n\
               seq 1 400000 | head -c 2097152 | tr '\\n' $d > /tmp/$d\n\
               dd if=/tmp/$d of=/dev/vd$d bs=64k seek=16 conv=fsync 2>/dev/null || exit 1\n\
               echo 3 > /proc/sys/vm/drop_caches\n\
               dd if=/dev/vd$d bs=64k skip=16 count=32 2>/dev/null | cmp - /tmp/$d || exit 2\n\
               echo $d:$(cat /sys/block/vd$d/queue/write_cache)\n\
             done\n\
             echo x 2>/dev/null > /dev/vdd && exit 3\n\
             [ $(cat /sys/block/vdd/ro) = 1 ] || exit 4\n",
        );
    let console = run.succeeded();
    for (disk, seen) in [
        ("a", "write back"),
        ("b", "write through"),
        ("c", "write back"),
    ] {
        let line = format!("{disk}:{seen}");
        assert!(console.contains(&line), "{line:?} is not in:\n{console}");
    }
    let numbers: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    for (n, letter) in [(0, 'a'), (1, 'b'), (2, 'c')] {
        let want = numbers[..2 * MIB as usize].replace('\n', &letter.to_string());
        let disk = run.disk(n);
        let (head, rest) = disk.split_at(MIB as usize);
        let (body, tail) = rest.split_at(2 * MIB as usize);
        assert!(
            body == want.as_bytes(),
            "disk {letter} differs from what its guest wrote"
        );
        assert!(
            head.iter().chain(tail).all(|&byte| byte == 0),
            "disk {letter}: stray writes"
        );
    }
}
