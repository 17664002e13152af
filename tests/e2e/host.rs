//! What the tests share: the binaries, guests, disks.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Where `ci/test` built the binaries: `VTMEM_BIN_DIR`, else the directory above this test's own.
pub fn bin_dir() -> PathBuf {
    match std::env::var_os("VTMEM_BIN_DIR") {
        Some(dir) => dir.into(),
        None => {
            let exe = std::env::current_exe().expect("the test's own path");
            exe.ancestors()
                .nth(2)
                .expect("target/<triple>/<profile>")
                .to_owned()
        }
    }
}

/// The `vtmem` binary under test.
pub fn binary() -> PathBuf {
    bin_dir().join("vtmem")
}

/// How a process ended, and what it printed.
pub struct Finished {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// What `vtmem` prints when the emulator died under a job.
const LAB_DIED: &str = "the lab ended before its job did";

/// Longer than any test takes on a slow machine: what is not over by then hangs.
const LONGEST: Duration = Duration::from_secs(2000);

/// Runs `vtmem` with `args` to its end, without standard input.
///
/// QEMU 7.2's emulation of nested virtualization now and then dies by itself. `vtmem` says so, and that is
/// neither the guest's nor the VMM's doing; the run is then done again, twice at most. What hangs is killed,
/// and fails.
pub fn vtmem<S: AsRef<OsStr>>(args: &[S]) -> Finished {
    for _ in 0..2 {
        let done = vtmem_once(args);
        if !done.stderr.contains(LAB_DIED) {
            return done;
        }
        eprintln!("the emulator failed, once more: {}", done.stderr);
    }
    vtmem_once(args)
}

fn vtmem_once<S: AsRef<OsStr>>(args: &[S]) -> Finished {
    let mut child = Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {}: {e}; run ci/test", binary().display()));
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let start = Instant::now();
    let mut hung = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for vtmem") {
            break status;
        }
        if start.elapsed() > LONGEST && !hung {
            hung = true;
            child.kill().expect("kill vtmem");
        }
        sleep(Duration::from_millis(20));
    };
    let text = |thread: JoinHandle<Vec<u8>>| {
        let bytes = thread.join().expect("no panic");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Finished {
        status: status.code(),
        stdout: text(stdout).replace('\r', ""),
        stderr: if hung {
            format!("killed, since it hung for {LONGEST:?}; {}", text(stderr))
        } else {
            text(stderr)
        },
    }
}

/// Reads a pipe to its end, while the process that fills it is waited for.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        pipe.read_to_end(&mut bytes).expect("read a pipe");
        bytes
    })
}

/// Builds the images that guests need; says why when that is not possible here.
pub fn prepare_guests() -> Result<(), String> {
    if !binary().is_file() {
        return Err(format!(
            "{} does not exist; run ci/test",
            binary().display()
        ));
    }
    eprintln!("preparing the guest images (minutes on a fresh machine, then cached)");
    let status = Command::new(binary())
        .args(["images", "build"])
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("cannot start vtmem: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`vtmem images build` ended with {status}"))
    }
}

/// Kernel and initial file system of the guest that the tests use, whose kernel loads `modules` too.
pub fn guest_image(modules: &[&str]) -> (String, String) {
    let mut args = vec!["images", "build"];
    args.extend(modules.iter().flat_map(|module| ["--module", module]));
    let built = vtmem(&args);
    assert_eq!(built.status, Some(0), "{}", built.stderr);
    let of = |what: &str| {
        let line = built
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(what));
        line.unwrap_or_else(|| panic!("no {what} in {}", built.stdout))
            .trim()
            .to_owned()
    };
    (of("guest kernel"), of("guest initrd"))
}

/// Holds an exclusive lock on `path` until dropped, as another VMM would.
pub fn hold_exclusive_lock(path: &Path) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open the file");
    let range = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for as long as `file` lives; F_OFD_SETLK reads one flock structure.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    assert_eq!(rc, 0, "nobody else may hold the lock");
    file
}

/// Processes that descend from `pid`, itself not included.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![];
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

/// Whether the process still runs; a zombie does not.
pub fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim().starts_with('Z'))
    })
}

/// Waits at most `limit` for `condition`. The bound only decides when to give up.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if condition() {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    condition()
}

/// A guest to launch: the default image, and a script that runs in it.
pub struct Guest {
    dir: tempfile::TempDir,
    args: Vec<String>,
    cmdline: String,
    nr_disks: u8,
}

impl Guest {
    /// A guest with `mem` (such as `256M`) of memory and `cpus` vCPUs.
    pub fn new(mem: &str, cpus: u8) -> Self {
        let args = ["run", "--mem", mem, "--cpus", &cpus.to_string()]
            .map(str::to_owned)
            .to_vec();
        Guest {
            dir: tempfile::tempdir().expect("a temporary directory"),
            args,
            cmdline: "console=ttyS0 quiet".to_owned(),
            nr_disks: 0,
        }
    }

    /// Adds options of `vtmem run`.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Has the guest's kernel load `modules` too.
    pub fn modules(self, modules: &[&str]) -> Self {
        let (kernel, initrd) = guest_image(modules);
        self.args(&["--kernel", &kernel, "--initrd", &initrd])
    }

    /// Adds kernel parameters.
    pub fn cmdline(mut self, parameters: &str) -> Self {
        self.cmdline = format!("{} {parameters}", self.cmdline);
        self
    }

    /// Adds tmem with a pool of `size`, and the driver with `parameters`.
    pub fn tmem(self, size: &str, parameters: &str) -> Self {
        let on = self
            .args(&["--tmem", &format!("size={size}")])
            .cmdline("vtmem.tmem=1");
        if parameters.is_empty() {
            on
        } else {
            on.cmdline(&format!("vtmem.tmem_args=\"{parameters}\""))
        }
    }

    /// Adds a disk of `bytes` zeros under cache mode `cache`; the first is `/dev/vda`.
    pub fn empty_disk(self, bytes: u64, cache: &str) -> Self {
        let path = self.dir.path().join(format!("disk{}", self.nr_disks));
        File::create(&path)
            .and_then(|f| f.set_len(bytes))
            .expect("create the disk");
        self.disk(&path, &format!("cache={cache}"))
    }

    /// Adds an ext4 disk of `bytes` under cache mode `cache`.
    pub fn ext4_disk(self, bytes: u64, cache: &str) -> Self {
        let path = self.dir.path().join(format!("disk{}", self.nr_disks));
        File::create(&path)
            .and_then(|f| f.set_len(bytes))
            .expect("create the disk");
        let status = Command::new("/usr/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
            .arg(&path)
            .status()
            .expect("mke2fs, of the package e2fsprogs");
        assert!(status.success(), "mke2fs failed");
        self.disk(&path, &format!("cache={cache}"))
    }

    /// Adds the disk at `path` with further `options`.
    pub fn disk(mut self, path: &Path, options: &str) -> Self {
        self.nr_disks += 1;
        let value = format!("path={},{options}", path.display());
        self.args(&["--disk", &value])
    }

    /// Launches the guest, runs `script` in it with the shell, and waits for both to end.
    ///
    /// The script travels as the last disk: a command line has neither the room nor the quotes.
    pub fn run(self, script: &str) -> GuestRun {
        let path = self.dir.path().join("script");
        let mut text = script.as_bytes().to_vec();
        text.resize(text.len().next_multiple_of(4096), b'\n');
        File::create(&path)
            .and_then(|mut f| f.write_all(&text))
            .expect("write the script");
        let device = format!("/dev/vd{}", char::from(b'a' + self.nr_disks));
        let mut guest = self
            .disk(&path, "cache=writeback,readonly")
            .cmdline(&format!("vtmem.exec=\"sh {device}\""));
        guest
            .args
            .extend(["--cmdline".to_owned(), guest.cmdline.clone()]);
        let finished = vtmem(&guest.args);
        GuestRun {
            finished,
            dir: guest.dir,
        }
    }
}

/// A guest that has ended.
pub struct GuestRun {
    finished: Finished,
    dir: tempfile::TempDir,
}

impl GuestRun {
    /// Exit status of `vtmem run`.
    pub fn status(&self) -> Option<i32> {
        self.finished.status
    }

    /// What the guest printed on its console.
    pub fn console(&self) -> &str {
        &self.finished.stdout
    }

    /// Where disk number `n` is.
    pub fn disk_path(&self, n: u8) -> PathBuf {
        self.dir.path().join(format!("disk{n}"))
    }

    /// The bytes of disk number `n` after the run.
    pub fn disk(&self, n: u8) -> Vec<u8> {
        fs::read(self.disk_path(n)).expect("read the disk")
    }

    /// Fails unless the script ended with status 0 and the guest powered off; returns its console.
    #[track_caller]
    pub fn succeeded(&self) -> &str {
        let console = self.console();
        assert!(
            console.lines().any(|line| line.trim() == "vtmem-exit: 0") && self.status() == Some(0),
            "guest failed, exit status {:?}\n--- console\n{console}\n--- stderr\n{}",
            self.status(),
            self.finished.stderr
        );
        console
    }

    /// The number that the script printed as `name=number`.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let prefix = format!("{name}=");
        let value = self
            .console()
            .lines()
            .find_map(|line| line.trim().strip_prefix(&prefix));
        let value = value.unwrap_or_else(|| panic!("no {name}= in:\n{}", self.console()));
        value
            .parse()
            .unwrap_or_else(|e| panic!("{name}={value}: {e}"))
    }
}
