//! `vtmem ctl watch`: figures that move, in a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Client;
use super::tables::size;
use crate::cli::CliError;

const PERIOD: Duration = Duration::from_secs(1);

/// Values of a curve that are shown.
const KEPT: usize = 48;

/// Heights of a character.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Home, and clear what follows.
const REDRAW: &str = "\x1b[H\x1b[J";

type Reading = BTreeMap<String, f64>;

/// A line of the view.
struct Curve {
    name: &'static str,
    metric: &'static str,
    /// Whether it is a counter, of which the growth in a second is shown.
    rate: bool,
    values: Vec<f64>,
}

fn curves() -> Vec<Curve> {
    let curve = |name, metric, rate| Curve {
        name,
        metric,
        rate,
        values: vec![],
    };
    vec![
        curve("pool used", "vtmem_pool_used_bytes", false),
        curve("pool size", "vtmem_pool_size_bytes", false),
        curve("puts /s", "vtmem_tmem_puts_total", true),
        curve("refused /s", "vtmem_tmem_puts_refused_total", true),
        curve("gets /s", "vtmem_tmem_gets_total", true),
        curve("hits /s", "vtmem_tmem_hits_total", true),
        curve("evicted /s", "vtmem_pool_evictions_total", true),
        curve("exits /s", "vtmem_exits_total", true),
    ]
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

fn sparkline(values: &[f64]) -> String {
    let top = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        let height = if top > 0.0 { value / top } else { 0.0 };
        BARS[((height * 7.0).round() as usize).min(7)]
    };
    values.iter().map(bar).collect()
}

/// Redraws until the VMM ends, or Ctrl-C.
///
/// # Errors
/// Nobody answers from the beginning on.
pub fn run(client: &Client) -> Result<(), CliError> {
    let terminal = std::io::stdout().is_terminal();
    let mut curves = curves();
    let mut last: Option<(Instant, Reading)> = None;
    loop {
        let (now, text) = match (Instant::now(), client.get("/metrics")) {
            (now, Ok(text)) => (now, text),
            (_, Err(error)) if last.is_none() => return Err(error),
            // It ended while it was watched.
            _ => return Ok(()),
        };
        let reading = parse(&text);
        let mut view = String::from(if terminal { REDRAW } else { "" });
        let running = reading.get("vtmem_vm_running").is_some_and(|on| *on > 0.0);
        let state = if running { "running" } else { "not running" };
        let _ = writeln!(view, "machine {state}\n");
        for curve in &mut curves {
            let value = reading.get(curve.metric).copied();
            let before = last.as_ref().and_then(|(at, before)| {
                Some((
                    now.duration_since(*at).as_secs_f64(),
                    before.get(curve.metric)?,
                ))
            });
            let shown = match (value, curve.rate, before) {
                (Some(value), false, _) => Some(value),
                (Some(value), true, Some((seconds, before))) => {
                    Some((value - before).max(0.0) / seconds)
                }
                _ => None,
            };
            let Some(shown) = shown else { continue };
            if curve.values.len() == KEPT {
                curve.values.remove(0);
            }
            curve.values.push(shown);
            let number = if curve.rate {
                format!("{shown:.0}")
            } else {
                size(shown as u64)
            };
            let line = sparkline(&curve.values);
            let _ = writeln!(view, "{:12} {number:>12}  {line}", curve.name);
        }
        let mut out = std::io::stdout();
        if out
            .write_all(view.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return Ok(());
        }
        last = Some((now, reading));
        sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn_to_their_highest_value() {
        assert_eq!(sparkline(&[0.0, 7.0, 3.5]), "▁█▅");
        assert_eq!(sparkline(&[0.0, 0.0]), "▁▁");
        let reading = parse("# HELP a b\na 7\nb{c=\"d e\"} 8\n");
        assert_eq!(reading["b{c=\"d e\"}"], 8.0);
    }
}
