//! What came out: as a table, or as JSON.

use serde_json::{Value, json};

use crate::policies;
use crate::pool::{self, Outcome};
use crate::trace::Trace;

/// Eighths of a trace's footprint that pools have room for.
pub const EIGHTHS: [usize; 4] = [1, 2, 4, 6];

/// A trace on pools of one size.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub eighths: usize,
    /// Pages that there is room for.
    pub room: usize,
    pub pool: Outcome,
    /// Hits of the policies.
    pub lru: usize,
    pub optimum: usize,
}

impl Row {
    pub fn new(trace: &Trace, eighths: usize) -> Self {
        let room = (trace.footprint * eighths / 8).max(1);
        Row {
            eighths,
            room,
            pool: pool::play(trace, room),
            lru: policies::lru(&trace.steps, room),
            optimum: policies::optimum(&trace.steps, room),
        }
    }
}

/// Prints the rows of one trace, as they come.
pub fn print(trace: &Trace, rows: &[Row]) {
    let gets = trace.gets();
    println!(
        "{}: {gets} gets of pages that were put, {} pages at once",
        trace.name, trace.footprint
    );
    println!(
        "  {:<8}{:>9}{:>10}{:>10}{:>10}",
        "room", "pages", "pool", "LRU", "optimum"
    );
    for row in rows {
        let ratio = |hits: usize| match gets {
            0 => "-".to_owned(),
            gets => format!("{:.1} %", hits as f64 * 100.0 / gets as f64),
        };
        let (pool, lru, optimum) = (ratio(row.pool.hits), ratio(row.lru), ratio(row.optimum));
        let part = format!("{}/8", row.eighths);
        println!("  {part:<8}{:>9}{pool:>10}{lru:>10}{optimum:>10}", row.room);
    }
}

/// The same as JSON.
pub fn json(trace: &Trace, rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "eighths": row.eighths,
            "room_pages": row.room,
            "pool_hits": row.pool.hits,
            "pool_pages": row.pool.pages,
            "lru_hits": row.lru,
            "optimum_hits": row.optimum,
        })
    };
    json!({
        "trace": trace.name,
        "gets": trace.gets(),
        "footprint_pages": trace.footprint,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}
