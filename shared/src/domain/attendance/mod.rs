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
//!    - An `Ended` ends a presence as a `Left` does, but it is not about the person: they may have left before.
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
//! **A lost `Left` costs no more than the heartbeat timeout.** Once the session is over, a presence that nothing or only the
//! room's end has ended lasts to the last heartbeat that the person's page sent during it, if it sent any beside a connection's
//! first; until the person came by another connection, if they did. Where the page was heard to the end, and where it says
//! nothing, the presence stays as it is.
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

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

mod analytics;
mod presences;
mod report;

pub use analytics::{Analytics, Bucket, Punctuality, analytics, punctuality};
pub use presences::{Here, present_now};
pub use report::report;

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
    /// The room closed while the person was, as far as is known, in it.
    Ended,
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
    /// The session has ended: who has not been said to have left will not be any more.
    pub over: bool,
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

fn micros(duration: Duration) -> i64 {
    // None only beyond 292 000 years.
    duration.num_microseconds().unwrap_or(i64::MAX)
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
