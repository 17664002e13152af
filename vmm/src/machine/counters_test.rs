//! Metrics say what the marks file says, of which `vtmem compare` makes its JSON, to the digit.

use std::collections::BTreeMap;

use super::*;
use crate::compare::marks;

/// Large enough that a detour through a float would show.
const LARGE: u64 = (1 << 60) + 1;

fn counters(n: u64) -> Counters {
    Counters {
        exits: [("total", 900), ("io_exits", 70), ("halt_exits", 5)]
            .map(|(name, count)| (name.to_owned(), LARGE + n * count))
            .into(),
        disks: ["vda", "vdb"]
            .map(|id| DiskCounters {
                id: id.to_owned(),
                read_bytes: LARGE / 4 + n * 4096,
                write_bytes: n * 8192,
                read_ops: n * 3,
                write_ops: n * 2,
                flush_ops: n,
                host: None,
            })
            .into(),
        tmem: Some(TmemStats {
            puts: LARGE + n * 11,
            puts_refused: n * 2,
            gets: n * 13,
            hits: n * 7,
            flushes: n * 17,
            chains: n * 19,
            put_doorbells: n * 23,
            get_doorbells: n * 29,
            ..TmemStats::default()
        }),
        host_memory: None,
    }
}

fn metrics(counters: &Counters) -> BTreeMap<String, u64> {
    let mut to = Exposition::default();
    counters.expose(&mut to);
    let text = to.into_text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    samples.collect()
}

#[test]
fn metrics_and_compare_agree_to_the_digit() {
    let (begin, end) = (counters(1), counters(1_000_003));
    let line = |mark: u8, counters: &Counters| {
        let mut line = serde_json::to_value(counters).expect("JSON");
        line["mark"] = mark.into();
        line.to_string()
    };
    let text = format!("{}\n{}\n", line(1, &begin), line(2, &end));
    let marks = marks::parse(&text).expect("marks");
    let compared = marks::difference(&marks, 1, 2).expect("a difference");
    let (begin, end) = (metrics(&begin), metrics(&end));
    let grown = |name: &str| end[name] - begin[name];
    let sum = |name: &str| {
        ["vda", "vdb"]
            .map(|disk| grown(&format!("{name}{{disk=\"{disk}\"}}")))
            .iter()
            .sum::<u64>()
    };

    assert_eq!(grown("vtmem_exits_total"), compared.exits.total);
    assert_eq!(
        grown("vtmem_exits_by_reason_total{reason=\"io_exits\"}"),
        compared.exits.reasons["io_exits"]
    );
    assert_eq!(sum("vtmem_disk_read_bytes_total"), compared.disk.read_bytes);
    assert_eq!(
        sum("vtmem_disk_written_bytes_total"),
        compared.disk.write_bytes
    );
    assert_eq!(sum("vtmem_disk_reads_total"), compared.disk.read_ops);
    assert_eq!(sum("vtmem_disk_writes_total"), compared.disk.write_ops);
    let tmem = compared.tmem.expect("tmem");
    for (name, value) in [
        ("vtmem_tmem_puts_total", tmem.puts),
        ("vtmem_tmem_puts_refused_total", tmem.puts_refused),
        ("vtmem_tmem_gets_total", tmem.gets),
        ("vtmem_tmem_hits_total", tmem.hits),
        ("vtmem_tmem_flushes_total", tmem.flushes),
        ("vtmem_tmem_chains_total", tmem.chains),
        ("vtmem_tmem_doorbells_total{queue=\"put\"}", tmem.doorbells),
        ("vtmem_tmem_doorbells_total{queue=\"get\"}", tmem.get_exits),
    ] {
        assert_eq!(grown(name), value, "{name}");
    }
}

#[test]
fn the_dashboard_and_the_page_ask_for_metrics_that_there_are() {
    let counters = include_str!("counters.rs");
    let sources = [
        counters,
        include_str!("tmem_metrics.rs"),
        include_str!("../devices/virtio/blk_metrics.rs"),
        include_str!("../devices/virtio/tmem_metrics.rs"),
        include_str!("../api/metrics.rs"),
    ];
    let dashboard = include_str!("../../../docs/grafana.json");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("JSON");
    for text in [dashboard, include_str!("../api/page.html")] {
        let mut names = 0;
        for rest in text.split("vtmem_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let name = format!("\"vtmem_{}\"", &rest[..end.expect("an end")]);
            assert!(
                sources.iter().any(|source| source.contains(&name)),
                "{name}"
            );
            names += 1;
        }
        assert!(names > 8);
    }
}
