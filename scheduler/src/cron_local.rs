//! Cron expressions in a time zone, right across clock changes. It knows nothing of jobs.
//!
//! The `cron` crate, given a zone, skips ticks when clocks go forward and repeats them out of order
//! when they go back. So it is only asked about plain wall-clock times, and this module maps them to
//! instants, after the rule of Vixie's cron:
//!
//! - A schedule at **fixed hours** (`30 2 * * *`, also `0 */2 * * *`) runs once per wall-clock time. A
//!   time that is skipped runs at the first instant after the gap (several skipped ones run there
//!   together, once); a time that comes twice runs at its first coming.
//! - A schedule of **every hour** (`*/30 * * * *`) runs whenever the clock shows a fitting time: in
//!   the repeated hour too, so that it is never silent for longer than usual, and never in a gap.

use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};
use cron::{Schedule, TimeUnitSpec};

/// Clock changes of one zone are further apart than this.
const BETWEEN_CHANGES: TimeDelta = TimeDelta::hours(6);
/// How far back the search for the latest tick looks first; typical for a schedule of some seconds.
const FIRST_LOOK_BACK: TimeDelta = TimeDelta::minutes(2);
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// An expression and the zone whose clocks it means.
#[derive(Debug, Clone)]
pub struct LocalCron {
    wall_clock: Schedule,
    every_hour: bool,
    expression: String,
    zone: Tz,
}

impl LocalCron {
    /// Five fields (minute, hour, day of month, month, weekday) or six (second first), each `*`, a
    /// value, `a-b`, `*/n`, or a list of these. Weekdays are names or, as in Unix and Celery, 0-7 with
    /// Sunday as 0 and 7. Where both day fields are restricted both have to fit, as in Celery.
    pub fn parse(expression: &str, zone: Tz) -> anyhow::Result<Self> {
        let mut fields: Vec<&str> = expression.split_whitespace().collect();
        match fields.len() {
            5 => fields.insert(0, "0"),
            6 => {}
            n => bail!("5 or 6 fields are needed (second, if wanted, minute hour day month weekday), there are {n}"),
        }
        let weekdays = weekdays(fields[5]).with_context(|| format!("weekday {:?}", fields[5]))?;
        fields[5] = &weekdays;
        let wall_clock = Schedule::from_str(&fields.join(" "))
            .map_err(|e| anyhow::anyhow!("{}", e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")))?;
        let every_hour = wall_clock.hours().is_all();
        let cron = Self { wall_clock, every_hour, expression: expression.trim().to_owned(), zone };
        ensure!(cron.next(DateTime::UNIX_EPOCH).is_some(), "there is no such day");
        Ok(cron)
    }

    /// As it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first tick later than `after`; `None` after the year 2100.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = after.trunc_subsecs(0);
        if self.every_hour { self.next_shown(after) } else { self.next_once(after) }
    }

    /// The last tick later than `after` and not later than `until`.
    pub fn latest(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut look_back = FIRST_LOOK_BACK;
        loop {
            let from = (until - look_back).max(after);
            if let Some(tick) = self.between(from, until).last() {
                return Some(tick);
            }
            if from == after {
                return None;
            }
            look_back = look_back * 8;
        }
    }

    /// All ticks later than `after` and not later than `until`, in order.
    pub fn between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        std::iter::successors(self.next(after), |tick| self.next(*tick)).take_while(move |tick| *tick <= until)
    }

    /// Fixed hours. A later wall-clock time never means an earlier instant here, so the first one
    /// whose instant is late enough is the answer.
    fn next_once(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let wall_clock = after.with_timezone(&self.zone).naive_local();
        self.fitting(wall_clock).filter_map(|time| self.instant(time)).find(|instant| *instant > after)
    }

    /// The first instant at which clocks show `time`, or would have, had they not skipped it.
    fn instant(&self, time: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&time) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
            LocalResult::None => GapInfo::new(&time, &self.zone)?.end.map(|end| end.to_utc()),
        }
    }

    /// Every hour: follow the clock, from one change to the next.
    fn next_shown(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = after;
        let mut offset = self.offset(from);
        loop {
            let time = self.fitting((from + offset).naive_utc()).next()?;
            let tick = time.and_utc() - offset;
            // `from` itself was looked at; after a change it lies one second before it.
            let Some(change) = self.change(offset, from + TimeDelta::seconds(1), tick) else {
                return Some(tick);
            };
            from = change - TimeDelta::seconds(1);
            offset = self.offset(change);
        }
    }

    /// Wall-clock times later than `time` that fit the expression.
    fn fitting(&self, time: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> + '_ {
        self.wall_clock.after_owned(time.and_utc()).map(|fitting| fitting.naive_utc())
    }

    fn offset(&self, at: DateTime<Utc>) -> TimeDelta {
        let seconds = self.zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
        TimeDelta::seconds(i64::from(seconds))
    }

    /// The first instant from `from` to `to`, both included, at which the offset is another one.
    fn change(&self, offset: TimeDelta, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut same = from;
        if self.offset(same) != offset {
            return Some(same);
        }
        while same < to {
            let mut changed = (same + BETWEEN_CHANGES).min(to);
            if self.offset(changed) == offset {
                same = changed;
                continue;
            }
            while changed - same > TimeDelta::seconds(1) {
                let middle = same + TimeDelta::seconds((changed - same).num_seconds() / 2);
                if self.offset(middle) == offset { same = middle } else { changed = middle }
            }
            return Some(changed);
        }
        None
    }
}

impl std::fmt::Display for LocalCron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.expression, self.zone)
    }
}

/// The weekday field in names: the `cron` crate counts from 1 = Sunday, Unix and Celery do not.
fn weekdays(field: &str) -> anyhow::Result<String> {
    if matches!(field, "*" | "?") {
        return Ok("*".to_owned());
    }
    let mut days = [false; 7];
    for item in field.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().context("the step has to be a number")?)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((first, last)) => match (weekday(first)?, weekday(last)?) {
                // FRI-SUN: Sunday ends a week as well.
                (first, 0) if first > 0 => (first, 7),
                days => days,
            },
            None if step.is_some() => (weekday(range)?, 6),
            None => (weekday(range)?, weekday(range)?),
        };
        ensure!(first <= last, "{range:?} ends before it begins");
        ensure!(step.is_none_or(|step| (1..=7).contains(&step)), "the step has to be 1-7");
        for day in (first..=last).step_by(step.unwrap_or(1)) {
            days[day % 7] = true;
        }
    }
    let names: Vec<_> = WEEKDAYS.into_iter().zip(days).filter_map(|(name, wanted)| wanted.then_some(name)).collect();
    Ok(names.join(","))
}

/// 0 (Sunday) to 7 (Sunday again).
fn weekday(text: &str) -> anyhow::Result<usize> {
    if let Ok(number) = text.parse::<usize>() {
        ensure!(number <= 7, "{number} is no weekday: 0-7, Sunday is 0 and 7");
        return Ok(number);
    }
    text.parse::<chrono::Weekday>()
        .map(|day| day.num_days_from_sunday() as usize)
        .map_err(|_| anyhow::anyhow!("{text:?} is no weekday: SUN, MON, … or 0-7"))
}

#[cfg(test)]
mod tests;
