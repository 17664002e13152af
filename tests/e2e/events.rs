//! The guest rests nothing on reports of evictions: with all of them lost, or thousands of pages late, it asks in vain
//! and reads no wrong byte.

use serde_json::Value;

use crate::Case;
use crate::host::Guest;

pub const CASES: &[Case] = &[
    Case {
        name: "events::lost_reports_cost_misses_alone",
        needs_guests: true,
        alone: false,
        run: lost_reports,
    },
    Case {
        name: "events::late_reports_cost_misses_alone",
        needs_guests: true,
        alone: false,
        run: late_reports,
    },
];

const MIB: u64 = 1 << 20;
/// Pages of 24 MiB: as many as the pool has room for, uncompressed.
const PAGES: u64 = 6144;
/// For how long reports are held back, in evicted pages: for so long that the files are read again before.
const LATE: u64 = 4 * PAGES;

/// What a run came to.
struct Figures {
    /// Of the device, as the last mark has them.
    device: Value,
    /// Evicted pages that the driver heard of, before the last mark.
    heard: u64,
    /// Gets that found nothing at the host.
    misses: u64,
    /// Reclaimed pages that the driver did not think worth a copy.
    unworthy: u64,
}

/// Reads files of more than guest and pool together again and again, then lets several threads write, truncate and map
/// others meanwhile; every byte is checked.
fn run(tmem: &str, parameters: &str, fault: &str) -> Figures {
    let admission = match parameters {
        "" => "host",
        parameters => parameters.trim_start_matches("admission="),
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let marks = directory.path().join("marks");
    let run = Guest::new("96M", 2)
        .ext4_disk(512 * MIB, "none")
        .empty_disk(128 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=/dev/vdb")
        .tmem(tmem, parameters)
        .args(&["--tmem-fault", fault, "--clock", "real"])
        .args(&["--marks", marks.to_str().expect("UTF-8")])
        .run(&format!(
            "files() {{ vtmem-work $1 --count 128 --dir /data/files; }}\n\
             counter() {{ cat /sys/kernel/debug/virtio_tmem/$1; }}\n\
             admission=/sys/module/virtio_tmem/parameters/admission\n\
             [ $(cat $admission) = {admission} ] || exit 6\n\
             files write && files check && files check || exit 1\n\
             vtmem-work torture --dir /data/torture --seconds 15 --seed 11 || exit 2\n\
             files check || exit 3\n\
             echo heard=$(counter evictions)\n\
             vtmem-work mark\n\
             echo misses=$(counter misses)\n\
             echo unworthy=$(counter puts_unworthy)\n\
             [ $(counter broken) = 0 ] || exit 4\n\
             echo adaptive >$admission && [ $(cat $admission) = adaptive ] || exit 7\n\
             ! dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|virtio_tmem.*(error|broken|off until)' || exit 5\n",
        ));
    let console = run.succeeded();
    let results: Vec<Value> = console
        .lines()
        .filter_map(|line| line.trim().strip_prefix("vtmem-result: "))
        .map(|result| serde_json::from_str(result).expect("a JSON result"))
        .collect();
    assert_eq!(results.len(), 5, "{console}");
    assert!(
        results.iter().all(|result| result["bytes_corrupt"] == 0),
        "{results:?}"
    );
    let marks = std::fs::read_to_string(marks).expect("read the marks");
    let last = marks.lines().last().expect("a mark");
    let mut last: Value = serde_json::from_str(last).expect("a JSON line");
    Figures {
        device: last["tmem"].take(),
        heard: run.number("heard"),
        misses: run.number("misses"),
        unworthy: run.number("unworthy"),
    }
}

impl Figures {
    fn of_device(&self, name: &str) -> u64 {
        self.device[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {}", self.device))
    }

    /// Fails unless, of pages that are 24 MiB at least, the driver did not know that they were evicted, and asked for
    /// some of them.
    fn shows_ignorance(&self) {
        let unheard = self.of_device("evictions") - self.heard;
        assert!(unheard >= PAGES, "{unheard} unheard of: {}", self.device);
        assert!(self.misses >= PAGES, "{} useless gets", self.misses);
        assert!(self.of_device("hits") > 0, "{}", self.device);
    }
}

fn lost_reports() {
    let figures = run("24M", "admission=always", "drop-events");
    figures.shows_ignorance();
    assert_eq!(figures.heard, 0);
}

/// Here, it is the host that asks for all pages.
fn late_reports() {
    let figures = run("24M,admission=always", "", &format!("hold-events={LATE}"));
    figures.shows_ignorance();
    assert!(figures.heard >= PAGES, "only {} heard of", figures.heard);
    assert_eq!(figures.unworthy, 0);
}
