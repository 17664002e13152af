use vtmem_workloads::workload::Workload;

use super::*;

fn during(marks: &[Mark], workload: Workload) -> Result<Difference, String> {
    difference(marks, workload.begin_mark(), workload.end_mark())
}

fn line(mark: u8, scale: u64) -> String {
    format!(
        r#"{{"mark":{mark},"exits":{{"total":{t},"io":{i},"nmi_window":0}},"disks":[
        {{"id":"vda","read_bytes":{b},"write_bytes":0,"read_ops":{i},"write_ops":0,
          "host":{{"read_bytes":{h},"write_bytes":1,"read_ops":{i},"write_ops":1}}}},
        {{"id":"vdb","read_bytes":{b},"write_bytes":{b},"read_ops":1,"write_ops":{i},"host":null}}],
        "tmem":{{"puts":{b},"puts_refused":0,"gets":{i},"hits":{i},"flushes":1,"chains":{i},"doorbells":{t},
          "put_doorbells":{i},"get_doorbells":7,"evictions":0,"stored_pages":{i},"stored_bytes":{b},"more":1}},
        "host_memory":{{"current":5,"peak":{h}}}}}"#,
        t = 100 * scale,
        i = 10 * scale,
        b = 4096 * scale,
        h = 8192 * scale,
    )
    .replace('\n', " ")
}

fn marks(lines: &[String]) -> Vec<Mark> {
    parse(&lines.join("\n")).unwrap()
}

#[test]
fn subtracts_and_sums() {
    let marks = marks(&[line(0x10, 1), line(0x80, 3), line(0x11, 4), line(0x81, 4)]);
    let reread = during(&marks, Workload::Reread).unwrap();
    assert_eq!(reread.exits.total, 200);
    assert_eq!(
        reread.exits.reasons,
        BTreeMap::from([("io".to_owned(), 20)])
    );
    let disk = Disk {
        // The host's view of vda, the VMM's of vdb.
        read_bytes: 2 * 8192 + 2 * 4096,
        write_bytes: 2 * 4096,
        read_ops: 20,
        write_ops: 20,
    };
    assert_eq!(reread.disk, disk);
    let tmem = reread.tmem.unwrap();
    assert_eq!((tmem.puts, tmem.doorbells, tmem.flushes), (2 * 4096, 20, 0));
    // Hits and puts. Of vda the guest asked for 2 pages, of vdb for 2 each way; what the host made of that does not count.
    assert_eq!(tmem.pages_copied, 2 * 4096 + 20);
    assert_eq!(reread.pages_moved, 2 * 4096 + 20 + 2 + 4);
    assert_eq!((tmem.stored_pages, tmem.stored_bytes), (30, 3 * 4096));
    assert_eq!(reread.host_peak_bytes, Some(3 * 8192));
    assert_eq!(
        during(&marks, Workload::Scan).unwrap().disk,
        Disk::default()
    );
}

#[test]
fn no_device_and_no_cgroup_is_fine() {
    let text = r#"{"mark":16,"exits":{"total":1},"disks":[],"tmem":null,"host_memory":null}
{"mark":128,"exits":{"total":2},"disks":[],"tmem":null,"host_memory":null}"#;
    let found = during(&parse(text).unwrap(), Workload::Reread).unwrap();
    assert_eq!(
        (found.tmem, found.host_peak_bytes, found.exits.total),
        (None, None, 1)
    );
}

#[test]
fn bytes_of_the_whole_vmm_count_once() {
    let file = |ops: u64| {
        format!(
            r#"{{"id":"v","read_bytes":1,"write_bytes":1,"read_ops":{ops},"write_ops":1,
               "host":{{"read_bytes":70,"write_bytes":80,"read_ops":null,"write_ops":null}}}}"#
        )
        .replace('\n', " ")
    };
    let disks = format!("{},{}", file(2), file(3));
    let text = format!(
        r#"{{"mark":16,"exits":{{}},"disks":[],"tmem":null,"host_memory":null}}
{{"mark":128,"exits":{{}},"disks":[{disks}],"tmem":null,"host_memory":null}}"#
    );
    let found = during(&parse(&text).unwrap(), Workload::Reread).unwrap();
    let disk = Disk {
        read_bytes: 70,
        write_bytes: 80,
        read_ops: 5,
        write_ops: 2,
    };
    assert_eq!(found.disk, disk);
}

#[test]
fn unfinished_and_backward_runs_are_errors() {
    let wrong = |lines: &[String]| during(&marks(lines), Workload::Reread).unwrap_err();
    assert!(wrong(&[]).contains("begin"));
    assert!(wrong(&[line(0x10, 1)]).contains("end"));
    assert!(wrong(&[line(0x80, 1), line(0x10, 2)]).contains("before"));
    assert!(wrong(&[line(0x10, 2), line(0x80, 1)]).contains("backwards"));
}

#[test]
fn malformed_lines_are_named() {
    for bad in [
        "{",
        "[]",
        "null",
        "{\"mark\":300}",
        "{\"mark\":1}",
        "garbage",
    ] {
        let text = format!("{}\n\n{bad}\n", line(0x10, 1));
        assert!(parse(&text).unwrap_err().contains("line 3"), "{bad}");
    }
    assert_eq!(parse("").unwrap(), []);
}
