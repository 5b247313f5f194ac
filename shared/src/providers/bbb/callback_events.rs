//! What comes to the addresses that `create` names (see `callbacks`), kept in the shape of an event of bbb-webhooks.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    super::{
        Occupancy, Received, WebhookError,
        fields::{has_nul, name, text, time},
    },
    webhook::{connection_of, malformed, parse},
};

/// The meeting is over, says nobody in particular.
pub(super) const END_CALLBACK: &str = "end-callback";
pub(super) const NOTHING_RECORDED_CALLBACK: &str = "end-callback-nothing-recorded";
pub(super) const RECORDING_READY_CALLBACK: &str = "recording-ready-callback";
pub(super) const ANALYTICS_CALLBACK: &str = "analytics-callback";

/// What the server says when a meeting ends: that, and whether anybody pressed the button that records (`recordingmarks`).
pub fn end_callback(room: &str, marks: Option<bool>, now: DateTime<Utc>) -> Result<Vec<Received>, WebhookError> {
    let mut told = vec![callback(END_CALLBACK, room, json!({}), now)?];
    if marks == Some(false) {
        told.push(callback(NOTHING_RECORDED_CALLBACK, room, json!({}), now)?);
    }
    Ok(told)
}

pub fn recording_ready(room: &str, record: &str, now: DateTime<Utc>) -> Result<Vec<Received>, WebhookError> {
    Ok(vec![callback(RECORDING_READY_CALLBACK, room, json!({"record-id": record}), now)?])
}

/// The learning analytics, as they came.
pub fn analytics(room: &str, body: &Value, now: DateTime<Utc>) -> Result<Vec<Received>, WebhookError> {
    let attendees: Vec<Value> = body.pointer("/data/attendees").and_then(Value::as_array).into_iter().flatten().map(|one| {
        // What people wrote, said and voted is nobody's business here.
        let of = |field: &str| one.get(field).cloned().unwrap_or_default();
        json!({"ext_user_id": of("ext_user_id"), "name": of("name"), "joins": of("joins"), "leaves": of("leaves"), "sessions": of("sessions")})
    }).collect();
    let finish = body.pointer("/data/finish").cloned().unwrap_or_default();
    let internal = text(body, "internal_meeting_id");
    let mut told = json!({"finish": finish, "attendees": attendees});
    if let Some(internal) = internal {
        told["meeting"]["internal-meeting-id"] = internal.into();
    }
    Ok(vec![callback(ANALYTICS_CALLBACK, room, told, now)?])
}

fn callback(id: &str, room: &str, mut attributes: Value, now: DateTime<Utc>) -> Result<Received, WebhookError> {
    attributes["meeting"]["external-meeting-id"] = room.into();
    let body = json!({"data": {"type": "callback", "id": id, "attributes": attributes, "event": {"ts": now.timestamp_millis()}}});
    if has_nul(&body) {
        return Err(malformed("it holds U+0000, which cannot be stored"));
    }
    Ok(Received { event: parse(&body, now)?, body })
}

/// Who was there, by the account after the end. Times are text there, in one of several forms by version.
pub(super) fn stays(attributes: &Value, internal: Option<&str>) -> Vec<Occupancy> {
    let finish = attributes.get("finish").and_then(written_time);
    let mut stays = Vec::new();
    for one in attributes.get("attendees").and_then(Value::as_array).into_iter().flatten() {
        let Some(person) = text(one, "ext_user_id").filter(|id| !id.starts_with("w_")) else { continue };
        let times = |of: &Value, field: &str| -> Vec<DateTime<Utc>> {
            let mut times: Vec<_> =
                of.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(moment).collect();
            times.sort_unstable();
            times
        };
        let mut spans = Vec::new();
        // Where sessions are told, each is one connection; joins and leaves of a person in two tabs are mixed.
        let sessions: Vec<&Value> = match one.get("sessions") {
            Some(Value::Array(sessions)) => sessions.iter().collect(),
            Some(Value::Object(sessions)) => sessions.values().collect(),
            _ => Vec::new(),
        };
        for session in sessions {
            spans.extend(pairs(&times(session, "joins"), &times(session, "lefts"), finish));
        }
        if spans.is_empty() {
            spans = pairs(&times(one, "joins"), &times(one, "leaves"), finish);
        }
        stays.extend(spans.into_iter().enumerate().map(|(n, (joined_at, left_at))| Occupancy {
            connection: connection_of(internal.unwrap_or_default(), &format!("report:{n}:{person}")),
            person: Some(person.clone()),
            name: name(one),
            joined_at,
            left_at,
        }));
    }
    stays
}

/// Each join with the first leave behind it; the last one, without, lasts to the end.
fn pairs(
    joins: &[DateTime<Utc>],
    leaves: &[DateTime<Utc>],
    finish: Option<DateTime<Utc>>,
) -> Vec<(DateTime<Utc>, Option<DateTime<Utc>>)> {
    let mut leaves = leaves.iter().copied().peekable();
    let pair = |join: &DateTime<Utc>| {
        while leaves.next_if(|leave| leave < join).is_some() {}
        (*join, leaves.next().or(finish.filter(|finish| finish >= join)))
    };
    joins.iter().map(pair).collect()
}

fn moment(value: &Value) -> Option<DateTime<Utc>> {
    // Sessions hold their times as objects in some versions.
    match value {
        Value::Object(fields) => fields.get("timestamp").and_then(written_time),
        value => written_time(value),
    }
}

fn written_time(value: &Value) -> Option<DateTime<Utc>> {
    let text = match value {
        Value::String(text) => text.trim(),
        value => return time(&json!({"at": value}), "at"),
    };
    let plain = |form| chrono::NaiveDateTime::parse_from_str(text, form).ok().map(|at| at.and_utc());
    let zoned = |form| DateTime::parse_from_str(text, form).ok().map(|at| at.to_utc());
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.to_utc())
        .or_else(|| zoned("%Y-%m-%d %H:%M:%S%.f %z"))
        .or_else(|| zoned("%Y-%m-%dT%H:%M:%S%.f%z"))
        .or_else(|| plain("%Y-%m-%d %H:%M:%S%.f UTC"))
        .or_else(|| plain("%Y-%m-%dT%H:%M:%S%.f"))
        .or_else(|| plain("%m/%d/%Y %H:%M:%S"))
}
