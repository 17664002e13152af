//! Quantities as people write and read them.

use std::time::Duration;

/// Reads a number of bytes: `128M`, `1G`, `4096`; K, M, G, T are powers of 1024.
///
/// # Errors
/// Anything else, in one line.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write for example 128M or 1G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "m" | "MiB" => 20,
        "G" | "g" | "GiB" => 30,
        "T" | "t" | "TiB" => 40,
        _ => return Err(wrong()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(wrong)
}

/// Reads a time: `100us`, `2ms`, `500ns`, `1s`.
///
/// # Errors
/// Anything else, in one line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write for example 100us or 2ms");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let nanoseconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    nanoseconds.map(Duration::from_nanos).ok_or_else(wrong)
}

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
