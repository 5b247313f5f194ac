//! When people are reminded of a session: which steps it gets, and whether a late one is still worth sending. Pure; the
//! rows are kept by `db`, the mails are sent by the worker.

use chrono::{DateTime, Duration, Utc};

/// The reminders that a session gets when it is planned or moved at `now`: the step, in minutes before the start,
/// and when it is due; the earliest first.
///
/// Steps whose time has passed are left out. Where that leaves none and the session has not started, the step
/// nearest to the start is kept, due at once: a class planned ten minutes ahead still gets one reminder.
/// A step of 0 minutes, or one given twice, counts once or not at all.
pub fn due_steps(starts_at: DateTime<Utc>, steps: &[u32], now: DateTime<Utc>) -> Vec<(u32, DateTime<Utc>)> {
    if now >= starts_at {
        return Vec::new();
    }
    let mut minutes: Vec<u32> = steps.iter().copied().filter(|step| *step > 0).collect();
    minutes.sort_unstable_by(|a, b| b.cmp(a));
    minutes.dedup();
    let nearest = minutes.last().copied();
    let ahead: Vec<_> = minutes
        .into_iter()
        .map(|step| (step, starts_at - Duration::minutes(i64::from(step))))
        .filter(|(_, due_at)| *due_at >= now)
        .collect();
    match (ahead.is_empty(), nearest) {
        (true, Some(step)) => vec![(step, now)],
        _ => ahead,
    }
}

/// Whether a reminder due at `due_at` may still be sent at `now`: it is due, and the planned start is ahead.
pub fn still_makes_sense(due_at: DateTime<Utc>, starts_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    due_at <= now && now < starts_at
}

/// Whether a nearer step of the same session is due as well, as after downtime: then only that one is sent, so that
/// nobody gets "in 24 hours" and "in 15 minutes" together.
pub fn is_superseded(step: u32, steps: &[u32], starts_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    steps
        .iter()
        .filter(|other| **other > 0 && **other < step)
        .any(|other| starts_at - Duration::minutes(i64::from(*other)) <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [u32; 2] = [24 * 60, 15];

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_766_400, 0).expect("in range")
    }

    fn before(minutes: i64) -> DateTime<Utc> {
        start() - Duration::minutes(minutes)
    }

    #[test]
    fn a_session_planned_days_ahead_gets_every_step() {
        assert_eq!(due_steps(start(), &[15, 1440, 15, 0], before(5000)), [(1440, before(1440)), (15, before(15))]);
    }

    #[test]
    fn a_passed_step_is_left_out_while_a_nearer_one_is_ahead() {
        assert_eq!(due_steps(start(), &STEPS, before(180)), [(15, before(15))]);
        assert_eq!(due_steps(start(), &STEPS, before(15)), [(15, before(15))]);
    }

    #[test]
    fn a_session_planned_minutes_ahead_gets_one_reminder_at_once() {
        assert_eq!(due_steps(start(), &STEPS, before(10)), [(15, before(10))]);
    }

    #[test]
    fn nothing_is_due_at_or_after_the_start_or_without_steps() {
        assert_eq!(due_steps(start(), &STEPS, start()), []);
        assert_eq!(due_steps(start(), &STEPS, start() + Duration::hours(1)), []);
        assert_eq!(due_steps(start(), &[], before(10)), []);
    }

    #[test]
    fn a_late_reminder_is_sent_until_the_start_and_not_early() {
        assert!(still_makes_sense(before(15), start(), before(15)));
        assert!(still_makes_sense(before(1440), start(), before(1)));
        assert!(!still_makes_sense(before(15), start(), start()));
        assert!(!still_makes_sense(before(15), start(), before(16)));
    }

    #[test]
    fn after_downtime_only_the_nearest_due_step_is_sent() {
        assert!(is_superseded(1440, &STEPS, start(), before(15)));
        assert!(!is_superseded(1440, &STEPS, start(), before(16)));
        assert!(!is_superseded(15, &STEPS, start(), before(1)));
    }
}
