//! Quantities as people read them.

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the largest unit that leaves a number of at least one.
pub fn bytes(number: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| number >> shift > 0) {
        Some((shift, unit)) => {
            let value = number as f64 / (1u64 << shift) as f64;
            // Three digits say enough; 1023.9 needs no fraction.
            let digits = usize::from(value < 99.95 && !number.is_multiple_of(1 << shift));
            format!("{value:.digits$} {unit}")
        }
        None => format!("{number} B"),
    }
}

/// Seconds with three significant digits, in seconds or milliseconds.
pub fn seconds(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0} s"),
        _ if value >= 10.0 => format!("{value:.1} s"),
        _ if value >= 1.0 => format!("{value:.2} s"),
        _ => format!("{:.0} ms", value * 1000.0),
    }
}

#[cfg(test)]
#[path = "quantity_test.rs"]
mod tests;
