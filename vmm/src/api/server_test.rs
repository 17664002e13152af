//! The API towards clients of all kinds, on a machine that waits for its configuration.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use serde_json::{Value, json};
use tmem_device::pool::PoolKind;

use super::*;
use crate::api::body;
use crate::api::config::VmConfig;
use crate::api::tmem::tests::page;
use crate::api::vm::Call;
use crate::confine::Confinement;
use crate::machine::exit::Exit;

/// A served machine that waits.
struct Served {
    path: PathBuf,
    vm: Arc<Vm>,
    called: Receiver<Call>,
    _server: Server,
    _dir: tempfile::TempDir,
}

/// Set for a process in which these tests are done once more, by servers that are confined.
const CONFINED: &str = "VTMEM_SERVER_CONFINED";

/// Set for a process that serves what no request may do, to the resource that is then asked for.
const FORBIDDEN: &str = "VTMEM_SERVER_FORBIDDEN";

/// These tests, or one of them, in a process of their own.
fn child(arguments: &[&str], variable: &str, value: &str) -> Output {
    Command::new(std::env::current_exe().expect("this program"))
        .args(arguments)
        .env(variable, value)
        .output()
        .expect("starts")
}

fn serve() -> Served {
    if std::env::var_os(CONFINED).is_some() {
        confine::begin(Confinement::On).expect("a host with filters");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("api");
    let (calls, called) = mpsc::channel();
    let vm = Vm::new(VmConfig::default(), calls);
    let socket = Socket::bind(&path).expect("a socket");
    let server = Server::start(Source::Socket(socket), vm.clone()).expect("a server");
    if std::env::var_os(CONFINED).is_some() {
        assert_eq!(request(&path, "GET", "/vm", "").0, 200);
        assert!(has_filter("api") && has_filter("api-work"));
    }
    Served {
        path,
        vm,
        called,
        _server: server,
        _dir: dir,
    }
}

/// Whether a thread of that name makes listed calls alone.
fn has_filter(name: &str) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let mut tasks = tasks.map(|task| task.expect("a thread").path());
    tasks.any(|task| {
        // It may have ended.
        let read = |file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
        read("comm").trim() == name && read("status").contains("\nSeccomp:\t2\n")
    })
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("a connection");
    let longest = Some(Duration::from_secs(30));
    stream.set_read_timeout(longest).expect("a timeout");
    stream
}

/// Sends bytes, and reads the answer to its end.
fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = connect(path);
    // An answer may come, and the connection end, before all is sent.
    let _ = stream.write_all(bytes);
    read(stream)
}

fn read(mut stream: UnixStream) -> String {
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request; returns status, header and body of the answer.
fn request(path: &Path, method: &str, resource: &str, body: &str) -> (u16, String, Value) {
    let answer = raw(
        path,
        format!(
            "{method} {resource} HTTP/1.1\r\nhost: vm\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.unwrap_or(0), head.to_lowercase(), body)
}

/// Fails unless the answer is this error, with a body that says so.
#[track_caller]
fn refused((status, head, body): (u16, String, Value), want: u16) -> String {
    assert_eq!(status, want, "{head}\n{body}");
    assert!(
        head.contains("content-type: application/problem+json"),
        "{head}"
    );
    assert_eq!(body["status"], want, "{body}");
    assert!(body["title"].is_string());
    body["detail"].as_str().expect("a detail").to_owned()
}

#[test]
fn a_machine_is_configured_and_started() {
    let served = serve();
    let put = |resource: &str, body: Value| {
        let (status, head, answer) = request(&served.path, "PUT", resource, &body.to_string());
        assert_eq!(status, 204, "{resource}: {head} {answer}");
    };
    refused(request(&served.path, "GET", "/tmem", ""), 404);
    let start = json!({"action": "start"}).to_string();
    refused(request(&served.path, "PUT", "/actions", &start), 409);
    put("/machine", json!({"memory": "512M", "cpus": 2}));
    put("/boot-source", json!({"kernel": "/k", "cmdline": "quiet"}));
    put("/disks/root", json!({"path": "a", "cache": "none"}));
    put("/disks/swap", json!({"path": "b"}));
    put("/disks/root", json!({"path": "c", "readonly": true}));
    put("/tmem", json!({"size": "1G"}));
    let (status, _, tmem) = request(&served.path, "PATCH", "/tmem", r#"{"size": 4096}"#);
    assert_eq!((status, &tmem["settings"]["size"]), (200, &json!(4096)));
    // What contradicts itself, or what is there, changes nothing.
    let itself = r#"{"size": "1G", "share": {"minimum": "2M", "maximum": "1M"}}"#;
    refused(request(&served.path, "PUT", "/tmem", itself), 409);
    let size = r#"{"governor": {"minimum": 8192}}"#;
    refused(request(&served.path, "PATCH", "/tmem", size), 409);
    let twice = r#"{"path": "c"}"#;
    let why = refused(request(&served.path, "PUT", "/disks/swap", twice), 409);
    assert!(
        why.contains("disk root") && why.contains("disk swap"),
        "{why}"
    );
    let spill = r#"{"size": "1G", "spill": {"path": "b", "size": "8M"}}"#;
    let why = refused(request(&served.path, "PUT", "/tmem", spill), 409);
    assert!(why.contains("disk swap") && why.contains("spill"), "{why}");
    let (_, _, tmem) = request(&served.path, "GET", "/tmem", "");
    assert_eq!(tmem["settings"]["size"], json!(4096));
    assert!(tmem["settings"].get("governor").is_none(), "{tmem}");
    let (_, _, vm) = request(&served.path, "GET", "/vm", "");
    assert_eq!(vm["state"], "waiting");
    assert_eq!(vm["config"]["machine"]["memory"], 512 << 20);
    let disks = json!([
        {"id": "root", "path": "c", "cache": "writeback", "readonly": true},
        {"id": "swap", "path": "b", "cache": "writeback", "readonly": false}
    ]);
    assert_eq!(vm["config"]["disks"], disks);

    // Whoever asks for the start hears how it went, and may correct what was wrong.
    let path = served.path.clone();
    let start_it = start.clone();
    let starter = thread::spawn(move || request(&path, "PUT", "/actions", &start_it));
    assert_eq!(served.called.recv(), Ok(Call::Start));
    refused(request(&served.path, "PUT", "/actions", &start), 409);
    refused(request(&served.path, "PUT", "/machine", "{}"), 409);
    served.vm.failed("no kernel at /k".to_owned());
    let why = refused(starter.join().expect("an answer"), 409);
    assert!(why.contains("no kernel at /k"), "{why}");
    put("/machine", json!({}));
}

#[test]
fn wrong_requests_get_the_right_error() {
    let path = serve();
    let path = &path.path;
    refused(request(path, "GET", "/nothing", ""), 404);
    for (method, resource) in [
        ("POST", "/vm"),
        ("DELETE", "/machine"),
        ("GET", "/actions"),
        ("PUT", "/metrics"),
        ("BREW", "/tmem"),
    ] {
        let answer = request(path, method, resource, "");
        assert!(answer.1.contains("\r\nallow: "), "{}", answer.1);
        refused(answer, 405);
    }
    for body in [
        "",
        "{",
        "[]",
        "nul",
        "{\"cpus\": \"two\"}",
        "{\"cpus\": 0}",
        "\u{feff}{}",
    ] {
        refused(request(path, "PUT", "/machine", body), 400);
    }
    let deep = "[".repeat(60_000);
    refused(request(path, "PUT", "/machine", &deep), 400);
    let why = refused(request(path, "PUT", "/machine", r#"{"memroy": 1}"#), 400);
    assert!(why.contains("did you mean 'memory'?"), "{why}");
    for id in ["A", "%20", "a.b", "aaaaaaaaaaaaaaaaaaaaa", "%ff", "%2e%2e"] {
        let disk = r#"{"path": "x"}"#;
        refused(request(path, "PUT", &format!("/disks/{id}"), disk), 400);
    }
    let form = "PUT /machine HTTP/1.1\r\nhost: vm\r\nconnection: close\r\n\
        content-type: application/x-www-form-urlencoded\r\ncontent-length: 2\r\n\r\n{}";
    assert!(raw(path, form.as_bytes()).starts_with("HTTP/1.1 415 "));
}

#[test]
fn bodies_are_bounded() {
    let served = serve();
    let long = " ".repeat(body::LIMIT + 1);
    refused(request(&served.path, "PUT", "/machine", &long), 413);
    // A length alone decides nothing, and without one it is counted.
    let announced = "PUT /machine HTTP/1.1\r\nhost: vm\r\nconnection: close\r\n\
        transfer-encoding: chunked\r\n\r\n";
    let mut bytes = announced.as_bytes().to_vec();
    for _ in 0..40 {
        bytes.extend(b"1000\r\n");
        bytes.extend([b' '; 0x1000]);
        bytes.extend(b"\r\n");
    }
    assert!(raw(&served.path, &bytes).starts_with("HTTP/1.1 413 "));
    let (status, ..) = request(&served.path, "PUT", "/machine", &" ".repeat(1000));
    assert_eq!(status, 400);
}

#[test]
fn headers_are_bounded() {
    let served = serve();
    let mut bytes = b"GET /vm HTTP/1.1\r\nhost: vm\r\nx: ".to_vec();
    bytes.extend(vec![b'x'; 10 << 20]);
    assert!(raw(&served.path, &bytes).starts_with("HTTP/1.1 431 "));
    assert!(raw(&served.path, &[0xff; 100_000]).starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_half_closed_connection_is_answered() {
    let served = serve();
    let mut stream = connect(&served.path);
    stream
        .write_all(b"GET /vm HTTP/1.1\r\nhost: vm\r\n\r\n")
        .expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert!(read(stream).starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_is_silent_or_breaks_off_is_dropped_in_time() {
    let served = serve();
    let start = Instant::now();
    let silent = connect(&served.path);
    let mut slow = connect(&served.path);
    slow.write_all(b"GET /vm HTTP/1.1\r\nho").expect("sent");
    let mut stuck = connect(&served.path);
    stuck
        .write_all(b"PUT /machine HTTP/1.1\r\nhost: vm\r\ncontent-length: 9\r\n\r\n{")
        .expect("sent");
    assert!(read(stuck).starts_with("HTTP/1.1 408 "));
    read(silent);
    read(slow);
    // Not before their time, either.
    assert!(start.elapsed() >= HEADER_TIME.min(body::TIME));
}

#[test]
fn a_full_pool_is_halved_and_its_data_stays_right() {
    const PAGES: u64 = 16 << 10;
    // First: it says how the process is confined.
    let served = serve();
    let Some((machine, running)) = crate::machine::running::tests::run(PAGES << 12) else {
        return;
    };
    let tmem = r#"{"size": "64M"}"#;
    assert_eq!(request(&served.path, "PUT", "/tmem", tmem).0, 204);
    served.vm.started(&machine);
    let guest = machine.tmem().expect("tmem").device().guest();
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
    for number in 0..PAGES / 8 {
        let put = guest.put(persistent, &[1; _], number, &page(number));
        put.expect("room");
    }
    for number in 0..PAGES {
        let put = guest.put(ephemeral, &[2; _], number, &page(number));
        put.expect("others go");
    }
    let full = machine.tmem().expect("tmem").pool().stats().used_bytes;
    assert!(full > PAGES * 4096 * 9 / 10, "{full}");

    let half = PAGES * 4096 / 2;
    let start = Instant::now();
    let body = format!("{{\"size\": {half}}}");
    let (status, _, tmem) = request(&served.path, "PATCH", "/tmem", &body);
    let answered = start.elapsed();
    assert_eq!((status, &tmem["now"]["size_bytes"]), (200, &json!(half)));
    let pool = machine.tmem().expect("tmem").pool();
    while pool.stats().used_bytes > half {
        thread::yield_now();
    }
    eprintln!(
        "PATCH of a full pool answered after {answered:?}, under its cap after {:?}",
        start.elapsed()
    );
    let mut got = [0; 4096];
    for number in 0..PAGES / 8 {
        assert_eq!(guest.get(persistent, &[1; _], number, &mut got), Ok(true));
        assert!(got == page(number));
    }
    let there = (0..PAGES).filter(|&number| {
        let there = guest.get(ephemeral, &[2; _], number, &mut got) == Ok(true);
        assert!(!there || got == page(number));
        there
    });
    assert!(there.count() > 1000);
    let freeze = |frozen: bool| {
        let body = json!({"frozen": frozen}).to_string();
        assert_eq!(request(&served.path, "PATCH", "/tmem", &body).0, 200);
        guest.put(ephemeral, &[2; _], 1, &page(1)).is_ok()
    };
    assert!(!freeze(true) && freeze(false));
    let flush = r#"{"target": "ephemeral"}"#;
    let (_, _, flushed) = request(&served.path, "POST", "/tmem/flush", flush);
    assert_eq!(flushed["now"]["freeable_bytes"], 0, "{flushed}");
    let refuse = json!({"target": persistent}).to_string();
    refused(request(&served.path, "POST", "/tmem/flush", &refuse), 409);
    refused(
        request(&served.path, "POST", "/tmem/flush", r#"{"target": 99}"#),
        404,
    );

    for (action, state) in [("pause", "paused"), ("resume", "running")] {
        let body = json!({"action": action}).to_string();
        assert_eq!(request(&served.path, "PUT", "/actions", &body).0, 204);
        let (_, _, vm) = request(&served.path, "GET", "/vm", "");
        assert_eq!(vm["state"], state);
        refused(request(&served.path, "PUT", "/actions", &body), 409);
    }
    drop(machine);
    let body = json!({"action": "shutdown"}).to_string();
    assert_eq!(request(&served.path, "PUT", "/actions", &body).0, 204);
    assert_eq!(running.join().expect("no panic"), Exit::ShutDown);
}

#[test]
fn the_description_is_openapi_and_lists_what_is_served() {
    let served = serve();
    let (status, _, document) = request(&served.path, "GET", "/openapi.json", "");
    assert_eq!(status, 200);
    assert!(
        document["openapi"]
            .as_str()
            .expect("a version")
            .starts_with("3.1")
    );
    let paths: Vec<&String> = document["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .collect();
    let want = [
        "/",
        "/actions",
        "/boot-source",
        "/disks/{id}",
        "/machine",
        "/metrics",
        "/openapi.json",
        "/tmem",
        "/tmem/events",
        "/tmem/flush",
        "/vm",
    ];
    let mut sorted = paths.clone();
    sorted.sort();
    assert_eq!(sorted, want);
}

#[test]
fn the_server_ends_with_connections_open_and_takes_its_name_along() {
    let served = serve();
    let _open = connect(&served.path);
    let path = served.path.clone();
    let start = Instant::now();
    drop(served._server);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(!path.exists());
}

/// A call that no list has would end that process by SIGSYS.
#[test]
fn all_of_this_is_served_by_confined_threads() {
    if std::env::var_os(CONFINED).is_some() {
        return;
    }
    let output = child(&["api::server::tests::"], CONFINED, "1");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_forbidden_call_for_a_request_ends_the_process_and_says_which() {
    for (resource, thread) in [("/serving", "api"), ("/working", "api-work")] {
        let this = ["api::server::tests::forbidden_requests", "--exact"];
        let output = child(&this, FORBIDDEN, resource);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        let call = libc::SYS_socket;
        let expected = format!("error: thread {thread} made system call {call}, which");
        assert!(said.contains(&expected), "{said}");
    }
}

/// What the test above starts; does nothing by itself.
#[test]
fn forbidden_requests() {
    let Ok(resource) = std::env::var(FORBIDDEN) else {
        return;
    };
    confine::begin(Confinement::On).expect("a host with filters");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("api");
    let workers = Workers::start().expect("threads");
    // SAFETY: takes numbers alone.
    let forbidden = || unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
    let serving = move || async move { forbidden().to_string() };
    let working = move || async move {
        let made = workers.run(forbidden).await;
        made.map(|made| made.to_string())
    };
    let routes = Router::new()
        .route("/serving", get(serving))
        .route("/working", get(working));
    let socket = Socket::bind(&path).expect("a socket");
    let _server = Server::serve(Source::Socket(socket), routes).expect("a server");
    let answer = request(&path, "GET", &resource, "");
    panic!("answered: {answer:?}");
}
