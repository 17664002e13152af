//! One progress bar for each mode; plain lines where there is no terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vtmem_workloads::workload::Workload;

use super::console::Event;
use super::mode::Mode;

/// The bars of a comparison.
#[derive(Debug)]
pub struct Bars {
    bars: MultiProgress,
    lines: bool,
}

/// One mode's bar.
#[derive(Debug)]
pub struct Bar {
    mode: Mode,
    bar: ProgressBar,
    /// Whether to print lines instead.
    lines: bool,
}

impl Bars {
    /// Bars on standard error, or lines when that is no terminal.
    pub fn new() -> Self {
        let lines = !io::stderr().is_terminal();
        let target = if lines {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            lines,
        }
    }

    /// Adds the bar of `mode`, whose guest runs `workloads` workloads.
    pub fn add(&self, mode: Mode, workloads: usize) -> Bar {
        let style = ProgressStyle::with_template(
            "{prefix:>12} [{bar:24}] {pos}/{len} {elapsed:>4} {wide_msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
        let bar = self
            .bars
            .add(ProgressBar::new(workloads as u64).with_style(style));
        bar.set_prefix(mode.name());
        bar.set_message("waiting");
        Bar {
            mode,
            bar,
            lines: self.lines,
        }
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

impl Bar {
    /// Says what is going on.
    pub fn stage(&self, what: &str) {
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(Duration::from_millis(250));
        self.say(what);
    }

    /// Follows what the guest says.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Started(workload) => self.say(workload.name()),
            Event::Finished(workload, _) => self.finished(*workload),
            Event::Failed(reason) => self.say(&format!("failed: {reason}")),
        }
    }

    /// Counts a workload that finished.
    pub fn finished(&self, workload: Workload) {
        self.bar.inc(1);
        self.say(&format!("{workload} done"));
    }

    /// Leaves the bar as it is, with a last word.
    pub fn end(&self, word: &str) {
        self.say(word);
        self.bar.abandon_with_message(word.to_owned());
    }

    fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.lines {
            eprintln!("{}: {what}", self.mode);
        }
    }
}
