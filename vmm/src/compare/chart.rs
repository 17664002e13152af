//! Bar plots as inline SVG. Colours come from the page's style sheet, so that they follow its light and dark themes.

use std::fmt::Write as _;

use super::html::escape;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What stands left of it; also its style sheet class.
    pub label: String,
    /// What decides its length.
    pub value: f64,
    /// What stands right of it.
    pub text: String,
}

/// Units of the picture: text is 13 of them high.
const WIDTH: f64 = 400.0;
const LABEL_WIDTH: f64 = 96.0;
/// Room right of the longest bar for its text.
const TEXT_WIDTH: f64 = 96.0;
const ROW: f64 = 28.0;
const BAR: f64 = 18.0;

/// Draws horizontal bars to a common scale that begins at zero.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let height = ROW * bars.len() as f64 + 2.0;
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let room = WIDTH - LABEL_WIDTH - TEXT_WIDTH;
    let title = escape(title);
    let mut svg = format!(
        "<figure><figcaption>{title}</figcaption>\n\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n\
         <line class=\"axis\" x1=\"{LABEL_WIDTH}\" y1=\"0\" x2=\"{LABEL_WIDTH}\" y2=\"{height}\"/>\n"
    );
    for (row, bar) in bars.iter().enumerate() {
        let top = ROW * row as f64 + (ROW - BAR) / 2.0;
        let baseline = ROW * row as f64 + ROW / 2.0 + 4.5;
        let share = if longest > 0.0 {
            bar.value.max(0.0) / longest
        } else {
            0.0
        };
        // Even next to nothing is to be seen.
        let length = if bar.value > 0.0 {
            (share * room).max(1.0)
        } else {
            0.0
        };
        let (label, text) = (escape(&bar.label), escape(&bar.text));
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{baseline:.1}\">{label}</text>\
             <rect class=\"bar {label}\" x=\"{LABEL_WIDTH}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{baseline:.1}\">{text}</text>",
            LABEL_WIDTH - 8.0,
            LABEL_WIDTH + length + 6.0,
        );
    }
    svg.push_str("</svg></figure>\n");
    svg
}

#[cfg(test)]
#[path = "chart_test.rs"]
mod tests;
