//! JSON as a table for people: a line for each value, named by the way to it.

use serde_json::Value;

/// The widest name that values are aligned to.
const WIDEST: usize = 40;

/// A table of all that is in `value`.
pub fn of(value: &Value) -> String {
    let mut rows = vec![];
    collect("", value, &mut rows);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let width = width.min(WIDEST);
    rows.iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

fn collect(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |part: &str| match name {
        "" => part.to_owned(),
        _ => format!("{name}.{part}"),
    };
    match value {
        Value::Object(members) => {
            for (part, value) in members {
                collect(&below(part), value, rows);
            }
        }
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                collect(&below(&number.to_string()), value, rows);
            }
        }
        Value::Null => rows.push((name.to_owned(), "-".to_owned())),
        Value::String(text) => rows.push((name.to_owned(), text.clone())),
        Value::Number(number) => {
            let amount = ["bytes", "memory", "size", "minimum", "maximum"]
                .iter()
                .any(|unit| name.ends_with(unit));
            let text = match number.as_u64() {
                Some(bytes) if amount => size(bytes),
                _ => number.to_string(),
            };
            rows.push((name.to_owned(), text));
        }
        Value::Bool(yes) => {
            rows.push((name.to_owned(), if *yes { "yes" } else { "no" }.to_owned()))
        }
    }
}

/// Bytes in the largest unit of which there is one.
pub fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_value() {
        let value = json!({"state": "running", "pool": {"used_bytes": 3 << 19, "pages": 7},
            "disks": [{"id": "a"}], "frozen": false, "governor": null});
        let table = of(&value);
        for line in [
            "state            running",
            "pool.used_bytes  1.5 MiB",
            "pool.pages       7",
            "disks.0.id       a",
            "frozen           no",
            "governor         -",
        ] {
            assert!(
                table.lines().any(|found| found == line),
                "{line:?} in\n{table}"
            );
        }
    }
}
