//! From presences to one row per person, with its verdict.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::Duration;

use super::{
    Corrected, Correction, Instant, Interval, Invited, Row, Rules, Sighting, Span, Status, micros,
    presences::{Ending, Presence, presences, union},
};

/// The attendance of everyone invited, seen or corrected: first the invited in the given order, then
/// the others by first join and id.
pub fn report(
    span: Span,
    invited: &[Invited],
    sightings: &[Sighting],
    corrections: &[Correction],
    rules: &Rules,
) -> Vec<Row> {
    let mut seen: HashMap<&str, Seen> = presences(sightings, rules, span.over.then_some(span.end))
        .into_iter()
        .map(|(person, connections)| (person, Seen::within(span, &connections)))
        .filter(|(_, seen)| !seen.intervals.is_empty())
        .collect();
    let mut latest: BTreeMap<&str, &Correction> = BTreeMap::new();
    for correction in corrections {
        let kept = latest.entry(&correction.person).or_insert(correction);
        if correction_order(correction) > correction_order(kept) {
            *kept = correction;
        }
    }
    let mut rows: Vec<Row> = Vec::with_capacity(invited.len() + seen.len());
    let mut listed: BTreeSet<&str> = BTreeSet::new();
    for guest in invited.iter().filter(|guest| listed.insert(&guest.person)) {
        rows.push(row(span, &guest.person, Some(guest), seen.remove(guest.person.as_str()), rules));
    }
    let known = rows.len();
    let uninvited: BTreeSet<&str> =
        seen.keys().chain(latest.keys()).copied().filter(|person| !listed.contains(person)).collect();
    for person in uninvited {
        rows.push(row(span, person, None, seen.remove(person), rules));
    }
    rows[known..].sort_by_key(|row| (row.first_join.is_none(), row.first_join));
    for row in &mut rows {
        if let Some(correction) = latest.get(row.person.as_str()) {
            correct(row, span, correction);
        }
    }
    rows
}

/// What is left of a person's presences within the session's span.
struct Seen {
    intervals: Vec<Interval>,
    connections: usize,
}

impl Seen {
    fn within(span: Span, connections: &[Vec<Presence>]) -> Self {
        let clip = |presence: &Presence| {
            let end = if presence.ending == Ending::Open { span.end.max(presence.start) } else { presence.end };
            (presence.start <= span.end && end >= span.start).then(|| Interval {
                start: presence.start.max(span.start),
                end: end.min(span.end),
                sources: presence.sources.clone(),
            })
        };
        let clipped: Vec<Vec<Interval>> =
            connections.iter().map(|connection| connection.iter().filter_map(clip).collect()).collect();
        let connections = clipped.iter().filter(|intervals| !intervals.is_empty()).count();
        Self { intervals: union(clipped.into_iter().flatten().collect()), connections }
    }
}

fn row(span: Span, person: &str, invited: Option<&Invited>, seen: Option<Seen>, rules: &Rules) -> Row {
    let Seen { intervals, connections } = seen.unwrap_or(Seen { intervals: Vec::new(), connections: 0 });
    let present = intervals.iter().map(|interval| interval.end - interval.start).sum();
    Row {
        person: person.to_owned(),
        name: invited.map(|invited| invited.name.clone()),
        email: invited.and_then(|invited| invited.email.clone()),
        invited: invited.is_some(),
        first_join: intervals.first().map(|interval| interval.start),
        last_leave: intervals.last().map(|interval| interval.end),
        present_seconds: Duration::num_seconds(&present),
        percent: share(present, span.length()) as f64 / 100.0,
        status: match judge(span, &intervals, present, rules) {
            Status::Absent if invited.is_some_and(|invited| invited.excused) => Status::Excused,
            status => status,
        },
        intervals,
        connections,
        corrected: None,
    }
}

fn judge(span: Span, intervals: &[Interval], present: Duration, rules: &Rules) -> Status {
    let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else { return Status::Absent };
    let late = first.start - span.start > rules.late_after;
    let left_early = span.end - last.end > rules.left_early_before;
    let enough_of = |whole: Duration| share(present, whole) >= hundredths(rules.present_ratio);
    if share(present, span.length()) < hundredths(rules.partial_below) {
        return Status::Partial;
    }
    match (late, left_early) {
        (true, false) if enough_of(span.end - first.start) => Status::Late,
        (false, true) if enough_of(last.end - span.start) => Status::LeftEarly,
        (false, false) if enough_of(span.length()) => Status::Present,
        _ => Status::Partial,
    }
}

fn correct(row: &mut Row, span: Span, correction: &Correction) {
    row.corrected = Some(Corrected {
        by: correction.by.clone(),
        at: correction.at,
        reason: correction.reason.clone(),
        original_status: row.status,
        original_present_seconds: row.present_seconds,
        original_percent: row.percent,
    });
    row.status = correction.status.unwrap_or(row.status);
    if let Some(present_seconds) = correction.present_seconds {
        row.present_seconds = present_seconds;
        row.percent = share(Duration::seconds(present_seconds), span.length()) as f64 / 100.0;
    }
}

/// Latest first; the rest of the key only makes the choice independent of the order given.
fn correction_order(correction: &Correction) -> (Instant, &str, &str, Option<Status>, Option<i64>) {
    (correction.at, &correction.by, &correction.reason, correction.status, correction.present_seconds)
}

/// `part` of `whole` in hundredths of a percent, 0 to 10 000, rounded down; 0 of an empty whole.
fn share(part: Duration, whole: Duration) -> i64 {
    match micros(whole) {
        whole if whole <= 0 => 0,
        whole => (i128::from(micros(part)) * 10_000 / i128::from(whole)).clamp(0, 10_000) as i64,
    }
}

fn hundredths(ratio: f64) -> i64 {
    (ratio * 10_000.0).round() as i64
}
