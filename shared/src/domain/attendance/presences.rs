//! From sightings to stretches of presence, connection by connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{Instant, Interval, Rules, Sighting, SightingKind, Source};

/// Somebody who is in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    pub person: String,
    /// Since when, without a gap.
    pub since: DateTime<Utc>,
    /// What proves it.
    pub sources: BTreeSet<Source>,
    /// Through how many connections.
    pub connections: usize,
}

/// Who is in the session at `now`, first comers first; sightings dated later are not read.
pub fn present_now(sightings: &[Sighting], rules: &Rules, now: DateTime<Utc>) -> Vec<Here> {
    let past: Vec<Sighting> = sightings.iter().filter(|sighting| sighting.at <= now).cloned().collect();
    let mut here: Vec<Here> = presences(&past, rules, None)
        .into_iter()
        .filter_map(|(person, connections)| here(person, &connections, rules, now))
        .collect();
    here.sort_by(|a, b| (a.since, &a.person).cmp(&(b.since, &b.person)));
    here
}

fn here(person: &str, connections: &[Vec<Presence>], rules: &Rules, now: Instant) -> Option<Here> {
    let lasts = |presence: &Presence| match presence.ending {
        Ending::Left | Ending::Room => false,
        Ending::Open => true,
        Ending::Silent => now - presence.end <= rules.heartbeat_timeout,
    };
    let intervals = connections.iter().flatten().map(|presence| Interval {
        start: presence.start,
        end: if lasts(presence) { now } else { presence.end },
        sources: presence.sources.clone(),
    });
    let lasting: Vec<&Presence> = connections.iter().flatten().filter(|presence| lasts(presence)).collect();
    if lasting.is_empty() {
        return None;
    }
    Some(Here {
        person: person.to_owned(),
        since: union(intervals.collect()).last()?.start,
        sources: lasting.iter().flat_map(|presence| presence.sources.iter().copied()).collect(),
        connections: connections.iter().filter(|connection| connection.iter().any(lasts)).count(),
    })
}

/// Overlapping and touching intervals become one.
pub(super) fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
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

/// How sightings of a source are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    Heartbeat,
    Provider,
    Manual,
}

impl Source {
    fn evidence(self) -> Evidence {
        match self {
            Self::Heartbeat => Evidence::Heartbeat,
            Self::Webhook | Self::Poll | Self::EndReport => Evidence::Provider,
            Self::Manual => Evidence::Manual,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A `Left` says so.
    Left,
    /// The room closed, and nobody has said when the person left: then at the latest.
    Room,
    /// Nothing says so: lasts to the session's end.
    Open,
    /// Nothing says so, and nothing proves more than the last sighting.
    Silent,
}

#[derive(Debug, Clone)]
pub(super) struct Presence {
    pub(super) start: Instant,
    /// The last sighting, the room's end, or where an open presence was cut.
    pub(super) end: Instant,
    /// The last sighting.
    proven: Instant,
    pub(super) ending: Ending,
    pub(super) sources: BTreeSet<Source>,
}

/// All sightings of one connection at one instant.
#[derive(Debug, Clone, Default)]
struct Moment {
    joined: bool,
    seen: bool,
    left: bool,
    ended: bool,
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

/// Where the pages and the other connections of a person were, for presences of whose end nobody has told.
#[derive(Default)]
struct Around<'a> {
    /// Heartbeats that were not the first of their connection: a page that only opened the meeting says nothing of its end.
    beats: BTreeSet<Instant>,
    joined: BTreeSet<(Instant, &'a str)>,
}

impl Around<'_> {
    /// Ends a presence of which no `Left` tells with the last heartbeat that the person's page sent during it: before they
    /// came by another connection, or the room closed. Without any the page tells nothing, and nothing changes; nor where the
    /// page was heard until the end.
    fn cut(&self, mut presence: Presence, connection: &str, over: Instant, rules: &Rules) -> Presence {
        let end = match presence.ending {
            Ending::Open => over,
            Ending::Room => presence.end,
            Ending::Left | Ending::Silent => return presence,
        };
        let after = (presence.proven + chrono::Duration::microseconds(1), "");
        let elsewhere = self.joined.range(after..).find(|(_, other)| *other != connection).map(|(at, _)| *at);
        let limit = elsewhere.map_or(end, |at| at.min(end));
        if limit < presence.start {
            return presence;
        }
        let Some(&last) = self.beats.range(presence.start..=limit).next_back() else { return presence };
        if end - last > rules.heartbeat_timeout {
            presence.end = last.max(presence.proven);
            presence.ending = Ending::Left;
        }
        presence
    }
}

/// Per person, the presences of each connection. `over` is the end of a session that has ended: nothing more will be told of
/// presences without a `Left`.
pub(super) fn presences<'a>(
    sightings: &'a [Sighting],
    rules: &Rules,
    over: Option<Instant>,
) -> HashMap<&'a str, Vec<Vec<Presence>>> {
    let reported = reported(sightings);
    let mut moments: HashMap<&str, BTreeMap<&str, BTreeMap<Evidence, Moments>>> = HashMap::new();
    for sighting in sightings {
        let overruled = matches!(sighting.source, Source::Webhook | Source::Poll)
            && reported
                .get(sighting.person.as_str())
                .is_some_and(|account| account.closed.contains(sighting.connection.as_str()));
        if overruled {
            continue;
        }
        let connection = moments.entry(&sighting.person).or_default().entry(&sighting.connection).or_default();
        let moment = connection.entry(sighting.source.evidence()).or_default().entry(sighting.at).or_default();
        match sighting.kind {
            SightingKind::Joined => moment.joined = true,
            SightingKind::Seen => moment.seen = true,
            SightingKind::Left => moment.left = true,
            SightingKind::Ended => moment.ended = true,
        }
        moment.sources.insert(sighting.source);
    }
    let of_person = |(person, connections): (&'a str, BTreeMap<&'a str, BTreeMap<Evidence, Moments>>)| {
        let around = around(&connections);
        let account = reported.get(person);
        let found = connections.iter().map(|(connection, by_evidence)| {
            let unreported = account.filter(|account| !account.connections.contains(connection));
            let reported_left = unreported.and_then(|account| account.last_left);
            let of_provider = |moments| {
                let presences = cut_open(state_presences(moments, Ending::Open), reported_left).into_iter();
                presences.map(|presence| match over {
                    Some(over) => around.cut(presence, connection, over, rules),
                    None => presence,
                })
            };
            let found = by_evidence.iter().flat_map(|(evidence, moments)| match evidence {
                Evidence::Heartbeat => heartbeat_presences(moments, rules),
                Evidence::Provider => of_provider(moments).collect(),
                Evidence::Manual => state_presences(moments, Ending::Silent),
            });
            found.collect()
        });
        (person, found.collect())
    };
    moments.into_iter().map(of_person).collect()
}

fn reported(sightings: &[Sighting]) -> HashMap<&str, Reported<'_>> {
    let mut reported: HashMap<&str, Reported> = HashMap::new();
    for sighting in sightings.iter().filter(|sighting| sighting.source == Source::EndReport) {
        let account = reported.entry(&sighting.person).or_default();
        account.connections.insert(&sighting.connection);
        if sighting.kind == SightingKind::Left {
            account.closed.insert(&sighting.connection);
            account.last_left = account.last_left.max(Some(sighting.at));
        }
    }
    reported
}

fn around<'a>(connections: &BTreeMap<&'a str, BTreeMap<Evidence, Moments>>) -> Around<'a> {
    let mut around = Around::default();
    for (connection, by_evidence) in connections {
        let beats = by_evidence.get(&Evidence::Heartbeat).into_iter().flat_map(|moments| moments.keys().skip(1));
        around.beats.extend(beats);
        let told = by_evidence.get(&Evidence::Provider).into_iter().flatten();
        around.joined.extend(told.filter(|(_, moment)| moment.joined).map(|(at, _)| (*at, *connection)));
    }
    around
}

fn heartbeat_presences(moments: &Moments, rules: &Rules) -> Vec<Presence> {
    let mut found: Vec<Presence> = Vec::new();
    for (&at, moment) in moments {
        let ending = if moment.left && !moment.joined { Ending::Left } else { Ending::Silent };
        match found.last_mut() {
            Some(last) if last.ending != Ending::Left && at - last.end <= rules.heartbeat_timeout => {
                (last.end, last.proven) = (at, at);
                last.ending = ending;
                last.sources.extend(&moment.sources);
            }
            _ => found.push(moment.begin(at, ending)),
        }
    }
    found
}

impl Moment {
    fn begin(&self, at: Instant, ending: Ending) -> Presence {
        Presence { start: at, end: at, proven: at, ending, sources: self.sources.clone() }
    }

    /// Nothing but the end of the room is told.
    fn is_room_end(&self) -> bool {
        self.ended && !(self.joined || self.seen || self.left)
    }

    /// How a presence ends here, if it does.
    fn closes(&self) -> Option<Ending> {
        match (self.left, self.ended) {
            (true, _) => Some(Ending::Left),
            (false, true) => Some(Ending::Room),
            (false, false) => None,
        }
    }
}

/// Presences by `Joined`, `Left` and `Ended`; one that none of these ends, ends as `unclosed` says.
fn state_presences(moments: &Moments, unclosed: Ending) -> Vec<Presence> {
    let mut found: Vec<Presence> = Vec::new();
    for (&at, moment) in moments {
        let first = found.is_empty();
        match found.last_mut() {
            // Nothing proves that somebody who was only seen was there until then.
            Some(current) if current.ending == Ending::Silent && moment.is_room_end() => current.ending = Ending::Left,
            Some(current) if matches!(current.ending, Ending::Open | Ending::Silent) => {
                current.end = at;
                current.sources.extend(&moment.sources);
                if !moment.is_room_end() {
                    current.proven = at;
                }
                match moment.closes() {
                    Some(ending) => {
                        current.ending = ending;
                        if moment.joined {
                            found.push(moment.begin(at, unclosed));
                        }
                    }
                    None if moment.joined => current.ending = unclosed,
                    None => {}
                }
            }
            _ if moment.is_room_end() => {}
            _ => match moment.closes() {
                Some(ending) if first || moment.joined || moment.seen => found.push(moment.begin(at, ending)),
                Some(_) => {}
                None if moment.joined || first => found.push(moment.begin(at, unclosed)),
                None => found.push(moment.begin(at, Ending::Silent)),
            },
        }
    }
    found
}

/// Ends an open presence at `cut`, the person's last `Left` in an end report that knows nothing of this connection.
fn cut_open(mut presences: Vec<Presence>, cut: Option<Instant>) -> Vec<Presence> {
    let is_open = |last: &&mut Presence| matches!(last.ending, Ending::Open | Ending::Room);
    if let (Some(cut), Some(open)) = (cut, presences.last_mut().filter(is_open)) {
        let cut = if open.ending == Ending::Room { cut.min(open.end) } else { cut };
        open.end = open.proven.max(cut);
        open.ending = Ending::Left;
    }
    presences
}
