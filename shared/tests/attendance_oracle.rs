//! Attendance against an oracle that asks of every second whether the person was there, and the cases that the module's
//! documentation names.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};
use proptest::prelude::*;
use shared::domain::attendance::{
    Correction, Invited, Row, Rules, Sighting, SightingKind, Source, Span, Status, analytics, present_now, punctuality,
    report,
};

use SightingKind::{Ended, Joined, Left, Seen};
use Source::{EndReport, Heartbeat, Manual, Poll, Webhook};

const LENGTH: i64 = 600;
const TIMEOUT: i64 = 30;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_766_400 + second, 0).expect("in range")
}

fn span() -> Span {
    Span { start: at(0), end: at(LENGTH), over: true }
}

fn rules() -> Rules {
    Rules {
        heartbeat_timeout: Duration::seconds(TIMEOUT),
        late_after: Duration::seconds(60),
        left_early_before: Duration::seconds(60),
        ..Rules::default()
    }
}

fn sighting(person: &str, connection: &str, source: Source, kind: SightingKind, second: i64) -> Sighting {
    Sighting { person: person.to_owned(), connection: connection.to_owned(), source, kind, at: at(second) }
}

fn invited(person: &str) -> Invited {
    Invited { person: person.to_owned(), name: person.to_uppercase(), email: None, excused: false }
}

fn rows(sightings: &[Sighting]) -> Vec<Row> {
    report(span(), &[invited("ali")], sightings, &[], &rules())
}

/// Ali's intervals on connection "c", in seconds after the start.
fn intervals(events: &[(Source, SightingKind, i64)]) -> Vec<(i64, i64)> {
    let sightings: Vec<_> =
        events.iter().map(|(source, kind, second)| sighting("ali", "c", *source, *kind, *second)).collect();
    seconds_of(&rows(&sightings)[0])
}

fn seconds_of(row: &Row) -> Vec<(i64, i64)> {
    let second = |time: DateTime<Utc>| (time - at(0)).num_seconds();
    row.intervals.iter().map(|interval| (second(interval.start), second(interval.end))).collect()
}

/// What an evidence class says of one connection: its instants and what was seen at each.
type Class = BTreeMap<i64, BTreeSet<SightingKind>>;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Absent,
    Open,
    UntilNext,
}

fn is_room_end(kinds: &BTreeSet<SightingKind>) -> bool {
    kinds.iter().all(|kind| *kind == Ended)
}

/// The state after the instant `second`, found by looking back.
fn mode_after(class: &Class, second: i64) -> Mode {
    let kinds = &class[&second];
    let earlier = mode_before(class, second);
    let was_there = !matches!(earlier, None | Some(Mode::Absent));
    let closes = kinds.contains(&Left) || kinds.contains(&Ended);
    match (kinds.contains(&Joined), closes, earlier) {
        (true, true, _) if was_there => Mode::Open,
        (_, true, _) => Mode::Absent,
        (true, false, _) | (false, false, None) => Mode::Open,
        (false, false, Some(Mode::Open)) => Mode::Open,
        (false, false, Some(_)) => Mode::UntilNext,
    }
}

/// `None` where nothing was told before of the person.
fn mode_before(class: &Class, second: i64) -> Option<Mode> {
    class.range(..second).next_back().map(|(before, _)| mode_after(class, *before))
}

/// Instants and seconds at which one connection was there.
#[derive(Default)]
struct Proven {
    instants: BTreeSet<i64>,
    seconds: BTreeSet<i64>,
}

fn heartbeats(class: &Class, proven: &mut Proven) {
    proven.instants.extend(class.keys());
    for second in 0..LENGTH {
        let Some((before, kinds)) = class.range(..=second).next_back() else { continue };
        let Some((after, _)) = class.range(second + 1..).next() else { continue };
        let left = kinds.contains(&Left) && !kinds.contains(&Joined);
        if after - before <= TIMEOUT && !left {
            proven.seconds.insert(second);
        }
    }
}

/// What else is known of the person than this connection.
struct Elsewhere {
    /// The last `Left` of an end report that does not know the connection.
    reported_left: Option<i64>,
    /// Heartbeats beside each connection's first.
    beats: BTreeSet<i64>,
    /// Provider's joins of the other connections.
    joins: BTreeSet<i64>,
}

/// Until when somebody was there who came, as far as this connection tells, at `from`, was last heard of at `told`, and of whom
/// nothing more is known but that it was over at `over`.
fn silent_end(from: i64, told: i64, over: i64, is_last: bool, elsewhere: &Elsewhere) -> i64 {
    if let Some(left) = elsewhere.reported_left.filter(|_| is_last) {
        return told.max(left.min(over));
    }
    let next_join = elsewhere.joins.iter().find(|join| **join > told).copied().unwrap_or(i64::MAX);
    let heard = (from..=next_join.min(over)).rev().find(|second| elsewhere.beats.contains(second));
    heard.filter(|heard| over - heard > TIMEOUT).map_or(over, |heard| heard.max(told))
}

/// For each second: what was told before it, what comes after, and so whether the person was there.
fn states(class: &Class, elsewhere: &Elsewhere, proven: &mut Proven) {
    // The end of a room before anything was told of the person is not about them.
    let first = class.iter().find(|(_, kinds)| !is_room_end(kinds)).map_or(i64::MAX, |(second, _)| *second);
    let class: Class = class.range(first..).map(|(second, kinds)| (*second, kinds.clone())).collect();
    let mut silent = BTreeSet::new();
    for (&second, kinds) in &class {
        let earlier = mode_before(&class, second);
        let nothing_new = !kinds.contains(&Joined) && !kinds.contains(&Seen) && earlier == Some(Mode::Absent);
        if !nothing_new && !is_room_end(kinds) {
            proven.instants.insert(second);
        }
        if mode_after(&class, second) == Mode::Absent {
            continue;
        }
        // The next instant, and whether there the person was still there by what that instant itself tells.
        match class.range(second + 1..).next() {
            Some((&next, kinds)) if is_room_end(kinds) || (kinds.contains(&Ended) && !kinds.contains(&Left)) => {
                match mode_after(&class, second) {
                    Mode::Open => drop(silent.insert((second, next, is_room_end(kinds)))),
                    _ if is_room_end(kinds) => {}
                    _ => proven.seconds.extend(second..next),
                }
            }
            Some((&next, _)) => proven.seconds.extend(second..next),
            None if mode_after(&class, second) == Mode::Open => drop(silent.insert((second, LENGTH.max(second), true))),
            None => {}
        }
    }
    for (told, over, is_silent) in silent {
        if !is_silent {
            proven.seconds.extend(told..over);
            continue;
        }
        let from = began(&class, told);
        let is_last = class.range(told + 1..).all(|(_, kinds)| !kinds.contains(&Joined) && !kinds.contains(&Seen));
        let end = silent_end(from, told, over, is_last, elsewhere);
        proven.seconds.extend(told..end);
        proven.instants.insert(end);
    }
}

/// When the presence began that goes on at `second`.
fn began(class: &Class, second: i64) -> i64 {
    let closed = |kinds: &BTreeSet<SightingKind>| kinds.contains(&Left) || kinds.contains(&Ended);
    let mut began = second;
    while !closed(&class[&began]) && !matches!(mode_before(class, began), None | Some(Mode::Absent)) {
        began = *class.range(..began).next_back().expect("something was told before").0;
    }
    began
}

fn manual(class: &Class, proven: &mut Proven) {
    for (&second, kinds) in class.iter().filter(|(_, kinds)| !is_room_end(kinds)) {
        let earlier = mode_before(class, second);
        if kinds.contains(&Joined) || kinds.contains(&Seen) || earlier != Some(Mode::Absent) {
            proven.instants.insert(second);
        }
        if let Some((next, _)) = class.range(second + 1..).next()
            && mode_after(class, second) != Mode::Absent
        {
            proven.seconds.extend(second..*next);
        }
    }
}

fn oracle(person: &str, sightings: &[Sighting]) -> Option<(BTreeSet<i64>, i64, i64, usize)> {
    let mine: Vec<_> = sightings.iter().filter(|sighting| sighting.person == person).collect();
    let second = |sighting: &Sighting| (sighting.at - at(0)).num_seconds();
    let reported_left = |connection: Option<&str>| {
        mine.iter()
            .filter(|s| s.source == EndReport && s.kind == Left && connection.is_none_or(|c| s.connection == c))
            .map(|s| second(s))
            .max()
    };
    let connections: BTreeSet<&str> = mine.iter().map(|sighting| sighting.connection.as_str()).collect();
    let class = |connection: &str, sources: &[Source]| {
        let mut class = Class::new();
        for s in mine.iter().filter(|s| s.connection == connection && sources.contains(&s.source)) {
            class.entry(second(s)).or_default().insert(s.kind);
        }
        class
    };
    let of_provider = |connection: &str| match reported_left(Some(connection)) {
        Some(_) => class(connection, &[EndReport]),
        None => class(connection, &[Webhook, Poll, EndReport]),
    };
    let beats: BTreeSet<i64> =
        connections.iter().flat_map(|c| class(c, &[Heartbeat]).into_keys().skip(1).collect::<Vec<_>>()).collect();
    let (mut instants, mut seconds, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for connection in connections.iter().copied() {
        let mut proven = Proven::default();
        heartbeats(&class(connection, &[Heartbeat]), &mut proven);
        let is_reported = !class(connection, &[EndReport]).is_empty();
        let others = connections.iter().filter(|other| **other != connection);
        let joins =
            others.flat_map(|other| of_provider(other).into_iter().filter(|(_, kinds)| kinds.contains(&Joined)));
        let elsewhere = Elsewhere {
            reported_left: if is_reported { None } else { reported_left(None) },
            beats: beats.clone(),
            joins: joins.map(|(second, _)| second).collect(),
        };
        states(&of_provider(connection), &elsewhere, &mut proven);
        manual(&class(connection, &[Manual]), &mut proven);
        proven.instants.retain(|instant| (0..=LENGTH).contains(instant));
        proven.seconds.retain(|second| (0..LENGTH).contains(second));
        if !proven.instants.is_empty() || !proven.seconds.is_empty() {
            count += 1;
        }
        instants.extend(proven.instants);
        seconds.extend(proven.seconds);
    }
    let first = instants.first().copied().into_iter().chain(seconds.first().copied()).min()?;
    let last = instants.last().copied().into_iter().chain(seconds.last().map(|second| second + 1)).max()?;
    Some((seconds, first, last, count))
}

fn any_sighting() -> impl Strategy<Value = Sighting> {
    let source =
        prop_oneof![4 => Just(Heartbeat), 4 => Just(Webhook), 2 => Just(Poll), 1 => Just(EndReport), 1 => Just(Manual)];
    let kind = prop_oneof![2 => Just(Joined), 3 => Just(Seen), 2 => Just(Left)];
    let told = prop_oneof![2 => Just(Joined), 3 => Just(Seen), 2 => Just(Left), 1 => Just(Ended)];
    let source = source.prop_flat_map(move |source| {
        let kind = if matches!(source, Webhook | Poll) { told.clone().boxed() } else { kind.clone().boxed() };
        (Just(source), kind)
    });
    // Few people and connections, and multiples of 5 s half of the time, so that things meet.
    let second = prop_oneof![(-12_i64..132).prop_map(|five| five * 5), -60_i64..660];
    ("[ab]", "[xy]", source, second).prop_map(|(p, c, (source, kind), second)| sighting(&p, &c, source, kind, second))
}

fn with_repetitions() -> impl Strategy<Value = (Vec<Sighting>, Vec<Sighting>)> {
    prop::collection::vec(any_sighting(), 0..60).prop_flat_map(|sightings| {
        let length = sightings.len();
        let repeated = prop::collection::vec(0..length.max(1), 0..20).prop_map({
            let sightings = sightings.clone();
            move |again| {
                sightings.iter().cloned().chain(again.iter().filter_map(|i| sightings.get(*i).cloned())).collect()
            }
        });
        (Just(sightings), repeated.prop_flat_map(|all: Vec<Sighting>| Just(all).prop_shuffle()))
    })
}

/// `ATTENDANCE_HISTORIES=100000` tries as many.
fn cases() -> u32 {
    std::env::var("ATTENDANCE_HISTORIES").ok().and_then(|many| many.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_report_agrees_with_the_oracle_second_by_second(sightings in prop::collection::vec(any_sighting(), 0..60)) {
        let found: BTreeMap<String, Row> =
            report(span(), &[], &sightings, &[], &rules()).into_iter().map(|row| (row.person.clone(), row)).collect();
        for person in ["a", "b"] {
            let expected = oracle(person, &sightings);
            let row = found.get(person);
            prop_assert_eq!(row.is_some(), expected.is_some(), "{}", person);
            let (Some(row), Some((seconds, first, last, connections))) = (row, expected) else { continue };
            let covered: BTreeSet<i64> = seconds_of(row).iter().flat_map(|(start, end)| *start..*end).collect();
            prop_assert_eq!(&covered, &seconds);
            prop_assert_eq!(row.present_seconds, seconds.len() as i64);
            prop_assert_eq!(row.percent, (seconds.len() as i64 * 10_000 / LENGTH) as f64 / 100.0);
            prop_assert_eq!((row.first_join, row.last_leave), (Some(at(first)), Some(at(last))));
            prop_assert_eq!(row.connections, connections);
            prop_assert!(row.intervals.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert!(row.intervals.iter().all(|interval| !interval.sources.is_empty()));
        }
    }

    #[test]
    fn order_and_repetition_of_arrival_change_nothing((sightings, arrived) in with_repetitions()) {
        prop_assert_eq!(rows(&sightings), rows(&arrived));
        prop_assert_eq!(present_now(&sightings, &rules(), at(300)), present_now(&arrived, &rules(), at(300)));
    }

    #[test]
    fn more_evidence_of_presence_takes_no_presence_away_while_the_session_is_live(
        sightings in prop::collection::vec(any_sighting(), 0..40),
        second in 0_i64..LENGTH,
    ) {
        let live = Span { over: false, ..span() };
        let seconds = |sightings: &[Sighting]| -> BTreeSet<i64> {
            seconds_of(&report(live, &[invited("ali")], sightings, &[], &rules())[0]).iter().flat_map(|(start, end)| *start..*end).collect()
        };
        let mut more: Vec<_> = sightings.into_iter().map(|s| Sighting { person: "ali".to_owned(), ..s }).collect();
        let before = seconds(&more);
        more.push(sighting("ali", "another", Heartbeat, Seen, second));
        more.push(sighting("ali", "another", Heartbeat, Seen, second + TIMEOUT));
        prop_assert!(seconds(&more).is_superset(&before));
    }
}

#[test]
fn heartbeats_end_at_the_last_sighting_before_a_gap() {
    assert_eq!(intervals(&[(Heartbeat, Joined, 0), (Heartbeat, Seen, 30), (Heartbeat, Seen, 60)]), [(0, 60)]);
    assert_eq!(intervals(&[(Heartbeat, Seen, 0), (Heartbeat, Seen, 30), (Heartbeat, Seen, 61)]), [(0, 30), (61, 61)]);
    assert_eq!(
        intervals(&[(Heartbeat, Seen, 0), (Heartbeat, Left, 20), (Heartbeat, Seen, 40), (Heartbeat, Seen, 50)]),
        [(0, 20), (40, 50)]
    );
}

#[test]
fn a_provider_presence_lasts_from_joined_to_left_or_to_the_end() {
    assert_eq!(intervals(&[(Webhook, Left, 200), (Webhook, Joined, 100)]), [(100, 200)]);
    assert_eq!(intervals(&[(Webhook, Joined, 100)]), [(100, 600)]);
    assert_eq!(intervals(&[(Poll, Seen, 100)]), [(100, 600)]);
    assert_eq!(intervals(&[(Webhook, Joined, 100), (Webhook, Joined, 150), (Webhook, Left, 200)]), [(100, 200)]);
    assert_eq!(
        intervals(&[(Webhook, Joined, 100), (Webhook, Left, 200), (Webhook, Joined, 300), (Webhook, Left, 400)]),
        [(100, 200), (300, 400)]
    );
}

#[test]
fn joins_and_leaves_outside_the_session_are_clipped() {
    assert_eq!(intervals(&[(Webhook, Joined, -50), (Webhook, Left, 700)]), [(0, 600)]);
    assert_eq!(intervals(&[(Webhook, Joined, 650)]), []);
    assert_eq!(intervals(&[(Webhook, Joined, -50), (Webhook, Left, -10)]), []);
    assert_eq!(rows(&[sighting("guest", "c", Webhook, Joined, 650)]).len(), 1, "a guest who came too late is no row");
}

#[test]
fn a_left_alone_proves_its_instant_and_a_second_left_nothing() {
    assert_eq!(intervals(&[(Webhook, Left, 200)]), [(200, 200)]);
    assert_eq!(rows(&[sighting("ali", "c", Webhook, Left, 200)])[0].status, Status::Partial);
    assert_eq!(intervals(&[(Webhook, Joined, 100), (Webhook, Left, 200), (Webhook, Left, 210)]), [(100, 200)]);
}

#[test]
fn a_poll_after_left_proves_no_more_than_itself() {
    let left = [(Webhook, Joined, 100), (Webhook, Left, 200)];
    assert_eq!(intervals(&[left[0], left[1], (Poll, Seen, 210)]), [(100, 200), (210, 210)]);
    assert_eq!(intervals(&[left[0], left[1], (Poll, Seen, 210), (Poll, Seen, 300)]), [(100, 200), (210, 300)]);
    assert_eq!(intervals(&[left[0], left[1], (Poll, Seen, 210), (Webhook, Joined, 300)]), [(100, 200), (210, 600)]);
}

#[test]
fn left_and_joined_at_one_instant_are_a_reconnect_or_a_glimpse() {
    assert_eq!(intervals(&[(Webhook, Joined, 100), (Webhook, Left, 200), (Webhook, Joined, 200)]), [(100, 600)]);
    assert_eq!(intervals(&[(Webhook, Joined, 200), (Webhook, Left, 200)]), [(200, 200)]);
}

#[test]
fn the_end_report_wins_where_it_says_when_a_connection_left() {
    assert_eq!(intervals(&[(Webhook, Joined, 100), (EndReport, Joined, 101), (EndReport, Left, 300)]), [(101, 300)]);
    assert_eq!(
        intervals(&[(Webhook, Joined, 100), (Webhook, Left, 500), (EndReport, Joined, 100), (EndReport, Left, 300)]),
        [(100, 300)]
    );
    assert_eq!(intervals(&[(Webhook, Joined, 100), (Webhook, Left, 200), (EndReport, Joined, 100)]), [(100, 200)]);
    assert_eq!(
        intervals(&[(Heartbeat, Seen, 310), (Heartbeat, Seen, 330), (EndReport, Joined, 100), (EndReport, Left, 300)]),
        [(100, 300), (310, 330)],
        "heartbeats are evidence of their own"
    );
}

#[test]
fn an_end_report_without_connection_ids_ends_what_was_left_open() {
    let report = [sighting("ali", "report", EndReport, Joined, 100), sighting("ali", "report", EndReport, Left, 300)];
    let open = sighting("ali", "w_1", Webhook, Joined, 100);
    assert_eq!(seconds_of(&rows(&[report[0].clone(), report[1].clone(), open.clone()])[0]), [(100, 300)]);
    let polled = sighting("ali", "w_1", Poll, Seen, 400);
    assert_eq!(seconds_of(&rows(&[report[0].clone(), report[1].clone(), open, polled])[0]), [(100, 400)]);
}

#[test]
fn entries_by_hand_last_no_longer_than_they_say() {
    assert_eq!(intervals(&[(Manual, Joined, 100), (Manual, Left, 400)]), [(100, 400)]);
    assert_eq!(intervals(&[(Manual, Joined, 100)]), [(100, 100)]);
}

#[test]
fn two_tabs_and_two_sources_count_once() {
    let mut sightings = vec![
        sighting("ali", "provider", Webhook, Joined, 10),
        sighting("ali", "provider", Webhook, Left, 200),
        sighting("guest", "g", Webhook, Joined, 300),
    ];
    sightings.extend((0..=10).map(|beat| sighting("ali", "tab", Heartbeat, Seen, 100 + beat * 30)));
    let rows = rows(&sightings);
    assert_eq!(seconds_of(&rows[0]), [(10, 400)]);
    assert_eq!((rows[0].present_seconds, rows[0].percent, rows[0].connections), (390, 65.0, 2));
    assert_eq!(rows[0].intervals[0].sources, BTreeSet::from([Heartbeat, Webhook]));
    assert_eq!((rows[1].person.as_str(), rows[1].invited, rows[1].name.as_deref()), ("guest", false, None));
}

#[test]
fn status_follows_the_documented_order() {
    let status = |start, end| {
        rows(&[sighting("ali", "c", Webhook, Joined, start), sighting("ali", "c", Webhook, Left, end)])[0].status
    };
    assert_eq!(rows(&[])[0].status, Status::Absent);
    assert_eq!(status(0, 600), Status::Present);
    assert_eq!(status(60, 540), Status::Present, "the thresholds themselves are in time");
    assert_eq!(status(61, 600), Status::Late);
    assert_eq!(status(0, 539), Status::LeftEarly);
    assert_eq!(status(61, 539), Status::Partial);
    assert_eq!(status(301, 600), Status::Partial, "less than half");
    assert_eq!(status(300, 600), Status::Late);
    let gap = [(0, 200), (400, 600)]
        .map(|(start, end)| [sighting("ali", "c", Webhook, Joined, start), sighting("ali", "c", Webhook, Left, end)]);
    assert_eq!(rows(&gap.concat())[0].status, Status::Partial);
}

#[test]
fn a_correction_counts_and_keeps_the_original() {
    let correction = |second, status, present_seconds| Correction {
        person: "ali".to_owned(),
        status,
        present_seconds,
        reason: "doctor's note".to_owned(),
        by: "teacher".to_owned(),
        at: at(second),
    };
    let seen = [sighting("ali", "c", Webhook, Joined, 450)];
    let corrections = [correction(900, Some(Status::Excused), Some(300)), correction(800, Some(Status::Absent), None)];
    let row = report(span(), &[invited("ali")], &seen, &corrections, &rules()).remove(0);
    assert_eq!((row.status, row.present_seconds, row.percent), (Status::Excused, 300, 50.0));
    let corrected = row.corrected.expect("corrected");
    assert_eq!((corrected.original_status, corrected.original_present_seconds), (Status::Partial, 150));
    assert_eq!((corrected.original_percent, corrected.by.as_str()), (25.0, "teacher"));

    let stranger = Correction { person: "veli".to_owned(), ..corrections[0].clone() };
    let rows = report(span(), &[invited("ali")], &[], &[stranger], &rules());
    assert_eq!((rows[1].person.as_str(), rows[1].invited, rows[1].status), ("veli", false, Status::Excused));
}

#[test]
fn who_is_here_now_follows_each_kind_of_evidence() {
    let sightings = [
        sighting("beating", "c", Heartbeat, Seen, 100),
        sighting("silent", "c", Heartbeat, Seen, 99),
        sighting("gone", "c", Heartbeat, Left, 120),
        sighting("joined", "c", Webhook, Joined, 0),
        sighting("left", "c", Webhook, Joined, 0),
        sighting("left", "c", Webhook, Left, 130),
        sighting("future", "c", Webhook, Joined, 131),
    ];
    let here = present_now(&sightings, &rules(), at(130));
    let here: Vec<_> = here.iter().map(|here| (here.person.as_str(), here.since, here.connections)).collect();
    assert_eq!(here, [("joined", at(0), 1), ("beating", at(100), 1)]);
}

#[test]
fn a_session_without_length_divides_by_nothing() {
    let instant = Span { start: at(0), end: at(0), over: true };
    let row = report(instant, &[invited("ali")], &[sighting("ali", "c", Webhook, Joined, -5)], &[], &rules()).remove(0);
    assert_eq!((row.present_seconds, row.percent, row.status), (0, 0.0, Status::Partial));
    assert_eq!(analytics(instant, &[row], Duration::seconds(60)).timeline, []);
    let backwards = Span { start: at(10), end: at(0), over: true };
    assert_eq!(report(backwards, &[invited("ali")], &[], &[], &rules())[0].percent, 0.0);
}

#[test]
fn part_seconds_are_added_before_they_are_rounded_down() {
    let millis = |millis: i64| at(0) + Duration::milliseconds(millis);
    let event = |kind, at| Sighting { at, ..sighting("ali", "c", Webhook, kind, 0) };
    let sightings = [(Joined, 0), (Left, 1_600), (Joined, 2_000), (Left, 3_600)].map(|(k, m)| event(k, millis(m)));
    assert_eq!(rows(&sightings)[0].present_seconds, 3);
}

#[test]
fn analytics_tell_peak_average_and_timeline() {
    let sightings = [
        sighting("ali", "c", Webhook, Joined, 0),
        sighting("ali", "c", Webhook, Left, 300),
        sighting("veli", "c", Webhook, Joined, 150),
        sighting("ayşe", "c", Webhook, Joined, 300),
    ];
    let found = analytics(span(), &rows(&sightings), Duration::seconds(400));
    assert_eq!((found.peak, found.peak_at), (3, Some(at(300))), "at the instant of leaving one is still there");
    assert_eq!(found.average, 1.75);
    let timeline: Vec<_> = found.timeline.iter().map(|bucket| (bucket.start, bucket.average, bucket.peak)).collect();
    assert_eq!(timeline, [(at(0), 1.63, 3), (at(400), 2.0, 2)]);
}

#[test]
fn punctuality_counts_those_who_came() {
    let came = |person: &str, from, to| {
        [sighting(person, "c", Webhook, Joined, from), sighting(person, "c", Webhook, Left, to)]
    };
    let sightings = [came("early", -30, 600), came("late", 61, 600), came("hasty", 20, 500)].concat();
    let rows = report(span(), &[invited("absent")], &sightings, &[], &rules());
    let found = punctuality(span(), &rows, &rules());
    assert_eq!((found.on_time, found.late, found.left_early), (2, 1, 1));
    assert_eq!(found.median_delay_seconds, Some(20));
    assert_eq!(punctuality(span(), &[], &rules()).median_delay_seconds, None);
}

#[test]
fn a_lost_left_costs_no_more_than_the_heartbeat_timeout() {
    let beats = |from: i64, to: i64| (from..=to).step_by(20).map(|at| (Heartbeat, Seen, at));
    let with = |told: &[(Source, SightingKind, i64)], from, to| {
        intervals(&beats(from, to).chain(told.iter().copied()).collect::<Vec<_>>())
    };
    assert_eq!(with(&[(Webhook, Joined, 5)], 0, 300), [(0, 300)], "the page knows");
    assert_eq!(
        with(&[(Webhook, Joined, 5), (Webhook, Ended, 500)], 0, 300),
        [(0, 300)],
        "the room's end is not theirs"
    );
    assert_eq!(with(&[(Webhook, Joined, 5), (Webhook, Left, 500)], 0, 300), [(0, 500)], "a phone lets the page sleep");
    assert_eq!(with(&[(Webhook, Joined, 5), (Webhook, Ended, 310)], 0, 300), [(0, 310)], "heard to the end");
    assert_eq!(with(&[(Webhook, Joined, 5), (Poll, Seen, 400)], 0, 300), [(0, 400)], "a poll saw them later");
    assert_eq!(with(&[(Webhook, Joined, 5)], 0, 0), [(0, 0), (5, 600)], "the page only opened the meeting");
    assert_eq!(intervals(&[(Webhook, Joined, 5), (Webhook, Ended, 500)]), [(5, 500)]);
    assert_eq!(intervals(&[(Webhook, Ended, 3)]), []);

    let live = Span { over: false, ..span() };
    let sightings: Vec<_> = beats(0, 300)
        .chain([(Webhook, Joined, 5)])
        .map(|(source, kind, second)| sighting("ali", "c", source, kind, second))
        .collect();
    let row = report(live, &[], &sightings, &[], &rules()).remove(0);
    assert_eq!(seconds_of(&row), [(0, 600)], "it may still come");
}

#[test]
fn who_came_back_by_another_connection_was_away_between() {
    let told = |connection: &str, kind, second| sighting("ali", connection, Webhook, kind, second);
    let mut sightings = vec![told("first", Joined, 5), told("second", Joined, 400), told("second", Left, 600)];
    sightings.extend((0..=10).map(|beat| sighting("ali", "a", Heartbeat, Seen, beat * 20)));
    sightings.extend((0..=9).map(|beat| sighting("ali", "b", Heartbeat, Seen, 400 + beat * 20)));
    assert_eq!(seconds_of(&rows(&sightings)[0]), [(0, 200), (400, 600)]);
}

#[test]
fn a_stored_stretch_is_as_good_as_its_heartbeats() {
    let stretch = Sighting::stretch("ali", "c", (at(10), at(305)), true, &rules());
    assert_eq!(seconds_of(&rows(&stretch)[0]), [(10, 305)]);
    assert!(present_now(&stretch, &rules(), at(306)).is_empty());
    let instant = Sighting::stretch("ali", "c", (at(10), at(10)), false, &rules());
    assert_eq!(seconds_of(&rows(&instant)[0]), [(10, 10)]);
}

#[test]
fn rules_survive_json_and_missing_fields_take_the_default() {
    let json = serde_json::to_value(rules()).expect("rules are JSON");
    assert_eq!(json["heartbeat_timeout_seconds"], 30);
    assert_eq!(serde_json::from_value::<Rules>(json).expect("its own JSON"), rules());
    assert_eq!(serde_json::from_str::<Rules>("{}").expect("empty"), Rules::default());
    for source in Source::ALL {
        assert_eq!(source.as_str().parse(), Ok(source));
        assert_eq!(serde_json::to_value(source).expect("a name"), source.as_str());
    }
    for status in Status::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
        assert_eq!(serde_json::to_value(status).expect("a name"), status.as_str());
    }
    assert!("webhooks".parse::<Source>().is_err());
}

#[test]
fn who_was_excused_and_did_not_come_is_excused_whatever_else_is_corrected() {
    let span = Span { start: at(0), end: at(600), over: true };
    let ill = Invited { excused: true, ..invited("ill") };
    let of =
        |corrections: &[Correction]| report(span, std::slice::from_ref(&ill), &[], corrections, &rules()).remove(0);
    assert_eq!(of(&[]).status, Status::Excused);
    let seconds = Correction {
        person: "ill".to_owned(),
        status: None,
        present_seconds: Some(60),
        reason: "looked in".to_owned(),
        by: "host".to_owned(),
        at: at(700),
    };
    let row = of(std::slice::from_ref(&seconds));
    assert_eq!((row.status, row.corrected.unwrap().original_status), (Status::Excused, Status::Excused));
    let absent = Correction { status: Some(Status::Absent), ..seconds };
    assert_eq!(of(&[absent]).status, Status::Absent, "a correction comes last");
}
