//! What is left to the VMM once a guest runs: looked at from the host, which in the lab is ours to look at.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Case;
use crate::host::{Finished, binary, eventually, guest_image, vtmem};

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
    Case {
        name: "confine::no_request_makes_a_call_that_is_not_listed",
        needs_guests: true,
        alone: false,
        run: no_request_makes_a_call_that_is_not_listed,
    },
    Case {
        name: "confine::nobody_is_served_by_a_thread_without_a_filter",
        needs_guests: false,
        alone: false,
        run: nobody_is_served_by_a_thread_without_a_filter,
    },
];

/// Runs a script on the lab's host, with the default guest's files in /in and a guest's options in $guest: two vCPUs, a disk of each
/// kind, and tmem under a governor.
fn on_the_labs_host(script: &str) -> Finished {
    let (kernel, initrd) = guest_image(&[]);
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
        &format!("{kernel}:/in/kernel"),
        "--file",
        &format!("{initrd}:/in/initrd"),
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
mkdir -p /mnt /hog; mount -t ext4 /dev/vda /mnt && mount -t tmpfs -o size=60m hog /hog || exit 1
for round in 1 2 3; do
    dd if=/dev/urandom of=/mnt/file bs=1M count=40 2>/dev/null || exit 1
    md5sum /mnt/file >/mnt/sum; sync
    # What else is in memory makes way.
    dd if=/dev/zero of=/hog/file bs=1M count=50 2>/dev/null; rm /hog/file; md5sum -c /mnt/sum >/dev/null || exit 1
done
dd if=/dev/zero of=/dev/vdb bs=64k count=64 conv=fsync 2>/dev/null || exit 1
dd if=/dev/vdc of=/dev/null bs=64k 2>/dev/null || exit 1
umount /mnt
cd /sys/kernel/debug/virtio_tmem
echo hits=$(cat hits) puts=$(cat puts)
[ $(cat hits) -gt 1000 ] || exit 2
END
         dd if=/tmp/script of=/tmp/disk bs=4096 conv=sync 2>/dev/null
         for confinement in on log; do
             vtmem run $guest --confinement $confinement --marks /tmp/marks --disk path=/tmp/disk,readonly \
                 --cmdline 'console=ttyS0 quiet vtmem.tmem=1 vtmem.tmem_args=admission=always vtmem.exec=\"sh /dev/vdd\"' </dev/null
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

/// From the first answer on, while the machine waits for its configuration, and when it runs: only the thread that starts machines, and
/// otherwise waits, has no filter.
fn nobody_is_served_by_a_thread_without_a_filter() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("api").display().to_string();
    let mut vmm = Command::new(binary())
        .args(["run", "--accel", "kvm", "--api-socket", &socket])
        .stdin(Stdio::null())
        .spawn()
        .expect("start vtmem run");
    let served = || vtmem(&["ctl", "--api-socket", &socket, "vm"]).status == Some(0);
    let answered = eventually(Duration::from_secs(60), served);
    let tasks = fs::read_dir(format!("/proc/{}/task", vmm.id())).expect("it runs");
    let mut threads: Vec<_> = tasks
        .map(|task| {
            let task = task.expect("a thread").path();
            let read = |file: &str| fs::read_to_string(task.join(file)).expect("it runs");
            let (name, status) = (read("comm"), read("status"));
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.expect("a kernel with filters").trim().to_owned()
            };
            let (privileges, filter) = (field("NoNewPrivs:"), field("Seccomp:"));
            format!("{} {privileges} {filter}", name.trim())
        })
        .collect();
    vmm.kill().expect("kill");
    vmm.wait().expect("wait");
    assert!(answered, "no answer");
    threads.sort();
    let work = ["api-work 1 2"; 4];
    let expected = [&["api 1 2"], &work[..], &["signals 1 2", "vtmem 1 0"]].concat();
    assert_eq!(threads, expected);
}

/// What the control socket offers, asked of a machine that waited for its configuration, and of one whose pool spills; also while it is
/// being started anew. A call that no list has would end the VMM by SIGSYS.
fn no_request_makes_a_call_that_is_not_listed() {
    let done = on_the_labs_host(
        "cat >/tmp/script <<'END'
mkdir -p /mnt /hog; mount -t ext4 /dev/vda /mnt && mount -t tmpfs -o size=60m hog /hog || exit 1
work() {
    dd if=/dev/urandom of=/mnt/file bs=1M count=40 2>/dev/null; sync
    dd if=/dev/zero of=/hog/file bs=1M count=50 2>/dev/null; rm /hog/file; md5sum /mnt/file >/dev/null
}
work; echo is-up
while :; do work; done
END
         dd if=/tmp/script of=/tmp/disk bs=4096 conv=sync 2>/dev/null
         work='console=ttyS0 quiet vtmem.tmem=1 vtmem.exec=\"sh /dev/vdb\"'
         export VTMEM_API_SOCKET=/tmp/api
         ask() { vtmem ctl \"$@\" >/tmp/answer || echo \"refused: $*\"; }
         up() { until [ $(grep -c is-up /tmp/console) = $1 ]; do kill -0 $pid || break; sleep 0.1; done; }
         all() {
             up 1
             echo 3 >/proc/sys/vm/drop_caches
             for task in /proc/$pid/task/*; do
                 echo \"thread $(cat $task/comm) $(sed -n 's/^NoNewPrivs:.//p; s/^Seccomp:.//p' $task/status | tr '\\n' ' ')\"
             done
             vtmem ctl events >/tmp/events & vtmem ctl watch >/tmp/watched &
             for round in 1 2; do
                 ask vm; ask metrics; ask tmem
                 ask set size=12M min=none compression=off admission=second-chance weight=2
                 sleep 1
                 ask set size=24M min=8M compression=on admission=always
                 ask freeze; ask thaw; ask flush ephemeral
                 ask pause; ask tmem; ask resume
                 ask set min=none; ask set size=8M; ask set size=24M; ask set min=4M
             done
             ask metrics; cat /tmp/answer; wc -l /tmp/events /tmp/watched; grep '\"reason\"' /tmp/events
             ask reset; until vtmem ctl metrics >/tmp/answer && grep -q '^vtmem_vm_running 1' /tmp/answer; do kill -0 $pid || break; done
             up 2; ask set size=16M; sleep 1; ask tmem
             ask shutdown; wait $pid; echo \"ended $?\"
         }
         vtmem run --accel kvm --api-socket /tmp/api >/tmp/console </dev/null & pid=$!
         until [ -S /tmp/api ]; do kill -0 $pid || exit 9; sleep 0.1; done
         ask machine --mem 128M --cpus 2
         ask boot-source --kernel /in/kernel --initrd /in/initrd --cmdline \"$work\"
         ask disk data path=/dev/vda; ask disk script path=/tmp/disk,readonly
         ask set size=16M; ask start
         all
         rm -f /tmp/api
         vtmem run --accel kvm --api-socket /tmp/api --kernel /in/kernel --initrd /in/initrd --mem 128M --cpus 2 \
             --tmem size=24M,min=8M,admission=always,spill=/dev/nullb0,spill-size=16M,spill-cache,spill-overwrite \
             --disk path=/dev/vda --disk path=/tmp/disk,readonly --cmdline \"$work\" >/tmp/console </dev/null & pid=$!
         until [ -S /tmp/api ]; do kill -0 $pid || exit 9; sleep 0.1; done
         all",
    );
    let said = format!("{}\n{}", done.stdout, done.stderr);
    assert_eq!(done.stdout.matches("ended 0").count(), 2, "{said}");
    assert!(!done.stdout.contains("refused: "), "{said}");
    // The second machine puts whatever its guest drops.
    let puts = done.stdout.lines();
    let puts = puts.filter_map(|line| line.strip_prefix("vtmem_tmem_puts_total "));
    let most = puts.filter_map(|count| count.parse::<u64>().ok()).max();
    assert!(most > Some(1000), "{most:?} puts: {said}");
    // Files that are open by then are still read when the kernel has dropped its caches.
    assert!(done.stdout.contains(r#""reason":""#), "{said}");
    assert!(!done.stdout.contains(r#""reason":"blind""#), "{said}");
    let threads = done.stdout.lines();
    let threads = threads.filter_map(|line| line.strip_prefix("thread "));
    let without: Vec<_> = threads
        .map(str::trim)
        .filter(|thread| !thread.ends_with(" 1 2"))
        .collect();
    assert_eq!(without, ["vtmem 1 0"; 2], "{said}");
    for name in ["machine", "api", "api-work", "governor", "tmem-resize"] {
        let thread = format!("thread {name} 1 2");
        assert!(done.stdout.contains(&thread), "{thread}: {said}");
    }
    assert!(!done.stderr.contains("not restricted"), "{said}");
}
