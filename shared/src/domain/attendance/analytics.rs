//! How many people were there, over the course of a session.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::{Instant, Interval, Row, Span, micros};

/// How many people were there over the course of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analytics {
    /// Most people present at one instant.
    pub peak: usize,
    /// When the peak was first reached; `None` where nobody came.
    pub peak_at: Option<DateTime<Utc>>,
    /// Mean number of people present over the span, two decimals.
    pub average: f64,
    pub timeline: Vec<Bucket>,
}

/// A slice of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    pub start: DateTime<Utc>,
    /// Mean number of people present in this slice, two decimals.
    pub average: f64,
}

/// Peak, average and timeline from the intervals of a report, in slices of `slice` (at least one second; the last
/// one may be shorter).
pub fn analytics(span: Span, rows: &[Row], slice: Duration) -> Analytics {
    let intervals: Vec<&Interval> = rows.iter().flat_map(|row| &row.intervals).collect();
    let mut changes: BTreeMap<Instant, (usize, usize)> = BTreeMap::new();
    for interval in &intervals {
        changes.entry(interval.start).or_default().0 += 1;
        changes.entry(interval.end).or_default().1 += 1;
    }
    let (mut here, mut peak, mut peak_at) = (0, 0, None);
    for (at, (came, left)) in changes {
        here += came;
        if here > peak {
            (peak, peak_at) = (here, Some(at));
        }
        here -= left;
    }
    let average = |part: Span| {
        let together: i64 = intervals.iter().map(|interval| micros(overlap(interval, part))).sum();
        match micros(part.length()) {
            0 => 0.0,
            length => (together as f64 * 100.0 / length as f64).round() / 100.0,
        }
    };
    let step = slice.max(Duration::seconds(1));
    let timeline = std::iter::successors(Some(span.start), |start| Some(*start + step))
        .take_while(|start| *start < span.end)
        .map(|start| Bucket { start, average: average(Span { start, end: (start + step).min(span.end) }) })
        .collect();
    Analytics { peak, peak_at, average: average(span), timeline }
}

fn overlap(interval: &Interval, part: Span) -> Duration {
    (interval.end.min(part.end) - interval.start.max(part.start)).max(Duration::zero())
}
