//! The wire format in Rust and in C are the same: every size, offset and constant.
//!
//! The header is read for its names, so what is added there without a twin here fails too; a C
//! compiler supplies the values.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use tmem_device::wire;

type Layout = BTreeMap<String, u64>;

/// A structure's size, and offset and size of each field, under their C names.
macro_rules! structure {
    ($layout:ident, $c:literal, $rust:ty, $($c_field:literal = $field:ident),+) => {
        $layout.insert(format!("struct {}", $c), size_of::<$rust>() as u64);
        let value = <$rust>::default();
        $(
            let name = format!("{}.{}", $c, $c_field);
            $layout.insert(format!("offset {name}"), offset_of!($rust, $field) as u64);
            $layout.insert(format!("size {name}"), size_of_val(&value.$field) as u64);
        )+
    };
}

/// Constants under their C names.
macro_rules! constants {
    ($layout:ident, $($name:ident),+ $(,)?) => {
        $($layout.insert(format!("VTMEM_{}", stringify!($name)), wire::$name as u64);)+
    };
}

fn rust_layout() -> Layout {
    let mut layout = Layout::new();
    structure!(
        layout,
        "vtmem_config",
        wire::Config,
        "version" = version,
        "max_ops" = max_ops,
        "credit" = credit,
        "admission" = admission,
        "reserved" = reserved,
        "driver_memory" = driver_memory
    );
    structure!(
        layout,
        "vtmem_req_hdr",
        wire::ReqHdr,
        "nr_ops" = nr_ops,
        "flags" = flags
    );
    structure!(
        layout,
        "vtmem_op",
        wire::Op,
        "type" = kind,
        "flags" = flags,
        "pool" = pool,
        "object" = object,
        "index" = index,
        "arg" = arg
    );
    structure!(
        layout,
        "vtmem_resp_hdr",
        wire::RespHdr,
        "nr_ops" = nr_ops,
        "credit" = credit
    );
    structure!(
        layout,
        "vtmem_result",
        wire::OpResult,
        "status" = status,
        "value" = value
    );
    structure!(
        layout,
        "vtmem_event",
        wire::Event,
        "type" = kind,
        "count" = count,
        "value" = value
    );
    structure!(
        layout,
        "vtmem_evicted",
        wire::Evicted,
        "pool" = pool,
        "count" = count,
        "object" = object,
        "index" = index
    );
    constants!(
        layout,
        DEVICE_ID,
        VERSION,
        PAGE_SIZE,
        OBJECT_SIZE,
        QUEUE_PUT,
        QUEUE_GET,
        QUEUE_EVENT,
        NR_QUEUES,
        F_EPHEMERAL,
        F_PERSISTENT,
        F_FLUSH_RANGE,
        F_EVENTS,
        F_EVICTIONS,
        F_ADMISSION,
        F_DRIVER_MEMORY,
        ADMISSION_ALWAYS,
        ADMISSION_SECOND_CHANCE,
        ADMISSION_ADAPTIVE,
        OP_NOP,
        OP_PUT,
        OP_GET,
        OP_FLUSH_PAGE,
        OP_FLUSH_RANGE,
        OP_FLUSH_OBJECT,
        OP_NEW_POOL,
        OP_DESTROY_POOL,
        POOL_EPHEMERAL,
        POOL_PERSISTENT,
        S_OK,
        S_ABSENT,
        S_REFUSED,
        S_UNSUPPORTED,
        S_INVALID,
        S_IOERR,
        EV_CREDIT,
        EV_EVICTED,
    );
    layout
}

/// C statements that print all that the header defines.
fn c_statements(header: &str) -> Vec<String> {
    let print = |name: &str, value: &str| {
        format!("printf(\"{name}=%llu\\n\", (unsigned long long)({value}));")
    };
    let mut statements = Vec::new();
    let mut structure = None;
    for line in header.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), structure) {
            (["#define", name, _, ..], _) => statements.push(print(name, name)),
            (["struct", name, "{"], _) => {
                statements.push(print(
                    &format!("struct {name}"),
                    &format!("sizeof(struct {name})"),
                ));
                structure = Some(*name);
            }
            (["};", ..], _) => structure = None,
            ([kind, field, ..], Some(owner)) if kind.starts_with("__") => {
                let field = field
                    .trim_end_matches(';')
                    .split('[')
                    .next()
                    .expect("a field's name");
                let member = format!("((struct {owner} *)0)->{field}");
                let name = format!("{owner}.{field}");
                let offset = format!("__builtin_offsetof(struct {owner}, {field})");
                statements.push(print(&format!("offset {name}"), &offset));
                statements.push(print(&format!("size {name}"), &format!("sizeof({member})")));
            }
            _ => {}
        }
    }
    statements
}

#[test]
fn the_wire_format_is_the_same_in_c_and_in_rust() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-driver/virtio_tmem_wire.h");
    let text = std::fs::read_to_string(&header).expect("the wire header is readable");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (source, program) = (
        directory.path().join("layout.c"),
        directory.path().join("layout"),
    );
    let code = format!(
        "#include <stdio.h>\n#include \"{}\"\nint main(void) {{\n{}\nreturn 0;\n}}\n",
        header.display(),
        c_statements(&text).join("\n")
    );
    std::fs::write(&source, code).expect("the temporary directory is writable");

    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(&compiler)
        .args(["-std=gnu11", "-Wall", "-Werror", "-o"])
        .args([&program, &source])
        .status()
        .expect("a C compiler is needed; install gcc or set CC");
    assert!(compiled.success(), "the C compiler refused the wire header");

    let output = Command::new(&program)
        .output()
        .expect("the compiled program runs")
        .stdout;
    let c_layout: Layout = String::from_utf8(output)
        .expect("the program prints text")
        .lines()
        .map(|line| {
            let (name, value) = line.rsplit_once('=').expect("name=value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect();
    assert!(
        c_layout.len() > 50,
        "the header was not understood: {c_layout:?}"
    );
    assert_eq!(c_layout, rust_layout());
}
