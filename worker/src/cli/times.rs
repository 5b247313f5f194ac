//! Times as people write and read them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use shared::clock::Clock;

/// `90s`, `10m`, `2h`, `3d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time span; right is 90s, 10m, 2h or 3d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// `2026-11-23T10:00:00Z`, or how long ago: `2h`.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = duration(text).map_err(|_| {
        format!("{text:?} is no time; right is 2026-11-23T10:00:00Z, or how long ago: 90s, 10m, 2h, 3d")
    })?;
    Ok(Clock::System.now() - ago)
}

/// To the second.
pub fn show(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The same, `-` where there is none.
pub fn show_or_none(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), show)
}

/// `3h 20m`, in the two largest units.
pub fn show_seconds(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments_are_read_as_people_write_them() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("3d"), Ok(Duration::from_secs(259_200)));
        for wrong in ["", "s", "10", "1w", "-3h", "1.5h", "½h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(moment("2026-11-23T10:00:00+03:00").map(show), Ok("2026-11-23T07:00:00Z".to_owned()));
        let two_hours_ago = moment("2h").unwrap();
        let ago = Clock::System.now() - two_hours_ago;
        assert!((7_200..7_260).contains(&ago.num_seconds()));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn spans_are_shown_in_two_units() {
        assert_eq!([59.9, 61.0, 3_725.0, 90_000.0].map(show_seconds), ["59s", "1m 1s", "1h 2m", "1d 1h"]);
    }
}
