//! What a session's body must mean, beyond its form. These rules read the JSON, so that they can tell
//! their faults together with those of the form.

use chrono::{DateTime, Duration, Utc};
use serde_json::Value;
use shared::domain::person::is_mail_address;

use crate::error::Fault;

/// A class is over within a day.
const LONGEST: Duration = Duration::hours(24);
/// A start this little in the past is "now" with a slow clock.
const PAST_TOLERANCE: Duration = Duration::minutes(1);
/// Further ahead nobody plans; a typo in the year does.
const FURTHEST: Duration = Duration::days(365 * 10);

/// Faults of a new session.
pub fn of_new(body: &Value, now: DateTime<Utc>, may_name_host: bool, caller: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let instant = body["kind"] == "instant";
    if instant {
        for field in ["starts_at", "ends_at"] {
            if !body[field].is_null() {
                faults.push(Fault::at(format!("/{field}"), "an instant session starts now; give duration_minutes"));
            }
        }
    } else {
        for field in ["starts_at", "ends_at"] {
            if body[field].is_null() {
                faults.push(Fault::at(format!("/{field}"), "is required"));
            }
        }
        if !body["duration_minutes"].is_null() {
            faults.push(Fault::at("/duration_minutes", "is for instant sessions; give ends_at"));
        }
        faults.extend(times(body, Some(now)));
    }
    faults.extend(zone(body));
    faults.extend(host(body, may_name_host, caller));
    if let Some(people) = body["invitees"].as_array() {
        faults.extend(crate::routes::invitees::meaning(people, "/invitees"));
    }
    faults
}

/// Faults of a changed session. A start in the past is one only where the start is changed.
pub fn of_update(
    body: &Value,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
    may_name_host: bool,
    host_id: &str,
) -> Vec<Fault> {
    let moved = time(body, "starts_at").is_some_and(|at| at != before);
    let mut faults = times(body, moved.then_some(now));
    faults.extend(zone(body));
    faults.extend(host(body, may_name_host, host_id));
    faults
}

fn time(body: &Value, field: &str) -> Option<DateTime<Utc>> {
    body[field].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|at| at.to_utc())
}

fn times(body: &Value, now: Option<DateTime<Utc>>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (start, end) = (time(body, "starts_at"), time(body, "ends_at"));
    if let (Some(start), Some(now)) = (start, now) {
        if start < now - PAST_TOLERANCE {
            faults.push(Fault::at("/starts_at", "is in the past"));
        }
        if start > now + FURTHEST {
            faults.push(Fault::at("/starts_at", "is more than ten years ahead"));
        }
    }
    if let (Some(start), Some(end)) = (start, end) {
        if end <= start {
            faults.push(Fault::at("/ends_at", "must be after starts_at"));
        } else if end - start > LONGEST {
            faults.push(Fault::at("/ends_at", "is more than 24 hours after starts_at"));
        }
    }
    faults
}

/// Whether the time zone is one.
pub fn zone(body: &Value) -> Option<Fault> {
    let name = body["timezone"].as_str()?;
    let known = name.parse::<chrono_tz::Tz>().is_ok();
    (!known).then(|| Fault::at("/timezone", "is no time zone of the IANA database, such as Europe/Istanbul"))
}

fn host(body: &Value, may_name: bool, own: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if body["host_id"].as_str().is_some_and(|id| !may_name && id != own) {
        faults.push(Fault::at("/host_id", "only administrators and services name somebody else as the host"));
    }
    if body["host_email"].as_str().is_some_and(|email| !is_mail_address(email)) {
        faults.push(Fault::at("/host_email", "must be a mail address"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(body: Value) -> Vec<String> {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        of_new(&body, now, false, "me").into_iter().filter_map(|f| f.pointer).collect()
    }

    #[test]
    fn all_faults_of_meaning_are_told() {
        let body = json!({
            "starts_at": "2026-11-22T12:00:00Z", "ends_at": "2026-11-21T12:00:00Z", "timezone": "Mars/Olympus",
            "host_id": "you", "duration_minutes": 5,
        });
        assert_eq!(pointers(body), ["/duration_minutes", "/starts_at", "/ends_at", "/timezone", "/host_id"]);
        assert_eq!(pointers(json!({})), ["/starts_at", "/ends_at"]);
        assert_eq!(pointers(json!({"kind": "instant", "starts_at": "2026-11-24T12:00:00Z"})), ["/starts_at"]);
    }

    #[test]
    fn a_day_is_the_longest_class() {
        let until = |end: &str| json!({"starts_at": "2026-11-24T00:00:00Z", "ends_at": end});
        assert!(pointers(until("2026-11-25T00:00:00Z")).is_empty());
        assert_eq!(pointers(until("2026-11-25T00:00:01Z")), ["/ends_at"]);
        assert_eq!(pointers(until("2026-11-24T00:00:00Z")), ["/ends_at"]);
    }
}
