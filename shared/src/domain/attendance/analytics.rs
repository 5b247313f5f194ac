//! How many people were there over the course of a session, and how punctual they were.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::{Instant, Row, Rules, Span, micros};

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
    /// Most people present at one instant of this slice, its end excluded.
    pub peak: usize,
}

/// How punctual those were who came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punctuality {
    /// First came within `late_after` of the start.
    pub on_time: usize,
    /// First came later.
    pub late: usize,
    /// Were last seen more than `left_early_before` before the end.
    pub left_early: usize,
    /// Median of the first joins, whole seconds after the start; `None` where nobody came.
    pub median_delay_seconds: Option<i64>,
}

/// Peak, average and timeline from the intervals of a report, in slices of `slice` (at least one second; the last
/// one may be shorter). Takes time as there are intervals and slices, however long each of them is.
pub fn analytics(span: Span, rows: &[Row], slice: Duration) -> Analytics {
    let mut changes: BTreeMap<Instant, Change> = BTreeMap::new();
    for interval in rows.iter().flat_map(|row| &row.intervals) {
        changes.entry(interval.start).or_default().came += 1;
        changes.entry(interval.end).or_default().left += 1;
    }
    let step = slice.max(Duration::seconds(1));
    let mut slices: VecDeque<Slice> = std::iter::successors(Some(span.start), |start| Some(*start + step))
        .take_while(|start| *start < span.end)
        .map(|start| Slice { start, end: (start + step).min(span.end), together: 0, peak: 0 })
        .collect();
    let mut timeline = Vec::with_capacity(slices.len());
    let (mut here, mut peak, mut peak_at, mut since) = (0, 0, None, span.start);
    for (at, change) in changes {
        let reached = move_on(&mut slices, &mut timeline, since, at, here);
        since = since.max(reached);
        here += change.came;
        if here > peak {
            (peak, peak_at) = (here, Some(at));
        }
        if let Some(current) = slices.front_mut().filter(|slice| slice.start <= at) {
            current.peak = current.peak.max(here);
        }
        here -= change.left;
    }
    move_on(&mut slices, &mut timeline, since, span.end, here);
    timeline.extend(slices);
    let together: i128 = timeline.iter().map(|slice| slice.together).sum();
    Analytics {
        peak,
        peak_at,
        average: mean(together, span.length()),
        timeline: timeline.into_iter().map(Slice::bucket).collect(),
    }
}

#[derive(Default)]
struct Change {
    came: usize,
    left: usize,
}

struct Slice {
    start: Instant,
    end: Instant,
    /// Time of all people, microseconds.
    together: i128,
    peak: usize,
}

impl Slice {
    fn bucket(self) -> Bucket {
        Bucket { start: self.start, average: mean(self.together, self.end - self.start), peak: self.peak }
    }
}

/// `here` people are there from `since` to `to`: counts them in the slices, and takes those off that are over. Returns `to`.
fn move_on(
    slices: &mut VecDeque<Slice>,
    done: &mut Vec<Slice>,
    mut since: Instant,
    to: Instant,
    here: usize,
) -> Instant {
    while let Some(current) = slices.front_mut() {
        let until = current.end.min(to);
        if until > since {
            current.together += micros(until - since) as i128 * here as i128;
            current.peak = current.peak.max(here);
            since = until;
        }
        if current.end > to {
            break;
        }
        done.extend(slices.pop_front());
    }
    to
}

/// Two decimals; zero where there is no time.
fn mean(together: i128, length: Duration) -> f64 {
    match micros(length) {
        length if length <= 0 => 0.0,
        length => (together as f64 * 100.0 / length as f64).round() / 100.0,
    }
}

/// How punctual those were who came, invited or not.
pub fn punctuality(span: Span, rows: &[Row], rules: &Rules) -> Punctuality {
    let mut delays: Vec<Duration> = rows.iter().filter_map(|row| row.first_join).map(|at| at - span.start).collect();
    delays.sort_unstable();
    let late = delays.iter().filter(|delay| **delay > rules.late_after).count();
    let leaves = rows.iter().filter_map(|row| row.last_leave);
    Punctuality {
        on_time: delays.len() - late,
        late,
        left_early: leaves.filter(|at| span.over && span.end - *at > rules.left_early_before).count(),
        // Of an even number the earlier of the two in the middle.
        median_delay_seconds: delays.get(delays.len().saturating_sub(1) / 2).map(Duration::num_seconds),
    }
}
