//! A bar chart as SVG, drawn by hand: no library is worth it.

use crate::figures::number;

const WIDTH: f64 = 720.0;
const LABEL: f64 = 150.0;
const BAR: f64 = 26.0;

/// Horizontal bars, one per value, the first one highlighted.
pub fn bars(title: &str, values: &[(String, f64)]) -> String {
    let largest = values.iter().map(|(_, v)| *v).filter(|v| v.is_finite()).fold(1.0, f64::max);
    let height = 50.0 + values.len() as f64 * (BAR + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"24\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (i, (name, value)) in values.iter().enumerate() {
        let y = 40.0 + i as f64 * (BAR + 10.0);
        let value = if value.is_finite() { *value } else { 0.0 };
        let width = (value / largest * (WIDTH - LABEL - 90.0)).max(1.0);
        let middle = y + BAR * 0.7;
        let colour = if i == 0 { "#1f6feb" } else { "#9aa4b2" };
        svg += &format!(
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{middle}\">{}</text>\n",
            LABEL - 8.0,
            escaped(name),
            LABEL + width + 8.0,
            number(value)
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fits() {
        let svg = bars("a < b", &[("ours".to_owned(), 10.0), ("peer & co".to_owned(), 200.0)]);
        assert!(svg.contains("width=\"480.0\"") && svg.contains("a &lt; b") && svg.contains("peer &amp; co"));
    }
}
