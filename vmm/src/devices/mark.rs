//! The mark device: a guest program says "now", and the VMM writes down what it counted so far.
//!
//! A write of one byte to [`crate::boot::layout::MARK_PORT`] leaves the guest; before it resumes, one
//! line of JSON with every counter is in the file. So a figure belongs exactly to the work between two
//! marks.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::machine::bus::BusDevice;
use crate::machine::counters::Counters;

/// Takes one snapshot of all counters.
pub type Snapshot = Box<dyn Fn() -> Counters + Send + Sync>;

/// More marks than this are a guest gone wild, not a measurement.
const MAX_MARKS: u32 = 100_000;

/// The device behind the mark port.
pub struct Mark {
    state: Mutex<(BufWriter<File>, u32)>,
    snapshot: Snapshot,
}

#[derive(Serialize)]
struct Line {
    mark: u8,
    #[serde(flatten)]
    counters: Counters,
}

impl Mark {
    /// Creates `path` and appends a line of `snapshot`'s counters for each mark.
    pub fn create(path: &Path, snapshot: Snapshot) -> std::io::Result<Self> {
        Ok(Mark {
            state: Mutex::new((BufWriter::new(File::create(path)?), 0)),
            snapshot,
        })
    }
}

impl BusDevice for Mark {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        let &[mark] = data else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, count) = &mut *state;
        if *count == MAX_MARKS {
            return;
        }
        *count += 1;
        let line = Line {
            mark,
            counters: (self.snapshot)(),
        };
        let written = serde_json::to_writer(&mut *file, &line)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.flush());
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write a mark");
            *count = MAX_MARKS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_mark_in_order() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("marks");
        let snapshot = || Counters {
            exits: [("total".to_owned(), 7)].into(),
            disks: vec![],
            tmem: None,
            host_memory: None,
        };
        let mark = Mark::create(&path, Box::new(snapshot)).expect("create");
        mark.write(0, &[16]);
        mark.write(0, &[1, 2]);
        mark.write(0, &[128]);
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(
            text,
            "{\"mark\":16,\"exits\":{\"total\":7},\"disks\":[],\"tmem\":null,\"host_memory\":null}\n\
             {\"mark\":128,\"exits\":{\"total\":7},\"disks\":[],\"tmem\":null,\"host_memory\":null}\n"
        );
    }
}
