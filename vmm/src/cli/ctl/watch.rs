//! `vtmem ctl watch`: figures that move. In a terminal as a screen (`screen.rs`), elsewhere as lines.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::screen;
use super::tables::size;
use crate::cli::CliError;

/// Between two readings.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Values of a curve that are kept: more than a terminal is wide.
const KEPT: usize = 512;

type Reading = BTreeMap<String, f64>;

/// A value over time.
pub struct Curve {
    pub name: &'static str,
    metric: &'static str,
    /// Whether it is a counter, of which the growth in a second is shown.
    rate: bool,
    /// One for each reading; none before there is one to compare with.
    pub values: Vec<f64>,
}

impl Curve {
    /// The latest value, for people.
    pub fn latest(&self) -> String {
        match self.values.last() {
            None => "-".to_owned(),
            Some(value) if self.rate => format!("{value:.0}"),
            Some(value) => size(*value as u64),
        }
    }
}

/// What is watched.
pub struct Watched {
    pub running: bool,
    pub curves: Vec<Curve>,
    /// As by `GET /tmem`; null without tmem.
    pub tmem: Value,
    last: Option<(Instant, Reading)>,
}

impl Default for Watched {
    fn default() -> Self {
        let curve = |name, metric, rate| Curve {
            name,
            metric,
            rate,
            values: vec![],
        };
        Watched {
            running: false,
            curves: vec![
                curve("pool used", "vtmem_pool_used_bytes", false),
                curve("pool size", "vtmem_pool_size_bytes", false),
                curve("puts /s", "vtmem_tmem_puts_total", true),
                curve("refused /s", "vtmem_tmem_puts_refused_total", true),
                curve("gets /s", "vtmem_tmem_gets_total", true),
                curve("hits /s", "vtmem_tmem_hits_total", true),
                curve("evicted /s", "vtmem_pool_evictions_total", true),
                curve("exits /s", "vtmem_exits_total", true),
            ],
            tmem: Value::Null,
            last: None,
        }
    }
}

impl Watched {
    /// Asks the VMM once more.
    ///
    /// # Errors
    /// It does not answer.
    pub fn look(&mut self, client: &Client) -> Result<(), CliError> {
        let metrics = client.get("/metrics")?;
        // A machine without tmem is one.
        let tmem = client.get("/tmem").ok();
        let tmem = tmem.and_then(|text| serde_json::from_str(&text).ok());
        self.take(Instant::now(), &metrics, tmem.unwrap_or_default());
        Ok(())
    }

    /// Takes a reading.
    pub fn take(&mut self, at: Instant, metrics: &str, tmem: Value) {
        let reading = parse(metrics);
        self.running = reading.get("vtmem_vm_running").is_some_and(|on| *on > 0.0);
        self.tmem = tmem;
        for curve in &mut self.curves {
            let Some(value) = reading.get(curve.metric).copied() else {
                continue;
            };
            let shown = if curve.rate {
                let Some((before, last)) = &self.last else {
                    continue;
                };
                let seconds = at.duration_since(*before).as_secs_f64();
                // A machine that was reset counts from 0 again.
                let grown = (value - last.get(curve.metric).unwrap_or(&0.0)).max(0.0);
                grown / seconds.max(f64::EPSILON)
            } else {
                value
            };
            if curve.values.len() == KEPT {
                curve.values.remove(0);
            }
            curve.values.push(shown);
        }
        self.last = Some((at, reading));
    }

    /// The latest values as a line.
    fn line(&self) -> String {
        let state = if self.running {
            "running"
        } else {
            "not running"
        };
        let values = self
            .curves
            .iter()
            .map(|curve| format!("{} {}", curve.name, curve.latest()));
        let parts: Vec<_> = std::iter::once(state.to_owned()).chain(values).collect();
        parts.join("  ")
    }
}

fn parse(text: &str) -> Reading {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Shows the VMM's figures until it ends, or whoever watches has seen enough.
///
/// # Errors
/// Nobody answers from the beginning on; the terminal fails.
pub fn run(client: &Client, socket: &Path) -> Result<(), CliError> {
    let mut watched = Watched::default();
    watched.look(client)?;
    if std::io::stdout().is_terminal() {
        return Ok(screen::show(watched, client, socket)?);
    }
    let mut out = std::io::stdout();
    // Whoever reads the lines may go, and the VMM may end.
    while writeln!(out, "{}", watched.line()).is_ok() {
        sleep(PERIOD);
        if watched.look(client).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_part_of_a_name() {
        let reading = parse("# HELP a b\na 7\nb{c=\"d e\"} 8\n");
        assert_eq!(reading["a"], 7.0);
        assert_eq!(reading["b{c=\"d e\"}"], 8.0);
    }

    #[test]
    fn counters_are_shown_by_the_second_and_gauges_as_they_are() {
        let mut watched = Watched::default();
        let start = Instant::now();
        for (seconds, puts, used) in [(0, 1000, 1 << 20), (2, 1500, 3 << 20), (3, 0, 0)] {
            let metrics = format!(
                "vtmem_vm_running 1\nvtmem_tmem_puts_total {puts}\nvtmem_pool_used_bytes {used}\n"
            );
            let at = start + Duration::from_secs(seconds);
            watched.take(at, &metrics, Value::Null);
        }
        let values = |name: &str| {
            let curve = watched.curves.iter().find(|curve| curve.name == name);
            curve.expect("it is watched").values.clone()
        };
        assert_eq!(values("puts /s"), [250.0, 0.0]);
        assert_eq!(values("pool used"), [1048576.0, 3145728.0, 0.0]);
        assert_eq!(values("gets /s"), [0.0; 0]);
        assert!(
            watched
                .line()
                .starts_with("running  pool used 0 B  pool size -  puts /s 0")
        );
    }

    #[test]
    fn old_values_go() {
        let mut watched = Watched::default();
        for reading in 0..KEPT + 10 {
            let metrics = format!("vtmem_pool_used_bytes {reading}");
            watched.take(Instant::now(), &metrics, Value::Null);
        }
        assert_eq!(watched.curves[0].values.len(), KEPT);
        assert_eq!(watched.curves[0].values[0], 10.0);
    }
}
