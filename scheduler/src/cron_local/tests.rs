//! Ten years of ticks in twenty zones, against a walk through every minute that uses neither the
//! `cron` crate nor the mapping under test, only the zone's offset.

use chrono::NaiveDate;
use proptest::prelude::*;

use super::*;

/// Zones with all kinds of changes: none, in spring and autumn of both hemispheres, at midnight, by half
/// an hour, around Ramadan, an offset given up for good.
const ZONES: [Tz; 20] = [
    Tz::Europe__Istanbul,
    Tz::Europe__Berlin,
    Tz::Europe__London,
    Tz::Europe__Lisbon,
    Tz::Europe__Moscow,
    Tz::Europe__Chisinau,
    Tz::America__New_York,
    Tz::America__Los_Angeles,
    Tz::America__Sao_Paulo,
    Tz::America__Santiago,
    Tz::America__Havana,
    Tz::America__Caracas,
    Tz::Africa__Casablanca,
    Tz::Africa__Cairo,
    Tz::Asia__Tehran,
    Tz::Asia__Beirut,
    Tz::Asia__Kathmandu,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Chatham,
    Tz::Pacific__Apia,
];

const YEARS: std::ops::Range<i32> = 2011..2021;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn minute(year: i32) -> i64 {
    NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp() / 60
}

/// Which wall-clock minutes fit, as plain tables.
#[derive(Debug, Clone)]
struct Fits {
    minutes: [bool; 60],
    hours: [bool; 24],
    /// From Sunday.
    weekdays: [bool; 7],
    /// Index 1 to 31.
    days: [bool; 32],
}

impl Fits {
    fn expression(&self) -> String {
        fn list(fits: &[bool], first: usize) -> String {
            if fits[first..].iter().all(|fits| *fits) {
                return "*".to_owned();
            }
            let numbers: Vec<_> = (first..fits.len()).filter(|i| fits[*i]).map(|i| i.to_string()).collect();
            numbers.join(",")
        }
        format!(
            "{} {} {} * {}",
            list(&self.minutes, 0),
            list(&self.hours, 0),
            list(&self.days, 1),
            list(&self.weekdays, 0)
        )
    }

    /// `minute` counts from 1970 on the wall clock; 1970 began on a Thursday.
    fn minute(&self, minute: i64) -> bool {
        self.minutes[minute.rem_euclid(60) as usize] && self.hours[minute.div_euclid(60).rem_euclid(24) as usize] && {
            let day = minute.div_euclid(1440);
            self.weekdays[(day + 4).rem_euclid(7) as usize] && self.days[day_of_month(day)]
        }
    }
}

/// Civil date from days since 1970, after Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
fn day_of_month(days_since_1970: i64) -> usize {
    let of_era = (days_since_1970 + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (of_year - (153 * month + 2) / 5 + 1) as usize
}

/// The offset in minutes at each quarter of an hour: no clock change of these years lies in between.
fn offsets(zone: Tz, minutes: std::ops::Range<i64>) -> Vec<i64> {
    minutes
        .step_by(15)
        .map(|minute| {
            let at = DateTime::from_timestamp(minute * 60, 0).unwrap();
            i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) / 60
        })
        .collect()
}

/// The ticks, in minutes since 1970, by looking at the wall clock each minute. A schedule at fixed hours
/// runs for what the clock has not shown before, skipped minutes included; one of every hour for what it
/// shows.
fn walk(fits: &Fits, offsets: &[i64], minutes: std::ops::Range<i64>) -> Vec<i64> {
    let every_hour = fits.hours.iter().all(|hour| *hour);
    let mut ticks = Vec::new();
    let mut furthest = minutes.start + offsets[0] - 1;
    for minute in minutes.clone() {
        let shown = minute + offsets[((minute - minutes.start) / 15) as usize];
        let runs = if every_hour { fits.minute(shown) } else { (furthest + 1..=shown).any(|m| fits.minute(m)) };
        if runs {
            ticks.push(minute);
        }
        furthest = furthest.max(shown);
    }
    ticks
}

fn ticks(cron: &LocalCron, minutes: std::ops::Range<i64>) -> Vec<i64> {
    let at = |minute: i64| DateTime::from_timestamp(minute * 60, 0).unwrap();
    cron.between(at(minutes.start) - TimeDelta::seconds(1), at(minutes.end - 1))
        .map(|tick| {
            assert_eq!(tick.timestamp() % 60, 0);
            tick.timestamp() / 60
        })
        .collect()
}

fn some_of<const N: usize>(most: usize) -> impl Strategy<Value = [bool; N]> {
    prop::collection::vec(0..N, 1..=most).prop_map(|chosen| std::array::from_fn(|i| chosen.contains(&i)))
}

fn fixed_hours() -> impl Strategy<Value = Fits> {
    let days =
        prop_oneof![3 => Just([true; 32]), 1 => some_of::<32>(6).prop_filter("a day", |d| d[1..29].contains(&true))];
    let weekdays = prop_oneof![2 => Just([true; 7]), 1 => some_of::<7>(3)];
    // Most changes happen in the first hours of a day.
    let hours = prop_oneof![some_of::<24>(3), (0_usize..5).prop_map(|h| std::array::from_fn(|i| i == h))];
    (some_of::<60>(2), hours, weekdays, days).prop_map(|(minutes, hours, weekdays, days)| Fits {
        minutes,
        hours,
        weekdays,
        days,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn fixed_hours_run_once_over_ten_years(zone in prop::sample::select(ZONES.to_vec()), fits in fixed_hours()) {
        let minutes = minute(YEARS.start)..minute(YEARS.end);
        let cron = LocalCron::parse(&fits.expression(), zone).unwrap();
        let expected = walk(&fits, &offsets(zone, minutes.clone()), minutes.clone());
        prop_assert_eq!(ticks(&cron, minutes), expected, "{}", cron);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_a_schedule_or_refused(
        expression in prop_oneof!["[0-9*/,?#LWa-zA-Z -]{0,40}", "([0-9*/,-]{1,6} ){4,5}[0-7A-Za-z,-]{1,8}", any::<String>()],
        zone in prop::sample::select(ZONES.to_vec()),
    ) {
        if let Ok(cron) = LocalCron::parse(&expression, zone) {
            let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
            if let Some(next) = cron.next(start) {
                prop_assert!(next > start);
                prop_assert_eq!(cron.latest(start, next), Some(next));
            }
        }
    }
}

/// The rule at every change of ten years in all zones, days around it included.
#[test]
fn every_clock_change_of_twenty_zones() {
    let minutes = minute(YEARS.start)..minute(YEARS.end);
    let schedules: Vec<_> = [
        (&[0, 15, 30, 45][..], None),
        (&[17], None),
        (&[30], Some(2)),
        (&[0], Some(0)),
        (&[45], Some(1)),
        (&[5], Some(3)),
    ]
    .into_iter()
    .map(|(minutes, hour): (&[usize], Option<usize>)| Fits {
        minutes: std::array::from_fn(|i| minutes.contains(&i)),
        hours: std::array::from_fn(|i| hour.is_none_or(|hour| hour == i)),
        weekdays: [true; 7],
        days: [true; 32],
    })
    .collect();
    let mut changes = 0;
    for zone in ZONES {
        let offsets = offsets(zone, minutes.clone());
        for change in (200..offsets.len() - 200).filter(|i| offsets[*i] != offsets[i - 1]) {
            changes += 1;
            let quarters = change - 192..change + 192;
            let around = minutes.start + 15 * quarters.start as i64..minutes.start + 15 * quarters.end as i64;
            for fits in &schedules {
                let cron = LocalCron::parse(&fits.expression(), zone).unwrap();
                let expected = walk(fits, &offsets[quarters.clone()], around.clone());
                assert_eq!(ticks(&cron, around.clone()), expected, "{cron} around {change}");
            }
        }
    }
    assert!(changes > 200, "{changes} changes");
}

/// One schedule at fixed hours per zone, all ten years, so that no zone depends on the dice.
#[test]
fn a_nightly_schedule_in_each_zone_for_ten_years() {
    let minutes = minute(YEARS.start)..minute(YEARS.end);
    let fits = Fits {
        minutes: std::array::from_fn(|i| i == 30),
        hours: std::array::from_fn(|i| i == 0 || i == 2),
        weekdays: [true; 7],
        days: [true; 32],
    };
    for zone in ZONES {
        let cron = LocalCron::parse(&fits.expression(), zone).unwrap();
        let expected = walk(&fits, &offsets(zone, minutes.clone()), minutes.clone());
        assert_eq!(ticks(&cron, minutes.clone()), expected, "{zone}");
    }
}

fn list(expression: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
    let cron = LocalCron::parse(expression, zone).unwrap();
    let mut at = utc(after);
    (0..count)
        .map(|_| {
            at = cron.next(at).unwrap();
            at.with_timezone(&zone).format("%d %H:%M %Z").to_string()
        })
        .collect()
}

#[test]
fn new_york_in_2026() {
    let zone = Tz::America__New_York;
    let spring = list("30 2 * * *", zone, "2026-03-07T17:00:00Z", 3);
    assert_eq!(spring, ["08 03:00 EDT", "09 02:30 EDT", "10 02:30 EDT"]);
    let autumn = list("30 1 * * *", zone, "2026-10-31T17:00:00Z", 2);
    assert_eq!(autumn, ["01 01:30 EDT", "02 01:30 EST"]);
    let through = list("*/30 * * * *", zone, "2026-11-01T04:10:00Z", 6);
    assert_eq!(
        through,
        ["01 00:30 EDT", "01 01:00 EDT", "01 01:30 EDT", "01 01:00 EST", "01 01:30 EST", "01 02:00 EST"]
    );
    let over = list("*/30 * * * *", zone, "2026-03-08T06:10:00Z", 3);
    assert_eq!(over, ["08 01:30 EST", "08 03:00 EDT", "08 03:30 EDT"]);
    // Fixed hours with many minutes: what was skipped runs together; the repeated hour runs once.
    let together = list("*/15 2 * * *", zone, "2026-03-07T17:00:00Z", 2);
    assert_eq!(together, ["08 03:00 EDT", "09 02:00 EDT"]);
    let once = list("*/30 1 * * *", zone, "2026-10-31T17:00:00Z", 3);
    assert_eq!(once, ["01 01:00 EDT", "01 01:30 EDT", "02 01:00 EST"]);
}

#[test]
fn seconds_never_pause() {
    let cron = LocalCron::parse("*/30 * * * * *", Tz::Europe__Berlin).unwrap();
    for change in ["2026-10-25T00:30:00Z", "2026-03-29T00:30:00Z"] {
        let ticks: Vec<_> = cron.between(utc(change), utc(change) + TimeDelta::hours(2)).collect();
        assert_eq!(ticks.len(), 240);
        assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::seconds(30)));
    }
}

#[test]
fn a_whole_day_that_was_skipped_runs_after_it() {
    // Samoa went from 29 December 2011 straight to the 31st.
    let ticks = list("0 3 * * *", Tz::Pacific__Apia, "2011-12-29T14:00:00Z", 3);
    assert_eq!(ticks.iter().map(|t| &t[..8]).collect::<Vec<_>>(), ["31 00:00", "31 03:00", "01 03:00"]);
}

#[test]
fn weekdays_are_those_of_unix_and_celery() {
    for (field, expected) in [
        ("*", "*"),
        ("?", "*"),
        ("0", "SUN"),
        ("7", "SUN"),
        ("1", "MON"),
        ("1-5", "MON,TUE,WED,THU,FRI"),
        ("mon-fri", "MON,TUE,WED,THU,FRI"),
        ("5-7", "SUN,FRI,SAT"),
        ("0-6", "SUN,MON,TUE,WED,THU,FRI,SAT"),
        ("FRI-SUN", "SUN,FRI,SAT"),
        ("*/2", "SUN,TUE,THU,SAT"),
        ("1-5/2", "MON,WED,FRI"),
        ("Monday,3", "MON,WED"),
    ] {
        assert_eq!(weekdays(field).unwrap(), expected, "{field}");
    }
    for wrong in ["8", "", ",", "1-", "5-1", "*/0", "*/8", "-1", "MO", "1,,2", "L"] {
        assert!(weekdays(wrong).is_err(), "{wrong}");
    }
    let monday = list("0 12 * * 1", Tz::UTC, "2026-11-24T00:00:00Z", 1);
    assert_eq!(monday, ["30 12:00 UTC"]);
}

#[test]
fn wrong_expressions_are_refused() {
    for wrong in [
        "",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "0 0 31 2 *",
        "a b c d e",
        "*/0 * * * *",
        "5 /10 * * * *",
        "@daily",
        "0 0 1 1 * 2031",
    ] {
        assert!(LocalCron::parse(wrong, Tz::UTC).is_err(), "{wrong}");
    }
}

#[test]
fn the_latest_tick_is_the_last_of_all() {
    for expression in ["*/30 * * * * *", "*/5 * * * *", "0 3 * * *", "0 0 1 1 *"] {
        let cron = LocalCron::parse(expression, Tz::Europe__Berlin).unwrap();
        for (after, until) in [
            ("2026-10-24T22:00:00Z", "2026-10-25T03:00:00Z"),
            ("2026-10-25T01:00:00Z", "2026-10-25T01:00:30Z"),
            ("2026-10-25T01:00:00Z", "2026-10-25T01:00:00Z"),
            ("2025-10-25T01:00:00Z", "2026-01-02T00:00:00Z"),
            ("2026-10-25T01:00:10Z", "2026-10-25T01:00:29Z"),
        ] {
            let (after, until) = (utc(after), utc(until));
            assert_eq!(cron.latest(after, until), cron.between(after, until).last(), "{cron} {after} {until}");
        }
    }
}
