use super::*;
use crate::compare::result::tests::{sample, sample_with_policies};

/// Whether every element that opens closes, in order.
fn assert_well_formed(page: &str) {
    let mut open = Vec::new();
    let body = page
        .split_once("<body>")
        .unwrap()
        .1
        .split_once("</body>")
        .unwrap()
        .0;
    for tag in body.split('<').skip(1) {
        let tag = tag.split_once('>').expect("a tag ends").0;
        let name = tag.split([' ', '\n']).next().unwrap();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()), "</{name}>");
        } else if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} left open");
}

#[test]
fn is_one_self_contained_page() {
    let page = render(&sample());
    assert_well_formed(&page);
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(
        page.matches("<svg").count(),
        21,
        "four plots each, and writes for swap"
    );
    for workload in Workload::ALL {
        assert!(page.contains(&format!("<h2>{workload}</h2>")));
    }
    assert!(
        page.contains("\u{2212}75 %"),
        "tmem reads a quarter of what none reads"
    );
}

#[test]
fn what_each_mechanism_buys_has_a_plot_and_a_table() {
    let page = render(&sample_with_policies());
    assert_well_formed(&page);
    for workload in Workload::ALL {
        assert!(page.contains(&format!("Exits in {workload}")));
    }
    assert!(page.contains("x3.00") && page.contains("<dt>no-get-ahead</dt>"));
    assert!(!render(&sample()).contains("mechanism buys"));
}

#[test]
fn what_comes_from_outside_is_escaped() {
    let mut comparison = sample();
    comparison
        .problems
        .push("<script>alert('x')</script>".to_owned());
    comparison.runs[0]
        .exits
        .reasons
        .insert("<b>&".to_owned(), u64::MAX / 1000);
    comparison.runs[0].workload = "a\"<i>".to_owned();
    let page = render(&comparison);
    assert_well_formed(&page);
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<i>"));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
}

#[test]
fn parts_of_a_comparison_make_a_page() {
    let mut comparison = sample();
    comparison.instructions_per_ns = None;
    comparison
        .runs
        .retain(|run| run.mode == "writeback" && run.workload == "scan");
    let page = render(&comparison);
    assert_well_formed(&page);
    assert!(page.contains("wall time"));
    assert!(!page.contains("virtio-tmem did"));
    comparison.runs.clear();
    assert_well_formed(&render(&comparison));
}
