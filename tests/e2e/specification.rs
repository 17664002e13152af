//! SPECIFICATION.md names tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::Case;

pub const CASES: &[Case] = &[Case {
    name: "specification::every_named_test_exists",
    needs_guests: false,
    alone: false,
    run: every_named_test_exists,
}];

fn every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("SPECIFICATION.md")).expect("the specification");
    let mut known: BTreeSet<String> = crate::areas()
        .flat_map(|area| area.iter().map(|case| case.name.to_owned()))
        .collect();
    for directory in ["vmm", "tmem-device", "images"] {
        unit_tests(&root.join(directory), &mut known);
    }
    for target in fs::read_dir(root.join("tests/fuzz/targets")).expect("fuzz targets") {
        let path = target.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        known.insert(format!("fuzz:{name}"));
    }
    let mut named = 0;
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let Some((promise, tests)) = row.trim_end_matches([' ', '|']).rsplit_once(" | ") else {
            continue;
        };
        if promise == "promise" {
            continue;
        }
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds this promise: {promise}");
        for name in names {
            assert!(
                known.contains(name),
                "there is no test {name}, for: {promise}"
            );
            named += 1;
        }
    }
    assert!(
        named >= 60,
        "only {named} names were found: the tables have another form"
    );
}

/// Adds the functions below `directory` that are tests: by attribute, or inside `proptest!`.
fn unit_tests(directory: &Path, known: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            unit_tests(&path, known);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let (mut is_test, mut properties) = (false, false);
            for line in text.lines() {
                let code = line.trim_start();
                if line.starts_with("proptest!") {
                    properties = true;
                } else if line == "}" {
                    properties = false;
                } else if code == "#[test]" {
                    is_test = true;
                } else if let Some(rest) = code.strip_prefix("fn ") {
                    let name: String = rest
                        .chars()
                        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                        .collect();
                    if is_test || properties && line.starts_with("    fn ") {
                        known.insert(name);
                    }
                    is_test = false;
                }
            }
        }
    }
}
