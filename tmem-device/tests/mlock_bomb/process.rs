//! A process of the test in a cgroup, talked to by lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::cgroup::Cgroup;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Holds a pool.
    Holder,
    /// Locks memory.
    Bomb,
}

const ROLE: &str = "VTMEM_BOMB_ROLE";
const ARGUMENT: &str = "VTMEM_BOMB_ARGUMENT";
const PROCS: &str = "VTMEM_BOMB_PROCS";

/// Marks lines for the test among others.
const MARK: &str = "bomb: ";

pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program again.
    pub fn start(role: Role, cgroup: &Cgroup, argument: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "role", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{role:?}"))
            .env(ARGUMENT, argument)
            .env(PROCS, cgroup.procs())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        Process {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
        }
    }

    /// The next line, or `None` at the end.
    pub fn last_line(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            // The test program's own words come before, on the same line perhaps.
            if let Some((_, said)) = line.trim_end().split_once(MARK) {
                return Some(said.to_owned());
            }
        }
    }

    /// Waits for a line.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.last_line().as_deref(), Some(line));
    }

    /// Says a line; a process that was killed does not hear it.
    pub fn say(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{line}");
        }
    }

    /// Waits for the end; whether it was a good one.
    pub fn end(&mut self) -> bool {
        self.input = None;
        self.child.wait().expect("a child").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process is, and its argument. Joins the cgroup.
pub fn own_role() -> Option<(Role, String)> {
    let role = match std::env::var(ROLE).ok()?.as_str() {
        "Holder" => Role::Holder,
        _ => Role::Bomb,
    };
    let procs = std::env::var_os(PROCS).expect("a cgroup");
    std::fs::write(procs, std::process::id().to_string()).expect("the cgroup can be joined");
    Some((role, std::env::var(ARGUMENT).expect("an argument")))
}

/// Says a line to the test.
pub fn report(line: &str) {
    println!("{MARK}{line}");
    std::io::stdout().flush().expect("the test listens");
}

/// Waits for a line of the test.
pub fn listen() -> String {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the test speaks");
    line.trim_end().to_owned()
}
