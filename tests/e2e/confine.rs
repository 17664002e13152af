//! What is left to the VMM once a guest runs: looked at from the host, which in the lab is ours to look at.

use std::fs;
use std::process::Command;

use crate::Case;
use crate::host::{Finished, vtmem};

pub const CASES: &[Case] = &[
    Case {
        name: "confine::every_thread_is_confined",
        needs_guests: true,
        alone: false,
        run: every_thread_is_confined,
    },
    Case {
        name: "confine::a_guest_makes_no_call_that_is_not_listed",
        needs_guests: true,
        alone: false,
        run: a_guest_makes_no_call_that_is_not_listed,
    },
];

/// Runs a script on the lab's host, with the default guest's files in /in and a guest's options in $guest: two vCPUs, a disk of each
/// kind, and tmem under a governor.
fn on_the_labs_host(script: &str) -> Finished {
    let images = vtmem(&["images", "build"]);
    let place = |what: &str| {
        let line = images
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(what));
        line.expect("built before the tests").trim().to_owned()
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = dir.path().join("disk");
    let file = fs::File::create(&disk).expect("create the disk");
    file.set_len(64 << 20).expect("size the disk");
    let made = Command::new("/usr/sbin/mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
        .arg(&disk)
        .status()
        .expect("mke2fs, of the package e2fsprogs");
    assert!(made.success(), "mke2fs failed");
    let script = format!(
        "dd if=/dev/zero of=/tmp/file bs=1M count=16 2>/dev/null
         guest='--kernel /in/kernel --initrd /in/initrd --mem 128M --cpus 2 --tmem size=64M,min=16M \
                --disk path=/dev/vda,cache=none --disk path=/tmp/file,cache=writethrough --disk path=/dev/nullb0'
         {script}"
    );
    vtmem(&[
        "lab",
        "--disk",
        &disk.display().to_string(),
        "--null-disk",
        "name=nullb0,size=16M",
        "--file",
        &format!("{}:/in/kernel", place("guest kernel")),
        "--file",
        &format!("{}:/in/initrd", place("guest initrd")),
        "--",
        "sh",
        "-c",
        &script,
    ])
}

/// Every thread of a running VMM has a filter and no way to new privileges; and the kernel here has Landlock, or there would be
/// a warning.
fn every_thread_is_confined() {
    let done = on_the_labs_host(
        "vtmem run $guest --cmdline 'console=ttyS0 quiet vtmem.tmem=1 vtmem.exec=\"echo is-up; sleep 1000\"' \
             >/tmp/console </dev/null &
         pid=$!
         until grep -q is-up /tmp/console; do kill -0 $pid || exit 9; sleep 0.1; done
         for task in /proc/$pid/task/*; do
             echo \"thread $(cat $task/comm) $(sed -n 's/^NoNewPrivs:.//p; s/^Seccomp:.//p' $task/status | tr '\\n' ' ')\"
         done
         echo \"owner $(stat -c %u /proc/$pid/maps)\"
         kill $pid; wait $pid; echo \"status $?\"",
    );
    let threads: Vec<_> = done
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("thread "))
        .collect();
    for name in [
        "vtmem",
        "blk-vda",
        "blk-vdb",
        "blk-vdc",
        "virtio-tmem",
        "governor",
        "signals",
        "serial-input",
        "vcpu0",
        "vcpu1",
    ] {
        // The thread of the serial input ends with its input.
        let expected = format!("{name} 1 2");
        let found = threads.iter().any(|thread| thread.trim() == expected);
        assert!(
            found || name == "serial-input",
            "{name} in {threads:?}\n{}",
            done.stderr
        );
    }
    assert!(
        threads.iter().all(|thread| thread.trim().ends_with(" 1 2")),
        "{threads:?}"
    );
    assert!(done.stdout.contains("status 143"), "{}", done.stdout);
    assert!(!done.stderr.contains("not restricted"), "{}", done.stderr);
}

/// A call that no list has would end the VMM by SIGSYS: none comes, from boot to power-off, with disks of every cache mode, swap, page
/// cache, marks and the governor at work.
fn a_guest_makes_no_call_that_is_not_listed() {
    let done = on_the_labs_host(
        "cat >/tmp/script <<'END'
mkdir -p /mnt; mount -t ext4 /dev/vda /mnt || exit 1
for round in 1 2 3; do
    dd if=/dev/urandom of=/mnt/file bs=1M count=20 2>/dev/null || exit 1
    md5sum /mnt/file >/mnt/sum; sync; echo 3 >/proc/sys/vm/drop_caches; md5sum -c /mnt/sum >/dev/null || exit 1
done
dd if=/dev/zero of=/dev/vdb bs=64k count=64 conv=fsync 2>/dev/null || exit 1
dd if=/dev/vdc of=/dev/null bs=64k 2>/dev/null || exit 1
umount /mnt
END
         dd if=/tmp/script of=/tmp/disk bs=4096 conv=sync 2>/dev/null
         for confinement in on log; do
             vtmem run $guest --confinement $confinement --marks /tmp/marks --disk path=/tmp/disk,readonly \
                 --cmdline 'console=ttyS0 quiet vtmem.tmem=1 vtmem.exec=\"sh /dev/vdd\"' </dev/null
             echo \"$confinement ends with $?\"
         done",
    );
    let said = format!("{}\n{}", done.stdout, done.stderr);
    assert_eq!(done.stdout.matches("vtmem-exit: 0").count(), 2, "{said}");
    for confinement in ["on", "log"] {
        assert!(
            done.stdout.contains(&format!("{confinement} ends with 0")),
            "{said}"
        );
    }
}
