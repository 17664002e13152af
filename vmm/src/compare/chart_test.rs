use super::*;

fn bar(label: &str, value: f64) -> Bar {
    Bar {
        label: label.to_owned(),
        value,
        text: format!("{value} <s>"),
    }
}

fn widths(svg: &str) -> Vec<f64> {
    svg.split("<rect ")
        .skip(1)
        .map(|rect| {
            let rest = rect.split_once("width=\"").unwrap().1;
            rest.split_once('"').unwrap().0.parse().unwrap()
        })
        .collect()
}

#[test]
fn lengths_are_in_proportion_and_leave_room_for_text() {
    let svg = bars(
        "Time",
        &[bar("none", 40.0), bar("tmem", 10.0), bar("writeback", 0.0)],
    );
    let widths = widths(&svg);
    assert!((widths[0] / widths[1] - 4.0).abs() < 0.01, "{widths:?}");
    assert_eq!(widths[2], 0.0);
    assert!(LABEL_WIDTH + widths[0] + TEXT_WIDTH <= WIDTH);
}

#[test]
fn odd_values_draw_something() {
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let svg = bars("x", &[bar("none", value)]);
        assert!(svg.ends_with("</svg></figure>\n"), "{svg}");
    }
    assert!(widths(&bars("x", &[bar("a", 1e12), bar("b", 1.0)]))[1] > 0.0);
    assert!(widths(&bars("x", &[])).is_empty());
}

#[test]
fn texts_are_escaped() {
    let svg = bars("a<b", &[bar("x\"y", 1.0)]);
    assert!(
        svg.contains("a&lt;b") && svg.contains("x&quot;y") && svg.contains("1 &lt;s&gt;"),
        "{svg}"
    );
}
