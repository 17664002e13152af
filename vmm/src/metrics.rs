//! Prometheus' text format. Which metrics there are, is said beside what is measured.

use std::fmt::Write as _;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Metrics, as they are written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// Begins a metric; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        debug_assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        self.family = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a text never fails.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the metric that was begun.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.text.push_str(self.family);
        for (number, (name, label)) in labels.iter().enumerate() {
            self.text.push(if number == 0 { '{' } else { ',' });
            let label = label
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{name}=\"{label}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// A metric with one sample.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// All that was written.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_help_type_and_samples() {
        let mut to = Exposition::default();
        to.single("a_bytes", Kind::Gauge, "Bytes.", 7);
        to.family("b_total", Kind::Counter, "Things.");
        to.sample(&[("x", "a\"b"), ("y", "c\\d\ne")], u64::MAX);
        assert_eq!(
            to.into_text(),
            "# HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes 7\n\
             # HELP b_total Things.\n# TYPE b_total counter\n\
             b_total{x=\"a\\\"b\",y=\"c\\\\d\\ne\"} 18446744073709551615\n"
        );
    }
}
