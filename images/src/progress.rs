//! Progress of a build, on the terminal or as plain lines.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Told what a build is doing.
pub trait Progress {
    /// A new step begins, such as "unpacking the kernel".
    fn step(&mut self, what: &str);
    /// The step has done `done` of `total` units.
    fn position(&mut self, done: u64, total: u64);
    /// Something that the user should know and that stays on the screen.
    fn note(&mut self, line: &str);
    /// Nothing more to do.
    fn finish(&mut self);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&mut self, _what: &str) {}
    fn position(&mut self, _done: u64, _total: u64) {}
    fn note(&mut self, _line: &str) {}
    fn finish(&mut self) {}
}

/// A line with a spinner or a bar on standard error; one plain line a step when that is not a terminal.
pub struct TerminalProgress {
    bar: Option<ProgressBar>,
    is_bar: bool,
}

impl TerminalProgress {
    /// For this process's standard error.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let mut progress = Self { bar, is_bar: true };
        progress.show_bar(false);
        progress
    }

    fn show_bar(&mut self, is_bar: bool) {
        let Some(bar) = &self.bar else { return };
        if is_bar == self.is_bar {
            return;
        }
        self.is_bar = is_bar;
        let template = if is_bar {
            "{spinner} {msg} [{wide_bar}] {percent}%"
        } else {
            "{spinner} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
    }
}

impl Default for TerminalProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TerminalProgress {
    /// An error that ends the build is printed on a line of its own.
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for TerminalProgress {
    fn step(&mut self, what: &str) {
        self.show_bar(false);
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("images: {what}"),
        }
    }

    fn position(&mut self, done: u64, total: u64) {
        self.show_bar(true);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    fn note(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("images: {line}"),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
