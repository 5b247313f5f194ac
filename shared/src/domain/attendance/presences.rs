//! From sightings to stretches of presence, connection by connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{Instant, Rules, Sighting, SightingKind, Source};

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
    /// Nothing says so: lasts to the session's end.
    Open,
    /// Nothing says so, and nothing proves more than the last sighting.
    Silent,
}

#[derive(Debug, Clone)]
pub(super) struct Presence {
    pub(super) start: Instant,
    /// The last sighting, or the end of an open presence that an end report cut.
    pub(super) end: Instant,
    pub(super) ending: Ending,
    pub(super) sources: BTreeSet<Source>,
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
pub(super) fn presences<'a>(sightings: &'a [Sighting], rules: &Rules) -> HashMap<&'a str, Vec<Vec<Presence>>> {
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
