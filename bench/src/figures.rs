//! Numbers of several runs: median and spread, percentiles, and how they are written.

/// Of a measured quantity: one value per run.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
    pub runs: usize,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        match (sorted.first(), sorted.last()) {
            (Some(&min), Some(&max)) => Self { min, median: percentile(&sorted, 50.0), max, runs: sorted.len() },
            _ => Self::default(),
        }
    }

    /// `median (min-max)`, or the only value.
    pub fn text(&self) -> String {
        match self.runs {
            0 => "-".to_owned(),
            1 => number(self.median),
            _ => format!("**{}** ({}-{})", number(self.median), number(self.min), number(self.max)),
        }
    }
}

/// The value below which `p` percent of the sorted values lie; the middle of the two nearest for p = 50
/// of an even count.
pub fn percentile(sorted: &[f64], p: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let rank = p / 100.0 * (sorted.len() - 1) as f64;
    let (low, high) = (rank.floor() as usize, rank.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (rank - low as f64)
}

/// Three significant digits, thousands separated.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    match value.abs() {
        v if v >= 1000.0 => thousands(value.round() as i64),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]).text(), "**2.00** (1.00-3.00)");
        assert_eq!(Spread::of(&[1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of(&[]).text(), "-");
    }

    #[test]
    fn percentiles_are_interpolated() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 99.0), 99.0);
        assert_eq!(percentile(&[1.0, 2.0], 99.0), 1.99);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.014, 1.234, 12.34, 123.4, 1_234_567.0].map(number), ["0.01", "1.23", "12.3", "123", "1,234,567"]);
    }
}
