//! What `vtmem ctl watch` shows on a terminal: how full the pool is, curves, and who holds what where.

use std::io;
use std::path::Path;
use std::time::Instant;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};
use serde_json::Value;

use super::client::Client;
use super::tables::size;
use super::watch::{Curve, PERIOD, Watched};

/// Columns of a curve's name and value.
const NAME: u16 = 12;
const VALUE: u16 = 12;

/// Shows what is watched until the VMM ends, or `q` or Ctrl-C is pressed. The terminal is as before then.
///
/// # Errors
/// The terminal fails.
pub fn show(mut watched: Watched, client: &Client, socket: &Path) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let mut next = Instant::now() + PERIOD;
    let result = loop {
        if let Err(error) = terminal.draw(|frame| draw(frame, &watched, socket)) {
            break Err(error);
        }
        match event::poll(next.saturating_duration_since(Instant::now())) {
            Ok(true) => match event::read() {
                Ok(event) if is_end(&event) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            },
            Ok(false) => {
                next = Instant::now() + PERIOD;
                // The VMM may end while it is watched.
                if watched.look(client).is_err() {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    ratatui::try_restore()?;
    result
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && (control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

fn draw(frame: &mut Frame<'_>, watched: &Watched, socket: &Path) {
    let rows = tiers(&watched.tmem).len().max(pools(&watched.tmem).len()) as u16;
    let [title, full, curves, tables] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Min(1),
        Constraint::Length(rows + 3),
    ])
    .areas(frame.area());
    let state = if watched.running {
        "running".green()
    } else {
        "not running".red()
    };
    let name = format!("vtmem {}: ", socket.display());
    let line = Line::from(vec![name.bold(), state, "  (q quits)".dim()]);
    frame.render_widget(line, title);
    draw_fill(frame, watched, full);
    draw_curves(frame, &watched.curves, curves);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(tables);
    let header = ["tier", "used", "size", "pages"];
    draw_table(frame, left, "where pages are", header, tiers(&watched.tmem));
    let header = ["pool", "kind", "pages", ""];
    draw_table(
        frame,
        right,
        "the guest's pools",
        header,
        pools(&watched.tmem),
    );
}

fn draw_fill(frame: &mut Frame<'_>, watched: &Watched, area: Rect) {
    let figure = |name: &str| watched.tmem["now"][name].as_u64();
    let block = Block::bordered().title("pool");
    let (Some(used), Some(most)) = (figure("used_bytes"), figure("size_bytes")) else {
        let text = Paragraph::new("no tmem, or not started").dim().block(block);
        frame.render_widget(text, area);
        return;
    };
    let ratio = (used as f64 / most.max(1) as f64).min(1.0);
    let freeable = size(figure("freeable_bytes").unwrap_or(0));
    let label = format!("{} of {}, {freeable} freeable", size(used), size(most));
    let gauge = Gauge::default().ratio(ratio).label(label);
    frame.render_widget(gauge.gauge_style(Color::Blue).block(block), area);
}

fn draw_curves(frame: &mut Frame<'_>, curves: &[Curve], area: Rect) {
    let lines = Layout::vertical(vec![Constraint::Fill(1); curves.len()]).split(area);
    for (curve, line) in curves.iter().zip(lines.iter()) {
        let [name, value, plot] = Layout::horizontal([
            Constraint::Length(NAME),
            Constraint::Length(VALUE),
            Constraint::Fill(1),
        ])
        .spacing(1)
        .areas(*line);
        frame.render_widget(Line::from(curve.name), name);
        frame.render_widget(Line::from(curve.latest()).right_aligned(), value);
        let width = usize::from(plot.width).min(curve.values.len());
        let latest = &curve.values[curve.values.len() - width..];
        let plotted = Sparkline::default().data(latest.iter().map(|value| *value as u64));
        frame.render_widget(plotted.style(Style::new().fg(Color::Blue)), plot);
    }
}

type Cells = [String; 4];

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &'static str,
    header: [&'static str; 4],
    rows: Vec<Cells>,
) {
    let table = Table::new(rows.into_iter().map(Row::new), [Constraint::Fill(1); 4])
        .header(Row::new(header).dim())
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

fn items(of: &Value) -> impl Iterator<Item = &Value> {
    of.as_array().into_iter().flatten()
}

fn tiers(tmem: &Value) -> Vec<Cells> {
    let bytes = |of: &Value| size(of.as_u64().unwrap_or(0));
    items(&tmem["now"]["tiers"])
        .map(|tier| {
            [
                tier["kind"].as_str().unwrap_or("").to_owned(),
                bytes(&tier["used_bytes"]),
                bytes(&tier["size_bytes"]),
                tier["pages"].to_string(),
            ]
        })
        .collect()
}

fn pools(tmem: &Value) -> Vec<Cells> {
    items(&tmem["now"]["guests"])
        .flat_map(|guest| items(&guest["pools"]))
        .map(|pool| {
            [
                pool["id"].to_string(),
                pool["kind"].as_str().unwrap_or("").to_owned(),
                pool["pages"].to_string(),
                String::new(),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyEvent;
    use serde_json::json;

    use super::*;

    /// What is on a screen of this size, line by line.
    fn drawn(watched: &Watched, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        let draw = |frame: &mut Frame<'_>| draw(frame, watched, Path::new("vm.sock"));
        terminal.draw(draw).expect("drawn");
        let buffer = terminal.backend().buffer();
        let cells = buffer.content().chunks(width.into());
        let line =
            |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect();
        cells.map(line).collect()
    }

    fn watched() -> Watched {
        let mut watched = Watched::default();
        let tmem = json!({"now": {"size_bytes": 32 << 20, "used_bytes": 24 << 20, "freeable_bytes": 1 << 20,
            "tiers": [{"kind": "ram", "used_bytes": 24 << 20, "size_bytes": 32 << 20, "pages": 6000},
                {"kind": "disk", "used_bytes": 3_u64 << 30, "size_bytes": 4_u64 << 30, "pages": 98765}],
            "guests": [{"pools": [{"id": 0, "kind": "persistent", "pages": 4321}]}]}});
        let start = Instant::now();
        for second in 0..9 {
            let metrics = format!(
                "vtmem_vm_running 1\nvtmem_tmem_puts_total {}\n",
                second * second * 100
            );
            watched.take(start + PERIOD * second, &metrics, tmem.clone());
        }
        watched
    }

    #[test]
    fn all_that_matters_is_on_the_screen() {
        let lines = drawn(&watched(), 100, 30);
        let has = |parts: &[&str]| {
            let found = lines
                .iter()
                .any(|line| parts.iter().all(|part| line.contains(part)));
            assert!(found, "{parts:?} in\n{}", lines.join("\n"));
        };
        has(&["vtmem vm.sock: running", "(q quits)"]);
        has(&["24.0 MiB of 32.0 MiB, 1.0 MiB freeable"]);
        has(&["puts /s", "1500", "█"]);
        has(&["ram", "24.0 MiB", "32.0 MiB", "6000"]);
        has(&["disk", "3.0 GiB", "4.0 GiB", "98765"]);
        has(&["0", "persistent", "4321"]);
    }

    #[test]
    fn small_screens_and_machines_without_tmem_are_drawn() {
        for (width, height) in [(1, 1), (10, 3), (80, 8), (300, 100)] {
            drawn(&watched(), width, height);
            let lines = drawn(&Watched::default(), width, height);
            let whole = lines.concat();
            assert!(
                width < 80 || whole.contains("no tmem, or not started"),
                "{whole}"
            );
        }
    }

    #[test]
    fn it_ends_when_told_to() {
        let pressed = |code, modifiers| is_end(&Event::Key(KeyEvent::new(code, modifiers)));
        assert!(pressed(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!pressed(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!is_end(&Event::FocusLost));
    }
}
