//! Who was there, when, and for how long: attendance computed from sightings. Pure; no I/O and no clock.
//!
//! **Order does not matter.** Sightings are grouped by person and connection and ordered by their own time,
//! never by arrival; sightings of one connection at one instant count as one group. Any permutation or
//! repetition of the same sightings gives the same report.
//!
//! **One connection.** Its sightings are read per kind of evidence, and the results are united:
//! 1. *Heartbeats* prove single instants. Two neighbouring heartbeats at most `heartbeat_timeout` apart prove
//!    the time between them; a larger gap, or a `Left`, ends the interval at the last sighting before it.
//! 2. *Provider events* (webhook, poll, end report) prove a state: presence lasts from `Joined`, or from the
//!    first `Seen` where the `Joined` is missing, to `Left`. Without a `Left` it lasts to the session's end.
//!    - A second `Joined` while present, and a `Left` while absent, change nothing.
//!    - A `Left` with nothing before it proves the instant of leaving alone (zero seconds, but not absent).
//!    - A `Seen` after a `Left` proves presence up to the last such `Seen`, not to the session's end: clocks of
//!      provider and poller differ, and only a `Joined` says that the person is back to stay.
//!    - At one instant, who was present leaves and may come back by a `Joined`; who was not comes and leaves.
//! 3. *Entries by hand* are read as provider events, but an open one ends at its last sighting.
//!
//! **The end report wins.** Where an end report has a `Left` for a connection, webhooks and polls of that
//! connection are not read. Where it has one for a person, but does not know a connection of that person at all
//! (BigBlueButton's report has no connection ids), a presence left open there ends with the person's last
//! reported `Left`, though never before its own last sighting.
//!
//! **A person.** The intervals of all connections are clipped to the session's actual span, bounds included,
//! and united; overlapping and touching ones become one. A person without any is absent, and is listed
//! only when invited or corrected.
//!
//! **Status**, by the first rule that fits; shares are compared in hundredths of a percent:
//! 1. `absent`: no interval.
//! 2. `partial`: present for less than `partial_below` of the span, or both late and left early.
//! 3. `late`: first came more than `late_after` past the start, and then stayed `present_ratio` of what was left.
//! 4. `left_early`: last seen more than `left_early_before` before the end, present for `present_ratio` until then.
//! 5. `present`: present for `present_ratio` of the span. Else `partial`.
//!
//! Who is `absent` and was excused beforehand is `excused`. Corrections come last, whatever they say: of several for a person the latest
//! counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

type Instant = DateTime<Utc>;

/// Where a sighting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The person's page, stamped by our clock.
    Heartbeat,
    /// An event that the provider sent.
    Webhook,
    /// A list of those present that we asked the provider for.
    Poll,
    /// The provider's own account after the end.
    EndReport,
    /// Entered by a person.
    Manual,
}

impl Source {
    /// All sources, in the order in which reports name them.
    pub const ALL: [Self; 5] = [Self::Heartbeat, Self::Webhook, Self::Poll, Self::EndReport, Self::Manual];

    /// The name used in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::EndReport => "end_report",
            Self::Manual => "manual",
        }
    }

    fn evidence(self) -> Evidence {
        match self {
            Self::Heartbeat => Evidence::Heartbeat,
            Self::Webhook | Self::Poll | Self::EndReport => Evidence::Provider,
            Self::Manual => Evidence::Manual,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the names of [`Source`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown attendance source {0:?}")]
pub struct UnknownSource(pub String);

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|source| source.as_str() == text).ok_or_else(|| UnknownSource(text.to_owned()))
    }
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SightingKind {
    Joined,
    Seen,
    Left,
}

/// One piece of evidence that a person was, or no longer was, in the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sighting {
    /// External user id, or the key of a guest.
    pub person: String,
    /// One tab, device or provider participant; names are unique within a person.
    pub connection: String,
    pub source: Source,
    pub kind: SightingKind,
    pub at: DateTime<Utc>,
}

impl Sighting {
    /// The sightings that a stored stretch of unbroken heartbeats stands for, for stores that keep the first and
    /// the last one only. With `left`, the last one is a `Left`.
    pub fn stretch(
        person: &str,
        connection: &str,
        heartbeats: (DateTime<Utc>, DateTime<Utc>),
        left: bool,
        rules: &Rules,
    ) -> Vec<Self> {
        let (first, last) = heartbeats;
        let sighting = |kind, at| Self {
            person: person.to_owned(),
            connection: connection.to_owned(),
            source: Source::Heartbeat,
            kind,
            at,
        };
        let step = rules.heartbeat_timeout.max(Duration::seconds(1));
        let between = std::iter::successors(Some(first), |at| Some(*at + step)).take_while(|at| *at < last);
        let last_kind = if left { SightingKind::Left } else { SightingKind::Seen };
        between.map(|at| sighting(SightingKind::Seen, at)).chain([sighting(last_kind, last)]).collect()
    }
}

/// Thresholds of a tenant, frozen as JSON when the session starts. Missing fields take the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// Longest gap between two heartbeats that still counts as presence; 90 s.
    #[serde(rename = "heartbeat_timeout_seconds", with = "seconds")]
    pub heartbeat_timeout: Duration,
    /// A first join later than this after the start is late; 10 min.
    #[serde(rename = "late_after_seconds", with = "seconds")]
    pub late_after: Duration,
    /// A last leave earlier than this before the end is early; 10 min.
    #[serde(rename = "left_early_before_seconds", with = "seconds")]
    pub left_early_before: Duration,
    /// Share of the time, 0 to 1, that makes a person present; 0.75.
    pub present_ratio: f64,
    /// Share of the whole session, 0 to 1, below which attendance is partial whatever the times; 0.5.
    pub partial_below: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            heartbeat_timeout: Duration::seconds(90),
            late_after: Duration::minutes(10),
            left_early_before: Duration::minutes(10),
            present_ratio: 0.75,
            partial_below: 0.5,
        }
    }
}

/// From the actual start of a session to its actual end; for a live session, to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
}

impl Span {
    /// Length of the session; zero where the end is not after the start.
    pub fn length(&self) -> Duration {
        (self.end - self.start).max(Duration::zero())
    }
}

/// A stretch of presence and the sources that prove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub sources: BTreeSet<Source>,
}

/// The verdict on a person's attendance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Present,
    Late,
    LeftEarly,
    Partial,
    Absent,
    Excused,
}

impl Status {
    /// All verdicts.
    pub const ALL: [Self; 6] = [Self::Present, Self::Late, Self::LeftEarly, Self::Partial, Self::Absent, Self::Excused];

    /// The name used in JSON, CSV and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Late => "late",
            Self::LeftEarly => "left_early",
            Self::Partial => "partial",
            Self::Absent => "absent",
            Self::Excused => "excused",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the names of [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown attendance status {0:?}")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// A person who was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    pub person: String,
    pub name: String,
    pub email: Option<String>,
    /// Not to come is no absence.
    pub excused: bool,
}

/// A change by hand to what was computed for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    pub person: String,
    /// The verdict that counts; `None` keeps the computed one.
    pub status: Option<Status>,
    /// The present time that counts; `None` keeps the computed one.
    pub present_seconds: Option<i64>,
    pub reason: String,
    /// Who corrected: external user id.
    pub by: String,
    pub at: DateTime<Utc>,
}

/// That a row was corrected, by whom and why, and what had been computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Corrected {
    pub by: String,
    pub at: DateTime<Utc>,
    pub reason: String,
    pub original_status: Status,
    pub original_present_seconds: i64,
    pub original_percent: f64,
}

/// One person's attendance. `status`, `present_seconds` and `percent` are what counts, corrections included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub person: String,
    /// Name on the invitation; `None` for people who were not invited.
    pub name: Option<String>,
    /// Address on the invitation.
    pub email: Option<String>,
    pub invited: bool,
    pub first_join: Option<DateTime<Utc>>,
    pub last_leave: Option<DateTime<Utc>>,
    /// Whole seconds, rounded down once over all intervals.
    pub present_seconds: i64,
    /// Of the session's actual span, 0 to 100, two decimals, rounded down.
    pub percent: f64,
    pub status: Status,
    pub intervals: Vec<Interval>,
    /// How many connections were in the session.
    pub connections: usize,
    pub corrected: Option<Corrected>,
}

/// The attendance of everyone invited, seen or corrected: first the invited in the given order, then
/// the others by first join and id.
pub fn report(
    span: Span,
    invited: &[Invited],
    sightings: &[Sighting],
    corrections: &[Correction],
    rules: &Rules,
) -> Vec<Row> {
    let mut seen: HashMap<&str, Seen> = presences(sightings, rules)
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

/// Who is in the session at `now`; sightings dated later are not read.
pub fn present_now(sightings: &[Sighting], rules: &Rules, now: DateTime<Utc>) -> BTreeSet<String> {
    let past: Vec<Sighting> = sightings.iter().filter(|sighting| sighting.at <= now).cloned().collect();
    let is_here = |presence: &Presence| match presence.ending {
        Ending::Left => false,
        Ending::Open => true,
        Ending::Silent => now - presence.end <= rules.heartbeat_timeout,
    };
    presences(&past, rules)
        .into_iter()
        .filter(|(_, connections)| connections.iter().flatten().any(is_here))
        .map(|(person, _)| person.to_owned())
        .collect()
}

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

/// How sightings of a source are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    Heartbeat,
    Provider,
    Manual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A `Left` says so.
    Left,
    /// Nothing says so: lasts to the session's end.
    Open,
    /// Nothing says so, and nothing proves more than the last sighting.
    Silent,
}

#[derive(Debug, Clone)]
struct Presence {
    start: Instant,
    /// The last sighting, or the end of an open presence that an end report cut.
    end: Instant,
    ending: Ending,
    sources: BTreeSet<Source>,
}

/// All sightings of one connection at one instant.
#[derive(Debug, Clone, Default)]
struct Moment {
    joined: bool,
    seen: bool,
    left: bool,
    sources: BTreeSet<Source>,
}

type Moments = BTreeMap<Instant, Moment>;

/// What end reports say about a person.
#[derive(Default)]
struct Reported<'a> {
    connections: BTreeSet<&'a str>,
    closed: BTreeSet<&'a str>,
    last_left: Option<Instant>,
}

/// Per person, the presences of each connection.
fn presences<'a>(sightings: &'a [Sighting], rules: &Rules) -> HashMap<&'a str, Vec<Vec<Presence>>> {
    let mut reported: HashMap<&str, Reported> = HashMap::new();
    for sighting in sightings.iter().filter(|sighting| sighting.source == Source::EndReport) {
        let account = reported.entry(&sighting.person).or_default();
        account.connections.insert(&sighting.connection);
        if sighting.kind == SightingKind::Left {
            account.closed.insert(&sighting.connection);
            account.last_left = account.last_left.max(Some(sighting.at));
        }
    }
    let mut moments: HashMap<(&str, &str), BTreeMap<Evidence, Moments>> = HashMap::new();
    for sighting in sightings {
        let overruled = matches!(sighting.source, Source::Webhook | Source::Poll)
            && reported
                .get(sighting.person.as_str())
                .is_some_and(|account| account.closed.contains(sighting.connection.as_str()));
        if overruled {
            continue;
        }
        let connection = moments.entry((&sighting.person, &sighting.connection)).or_default();
        let moment = connection.entry(sighting.source.evidence()).or_default().entry(sighting.at).or_default();
        match sighting.kind {
            SightingKind::Joined => moment.joined = true,
            SightingKind::Seen => moment.seen = true,
            SightingKind::Left => moment.left = true,
        }
        moment.sources.insert(sighting.source);
    }
    let mut people: HashMap<&str, Vec<Vec<Presence>>> = HashMap::new();
    for ((person, connection), by_evidence) in moments {
        let unreported = reported.get(person).filter(|account| !account.connections.contains(connection));
        let cut = unreported.and_then(|account| account.last_left);
        let found = by_evidence.iter().flat_map(|(evidence, moments)| match evidence {
            Evidence::Heartbeat => heartbeat_presences(moments, rules),
            Evidence::Provider => cut_open(state_presences(moments, Ending::Open), cut),
            Evidence::Manual => state_presences(moments, Ending::Silent),
        });
        people.entry(person).or_default().push(found.collect());
    }
    people
}

fn heartbeat_presences(moments: &Moments, rules: &Rules) -> Vec<Presence> {
    let mut found: Vec<Presence> = Vec::new();
    for (&at, moment) in moments {
        let ending = if moment.left && !moment.joined { Ending::Left } else { Ending::Silent };
        match found.last_mut() {
            Some(last) if last.ending != Ending::Left && at - last.end <= rules.heartbeat_timeout => {
                last.end = at;
                last.ending = ending;
                last.sources.extend(&moment.sources);
            }
            _ => found.push(Presence { start: at, end: at, ending, sources: moment.sources.clone() }),
        }
    }
    found
}

/// Presences by `Joined` and `Left`; one without `Left` ends as `unclosed` says.
fn state_presences(moments: &Moments, unclosed: Ending) -> Vec<Presence> {
    let mut found: Vec<Presence> = Vec::new();
    for (&at, moment) in moments {
        let begin = |ending| Presence { start: at, end: at, ending, sources: moment.sources.clone() };
        let first = found.is_empty();
        match found.last_mut() {
            Some(current) if current.ending != Ending::Left => {
                current.end = at;
                current.sources.extend(&moment.sources);
                if moment.left {
                    current.ending = Ending::Left;
                    if moment.joined {
                        found.push(begin(unclosed));
                    }
                } else if moment.joined {
                    current.ending = unclosed;
                }
            }
            _ if moment.left && (first || moment.joined || moment.seen) => found.push(begin(Ending::Left)),
            _ if moment.left => {}
            _ if moment.joined || first => found.push(begin(unclosed)),
            _ => found.push(begin(Ending::Silent)),
        }
    }
    found
}

/// Ends an open presence at `cut`, the person's last `Left` in an end report that knows nothing of this connection.
fn cut_open(mut presences: Vec<Presence>, cut: Option<Instant>) -> Vec<Presence> {
    if let (Some(cut), Some(open)) = (cut, presences.last_mut().filter(|last| last.ending == Ending::Open)) {
        open.end = open.end.max(cut);
        open.ending = Ending::Left;
    }
    presences
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

fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by_key(|interval| (interval.start, interval.end));
    let mut united: Vec<Interval> = Vec::new();
    for interval in intervals {
        match united.last_mut() {
            Some(last) if interval.start <= last.end => {
                last.end = last.end.max(interval.end);
                last.sources.extend(interval.sources);
            }
            _ => united.push(interval),
        }
    }
    united
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

fn micros(duration: Duration) -> i64 {
    // None only beyond 292 000 years.
    duration.num_microseconds().unwrap_or(i64::MAX)
}

fn overlap(interval: &Interval, part: Span) -> Duration {
    (interval.end.min(part.end) - interval.start.max(part.start)).max(Duration::zero())
}

/// Durations as whole seconds in JSON.
mod seconds {
    use chrono::Duration;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(duration.num_seconds())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = i64::deserialize(deserializer)?;
        Duration::try_seconds(seconds).ok_or_else(|| D::Error::custom("seconds out of range"))
    }
}
