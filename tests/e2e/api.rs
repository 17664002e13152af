//! The control socket, with a real guest behind it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Case;
use crate::host::{binary, eventually, guest_image, vtmem};

pub const CASES: &[Case] = &[
    Case {
        name: "api::the_script_in_the_docs_works",
        needs_guests: true,
        alone: false,
        run: the_script_in_the_docs_works,
    },
    Case {
        name: "api::metrics_say_what_marks_say",
        needs_guests: true,
        alone: false,
        run: metrics_say_what_marks_say,
    },
    Case {
        name: "api::a_live_socket_is_refused_and_a_stale_one_replaced",
        needs_guests: false,
        alone: false,
        run: a_live_socket_is_refused_and_a_stale_one_replaced,
    },
    Case {
        name: "api::five_hundred_slow_clients_cost_little",
        needs_guests: false,
        alone: false,
        run: five_hundred_slow_clients_cost_little,
    },
];

/// A VMM with a control socket; killed when dropped.
struct Controlled {
    vmm: Child,
    socket: PathBuf,
    dir: tempfile::TempDir,
}

impl Controlled {
    fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("api");
        let log = File::create(dir.path().join("console")).expect("a file");
        let vmm = Command::new(binary())
            .arg("run")
            .arg("--api-socket")
            .arg(&socket)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("shared"))
            .stderr(log)
            .spawn()
            .expect("start vtmem run");
        let controlled = Controlled { vmm, socket, dir };
        let there = || controlled.socket.exists();
        assert!(eventually(Duration::from_secs(60), there), "no socket");
        controlled
    }

    fn console(&self) -> String {
        fs::read_to_string(self.dir.path().join("console")).unwrap_or_default()
    }

    fn ctl(&self, args: &[&str]) -> String {
        let socket = self.socket.display().to_string();
        let done = vtmem(&[&["ctl", "--api-socket", &socket], args].concat());
        assert_eq!(
            done.status,
            Some(0),
            "{args:?}: {}\n{}",
            done.stderr,
            self.console()
        );
        done.stdout
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.vmm.kill();
        let _ = self.vmm.wait();
    }
}

/// A disk with a script, which a guest runs as `sh /dev/vda`.
fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("script");
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(4096), b'\n');
    fs::write(&path, bytes).expect("write the script");
    path
}

fn the_script_in_the_docs_works() {
    let (kernel, initrd) = guest_image(&[]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = dir.path().join("data");
    // Files that do not compress and their sums, read over and over: each sum has to be right, whatever happens to the pool.
    let made = Command::new("sh")
        .arg("-ec")
        .arg(
            "mkdir files; for i in $(seq 20); do head -c 4194304 /dev/urandom >files/$i; \
             md5sum <files/$i >files/$i.sum; done; truncate -s 128M data; \
             /usr/sbin/mke2fs -q -F -t ext4 -b 4096 -d files data",
        )
        .current_dir(dir.path())
        .status()
        .expect("sh, and mke2fs of the package e2fsprogs");
    assert!(made.success());
    let work = "mount -t ext4 /dev/vda /data; cd /data; while :; do for i in $(seq 20); do \
        [ $(md5sum <$i | cut -c1-32) = $(cut -c1-32 $i.sum) ] && echo GOOD || echo CORRUPT; done; done";
    let cmdline = format!("console=ttyS0 quiet vtmem.tmem=1 vtmem.exec=\\\"{work}\\\"");
    let mut controlled = Controlled::start(&[]);
    let mode = fs::metadata(&controlled.socket)
        .expect("the socket")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/control.sh");
    let done = Command::new("sh")
        .arg(script)
        .arg(&controlled.socket)
        .args([&kernel, &initrd])
        .arg(&disk)
        .arg(&cmdline)
        .stdin(Stdio::null())
        .output()
        .expect("start sh");
    let said = String::from_utf8_lossy(&done.stdout);
    eprintln!("{said}");
    assert!(
        done.status.success(),
        "{said}\n{}\n{}",
        String::from_utf8_lossy(&done.stderr),
        controlled.console()
    );
    let halved = said
        .lines()
        .find_map(|line| line.strip_prefix("halved in ")?.strip_suffix(" s"));
    let seconds: f64 = halved.expect("a time").parse().expect("a number");
    eprintln!("PATCH /tmem of a full pool returned within {seconds} s");
    let ended = controlled.vmm.wait().expect("wait for vtmem run");
    assert_eq!(ended.code(), Some(0), "{}", controlled.console());
    assert!(!controlled.socket.exists());
    let console = controlled.console();
    assert!(console.matches("GOOD").count() > 4, "{console}");
    assert!(!console.contains("CORRUPT"), "{console}");
}

fn metrics_say_what_marks_say() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let marks = dir.path().join("marks");
    // Then nothing happens any more that these count.
    let text = "for i in 1 2 3; do dd if=/dev/vda of=/dev/null bs=64k count=1; done\n\
        dd if=/dev/zero of=/dev/vdb bs=4k count=100 oflag=direct; sync\n\
        vtmem-work mark --number 77\n\
        echo at-rest\n\
        until [ $(cat /sys/kernel/debug/virtio_tmem/admission) = second-chance ]; do sleep 0.1; done\n\
        echo admission-follows; sleep 100000\n";
    let script = script(dir.path(), text);
    let target = dir.path().join("target");
    File::create(&target)
        .and_then(|f| f.set_len(1 << 20))
        .expect("a disk");
    let (kernel, initrd) = guest_image(&[]);
    let mut controlled = Controlled::start(&[
        "--kernel",
        &kernel,
        "--initrd",
        &initrd,
        "--mem",
        "96M",
        "--tmem",
        "size=16M",
        "--disk",
        &format!("path={},readonly", script.display()),
        "--disk",
        &format!("path={}", target.display()),
        "--cmdline",
        "console=ttyS0 quiet vtmem.tmem=1 vtmem.exec=\"sh /dev/vda\"",
        "--marks",
        &marks.display().to_string(),
    ]);
    let at_rest = || controlled.console().contains("at-rest");
    assert!(
        eventually(Duration::from_secs(300), at_rest),
        "{}",
        controlled.console()
    );
    controlled.ctl(&["pause"]);
    let metrics = controlled.ctl(&["metrics"]);
    let tmem = controlled.ctl(&["--json", "tmem"]);
    assert_eq!(
        controlled.ctl(&["metrics"]),
        metrics,
        "a paused machine counts on"
    );
    controlled.ctl(&["resume"]);
    controlled.ctl(&["set", "admission=second-chance"]);
    let said = |text: &str, times: usize| {
        let there = || controlled.console().matches(text).count() == times;
        assert!(
            eventually(Duration::from_secs(300), there),
            "{}",
            controlled.console()
        );
    };
    said("admission-follows", 1);
    // The guest starts anew, and finds tmem as it was set.
    controlled.ctl(&["reset"]);
    said("admission-follows", 2);
    said("at-rest", 2);
    controlled.ctl(&["shutdown"]);
    let ended = controlled.vmm.wait().expect("wait for vtmem run");
    assert_eq!(ended.code(), Some(0), "{}", controlled.console());

    let value = |name: &str| {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}"))
            .to_owned()
    };
    let marks = fs::read_to_string(&marks).expect("the marks");
    let mark = marks.lines().next().expect("a mark of each start");
    let mark: Value = serde_json::from_str(mark).expect("JSON");
    let tmem: Value = serde_json::from_str(&tmem).expect("JSON");
    for (metric, figure) in [
        ("vtmem_tmem_puts_total", "puts"),
        ("vtmem_tmem_gets_total", "gets"),
        ("vtmem_tmem_hits_total", "hits"),
        ("vtmem_tmem_flushes_total", "flushes"),
        ("vtmem_tmem_chains_total", "chains"),
        ("vtmem_tmem_driver_memory_bytes", "driver_memory_bytes"),
        ("vtmem_tmem_doorbells_total{queue=\"put\"}", "put_doorbells"),
        ("vtmem_tmem_doorbells_total{queue=\"get\"}", "get_doorbells"),
    ] {
        assert_eq!(value(metric), mark["tmem"][figure].to_string(), "{metric}");
        assert_eq!(
            value(metric),
            tmem["now"]["device"][figure].to_string(),
            "{metric}"
        );
    }
    let driver: u64 = value("vtmem_tmem_driver_memory_bytes")
        .parse()
        .expect("a number");
    assert!(
        (100 << 10..=1 << 20).contains(&driver),
        "a driver in a guest of 96M says that it takes {driver} bytes"
    );
    for disk in [0, 1] {
        let figures = &mark["disks"][disk];
        let labels = format!("{{disk={}}}", figures["id"]);
        for (metric, figure) in [
            ("vtmem_disk_read_bytes_total", "read_bytes"),
            ("vtmem_disk_written_bytes_total", "write_bytes"),
            ("vtmem_disk_reads_total", "read_ops"),
            ("vtmem_disk_writes_total", "write_ops"),
        ] {
            assert_eq!(
                value(&format!("{metric}{labels}")),
                figures[figure].to_string(),
                "{metric}{labels}"
            );
        }
    }
    assert!(
        mark["disks"][1]["write_bytes"].as_u64() >= Some(100 * 4096),
        "{mark}"
    );
}

fn a_live_socket_is_refused_and_a_stale_one_replaced() {
    let mut first = Controlled::start(&["--accel", "kvm"]);
    let socket = first.socket.display().to_string();
    let second = vtmem(&["run", "--accel", "kvm", "--api-socket", &socket]);
    assert_eq!(second.status, Some(2), "{}", second.stderr);
    assert!(second.stderr.contains("in use"), "{}", second.stderr);
    let vm: Value = serde_json::from_str(&first.ctl(&["--json", "vm"])).expect("JSON");
    assert_eq!(vm["state"], "waiting");
    // Killed, it leaves its socket behind.
    first.vmm.kill().expect("kill");
    first.vmm.wait().expect("wait");
    assert!(first.socket.exists());
    let third = Command::new(binary())
        .args(["run", "--accel", "kvm", "--api-socket", &socket])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start vtmem run");
    first.vmm = third;
    let answers = || vtmem(&["ctl", "--api-socket", &socket, "vm"]).status == Some(0);
    assert!(eventually(Duration::from_secs(30), answers));
    // SAFETY: signals a child of ours that has not been waited for, so the id is still its own.
    unsafe { libc::kill(first.vmm.id().try_into().expect("a pid"), libc::SIGTERM) };
    let status = first.vmm.wait().expect("wait");
    assert_eq!(status.code(), Some(143));
    assert!(!first.socket.exists());
    let errors = BufReader::new(first.vmm.stderr.take().expect("piped"));
    assert_eq!(errors.lines().count(), 0);
}

/// Memory that a process has resident, in bytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a size") << 10
}

fn five_hundred_slow_clients_cost_little() {
    const REQUEST: &[u8] =
        b"GET /vm HTTP/1.1\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let controlled = Controlled::start(&["--accel", "kvm"]);
    controlled.ctl(&["vm"]);
    let before = resident(controlled.vmm.id());
    let connect = || UnixStream::connect(&controlled.socket).expect("a connection");
    let mut clients: Vec<UnixStream> = (0..500).map(|_| connect()).collect();
    let (start, mut turned_away, mut most) = (Instant::now(), 0, before);
    for byte in REQUEST {
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
        // A byte of each of them; who was sent away comes back.
        for client in &mut clients {
            if client.write_all(&[*byte]).is_err() {
                turned_away += 1;
                *client = connect();
            }
        }
        most = most.max(resident(controlled.vmm.id()));
        sleep(Duration::from_millis(200));
    }
    let grown = most - before;
    eprintln!(
        "500 slow clients for {:?}: {turned_away} times turned away, {} KiB more",
        start.elapsed(),
        grown >> 10
    );
    assert!(turned_away > 300, "{turned_away}");
    assert!(grown < 16 << 20, "{grown} bytes more");
    drop(clients);
    let socket = controlled.socket.display().to_string();
    let answers = || vtmem(&["ctl", "--api-socket", &socket, "vm"]).status == Some(0);
    assert!(eventually(Duration::from_secs(30), answers));
}
