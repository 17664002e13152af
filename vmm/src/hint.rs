//! The nearest right name for a wrong one.

/// "(did you mean …?)" when one of `known` is near enough to be what was meant, or nothing.
pub fn hint(written: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|&candidate| (edits(written, candidate), candidate))
        .min()
        .filter(|&(distance, candidate)| distance <= 1 + candidate.len() / 3)
        .map(|(_, candidate)| format!(" (did you mean '{candidate}'?)"))
        .unwrap_or_default()
}

/// An error of serde's with a hint, where it says which name it did not know and which it does.
pub fn with_hint(error: &str) -> String {
    let mut quoted = error.split('`').skip(1).step_by(2);
    let unknown = error.contains("unknown field") || error.contains("unknown variant");
    let Some(written) = quoted.next().filter(|_| unknown) else {
        return error.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    let hint = hint(written, &known);
    let name = format!("`{written}`");
    error.replacen(&name, &format!("{name}{hint}"), 1)
}

/// How many characters must be inserted, dropped or changed to make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_if_it_is_near() {
        assert_eq!(hint("sise", &["size", "cache"]), " (did you mean 'size'?)");
        assert_eq!(hint("banana", &["size", "cache"]), "");
    }

    #[test]
    fn serdes_errors_get_a_hint() {
        let error = "unknown field `memroy`, expected `memory` or `cpus` at line 1 column 9";
        let hinted = with_hint(error);
        assert!(hinted.starts_with("unknown field `memroy` (did you mean 'memory'?)"));
        assert_eq!(with_hint("missing field `size`"), "missing field `size`");
    }
}
