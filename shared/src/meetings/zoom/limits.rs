//! "Too many calls" in all the ways in which Zoom says it ("Rate limits" of its documentation).

use std::time::Duration;

use chrono::{DateTime, Days, NaiveTime, Utc};
use reqwest::header::{self, HeaderMap};
use serde_json::Value;

/// Where the answer does not say how long.
const A_MOMENT: Duration = Duration::from_secs(1);
/// No answer keeps us longer.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// How long to leave a call alone that was answered with 429.
pub fn wait(headers: &HeaderMap, body: &Value, now: DateTime<Utc>) -> Duration {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    // By the clock that wrote the times.
    let now = text(header::DATE.as_str()).and_then(moment).unwrap_or(now);
    let told = text(header::RETRY_AFTER.as_str()).and_then(|value| until(value, now));
    let reset = || text("x-ratelimit-reset").and_then(|value| until(value, now));
    let daily = || {
        let kind = text("x-ratelimit-type").unwrap_or_default().to_ascii_lowercase();
        let message = body["message"].as_str().unwrap_or_default().to_ascii_lowercase();
        (kind.contains("daily") || message.contains("daily rate limit")).then(|| to_midnight(now))
    };
    told.or_else(reset).or_else(daily).unwrap_or(A_MOMENT).clamp(A_MOMENT, LONGEST)
}

/// Seconds, a moment as seconds of the epoch, an HTTP date, an ISO 8601 time.
fn until(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let at = match value.parse::<u32>() {
        Ok(seconds) if seconds < 1_000_000_000 => return Some(Duration::from_secs(seconds.into())),
        Ok(epoch) => DateTime::from_timestamp(epoch.into(), 0)?,
        Err(_) => moment(value)?,
    };
    Some((at - now).to_std().unwrap_or_default())
}

fn moment(value: &str) -> Option<DateTime<Utc>> {
    let parsed = DateTime::parse_from_rfc2822(value).or_else(|_| DateTime::parse_from_rfc3339(value));
    parsed.ok().map(|at| at.with_timezone(&Utc))
}

/// Zoom's days are those of UTC.
fn to_midnight(now: DateTime<Utc>) -> Duration {
    let midnight = now.date_naive().checked_add_days(Days::new(1)).map(|day| day.and_time(NaiveTime::MIN).and_utc());
    midnight.and_then(|midnight| (midnight - now).to_std().ok()).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_of_saying_too_many_is_understood() {
        let now: DateTime<Utc> = "2026-11-25T22:00:00Z".parse().unwrap();
        let seconds = |told: &[(&'static str, &str)], message: &str| {
            let headers = told.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), header::HeaderValue::from_str(value).unwrap())
            });
            wait(&headers.collect(), &json!({"code": 429, "message": message}), now).as_secs()
        };
        let per_second = "You have reached the maximum per-second rate limit for this API. Try again later.";
        let daily = "You have reached the daily rate limit (100) of Meeting Create/Update API requests permitted …";
        assert_eq!(seconds(&[], per_second), 1);
        assert_eq!(seconds(&[("x-ratelimit-type", "QPS")], ""), 1);
        assert_eq!(seconds(&[("retry-after", "7")], per_second), 7);
        assert_eq!(seconds(&[("retry-after", "0")], ""), 1);
        assert_eq!(seconds(&[("retry-after", "2026-11-26T00:00:00Z")], daily), 7_200);
        assert_eq!(seconds(&[("retry-after", "Wed, 25 Nov 2026 22:01:30 GMT")], ""), 90);
        assert_eq!(seconds(&[("x-ratelimit-reset", "1795644060")], ""), 60);
        assert_eq!(seconds(&[("x-ratelimit-type", "Daily-limit")], ""), 7_200);
        assert_eq!(seconds(&[], daily), 7_200);
        assert_eq!(seconds(&[("retry-after", "soon")], per_second), 1);
        assert_eq!(seconds(&[("retry-after", "999999999")], ""), 86_400);
        assert_eq!(seconds(&[("retry-after", "2020-01-01T00:00:00Z")], ""), 1);
        // The other clock is an hour ahead.
        let ahead = [("date", "Wed, 25 Nov 2026 23:00:00 GMT"), ("retry-after", "2026-11-25T23:00:30Z")];
        assert_eq!(seconds(&ahead, ""), 30);
    }
}
