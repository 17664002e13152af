//! How far a comparison is: a bar for each mode and one for all on a terminal, elsewhere plain lines.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::Event;
use super::policy::Variant;

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Standard error: bars if it is a terminal, lines if not.
    User,
    /// Standard output, in the guest's own words, for another comparison that follows this one.
    Comparison,
}

/// The bars of a comparison.
#[derive(Debug)]
pub struct Bars {
    shown: MultiProgress,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    form: Form,
    start: Instant,
    /// All workloads under all modes: how many there are, and how many are through.
    total: AtomicUsize,
    done: AtomicUsize,
    bar: ProgressBar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bars,
    Lines,
    Events,
}

/// One guest's bar.
#[derive(Debug)]
pub struct Bar {
    variant: Variant,
    bar: ProgressBar,
    workloads: usize,
    finished: AtomicUsize,
    shared: Arc<Shared>,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Bars {
    /// No modes yet.
    pub fn new(audience: Audience) -> Self {
        let form = match audience {
            Audience::Comparison => Form::Events,
            Audience::User if io::stderr().is_terminal() => Form::Bars,
            Audience::User => Form::Lines,
        };
        let target = match form {
            Form::Bars => ProgressDrawTarget::stderr(),
            Form::Lines | Form::Events => ProgressDrawTarget::hidden(),
        };
        let shown = MultiProgress::with_draw_target(target);
        let bar = shown.add(ProgressBar::new(0));
        bar.set_style(style(
            "{prefix:>12} [{bar:24}] {pos}/{len} {elapsed_precise}",
        ));
        bar.set_prefix("all");
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            shown,
            shared: Arc::new(Shared {
                form,
                start: Instant::now(),
                total: AtomicUsize::new(0),
                done: AtomicUsize::new(0),
                bar,
            }),
        }
    }

    /// Adds the bar of `variant`, whose guest runs `workloads` workloads.
    pub fn add(&self, variant: Variant, workloads: usize) -> Bar {
        self.shared.total.fetch_add(workloads, Ordering::Relaxed);
        self.shared.bar.inc_length(workloads as u64);
        let bar = ProgressBar::new(workloads as u64);
        let bar = self.shown.insert_before(&self.shared.bar, bar);
        bar.set_style(style("{prefix:>12} [{bar:24}] {pos}/{len} {wide_msg}"));
        bar.set_prefix(variant.label());
        bar.set_message("waiting");
        Bar {
            variant,
            bar,
            workloads,
            finished: AtomicUsize::new(0),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Takes the bars off the terminal, for what follows says more.
    pub fn clear(&self) {
        self.shared.bar.finish_and_clear();
        // Fails when the terminal is gone.
        let _ = self.shown.clear();
    }
}

impl Bar {
    /// Says what is going on.
    pub fn stage(&self, what: &str) {
        self.say(what);
    }

    /// Follows what the guest says.
    pub fn event(&self, event: &Event) {
        if self.shared.form == Form::Events {
            let mut output = io::stdout().lock();
            // Nobody reads any more: the work is worth finishing all the same.
            let _ = writeln!(output, "{}", event.line()).and_then(|()| output.flush());
        }
        match event {
            Event::Started(workload) => self.say(workload.name()),
            Event::Finished(workload, _) => {
                self.count(1);
                self.say(&format!("{workload} done"));
            }
            Event::Passed(..) | Event::Counted(..) => {}
            Event::Failed(Some(workload), why) => {
                self.count(1);
                self.say(&format!("{workload} failed: {why}"));
            }
            Event::Failed(None, why) => self.say(&format!("failed: {why}")),
        }
    }

    /// The mode is through.
    pub fn end(&self, well: bool) {
        // Workloads that were never reached are through too.
        self.count(self.workloads);
        let word = if well { "done" } else { "failed" };
        self.say(word);
        self.bar.abandon_with_message(word);
    }

    fn count(&self, workloads: usize) {
        let before = self.finished.load(Ordering::Relaxed);
        let now = (before + workloads).min(self.workloads);
        self.finished.store(now, Ordering::Relaxed);
        self.shared.done.fetch_add(now - before, Ordering::Relaxed);
        self.bar.set_position(now as u64);
        self.shared.bar.inc((now - before) as u64);
    }

    fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.shared.form == Form::Lines {
            let shared = &self.shared;
            eprintln!(
                "[{}/{} {:>4} s] {}: {what}",
                shared.done.load(Ordering::Relaxed),
                shared.total.load(Ordering::Relaxed),
                shared.start.elapsed().as_secs(),
                self.variant
            );
        }
    }
}
