//! Webhooks of bbb-webhooks: who may send them, and what they mean.
//!
//! Read in bbb-webhooks (`callback-emitter.js`, `event.js`, `event-processor.js`), and seen from its versions 2.6 to 3.5. One
//! webhook holds an array of events; each is stored alone, as `{"data": …}`, without what nobody needs of it.

use aws_lc_rs::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use url::form_urlencoded;

use super::{
    super::{
        Delivery, EventKind, ProviderEvent, Received, WebhookError,
        fields::{fingerprint, flag, has_nul, name, text, time},
        header,
    },
    Bbb,
    callback_events::{ANALYTICS_CALLBACK, END_CALLBACK, NOTHING_RECORDED_CALLBACK, RECORDING_READY_CALLBACK, stays},
    lists::{external_id, is_file},
};

/// A hook that the server's own configuration names is tried for ever, with the first attempt's time: what comes after a
/// failure of days is still wanted, and to refuse it would hold up all that waits behind it.
const OLDEST: TimeDelta = TimeDelta::days(7);
/// Events in one webhook; bbb-webhooks 3 sends one.
const MOST_EVENTS: usize = 1000;

/// What hooks are registered for: all that changes a session, and nothing of what people say to each other.
pub const EVENTS: &[&str] = &[
    "meeting-created",
    "meeting-ended",
    "meeting-recording-started",
    "meeting-recording-stopped",
    "rap-archive-ended",
    "rap-deleted",
    "rap-publish-ended",
    "rap-published",
    "rap-unpublished",
    "user-joined",
    "user-left",
];

/// Fields that let somebody in, or say where somebody is: not kept.
const NOT_KEPT: &[&str] = &[
    "moderator-pass",
    "viewer-pass",
    "session-token",
    "ip-address",
    "user-agent",
    "referer",
    "dial-number",
    "voice-conf",
];

/// What is signed along with the address, by version of bbb-webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covered {
    /// The body, in one of two ways: 3.4 and later, and up to 2.6.
    Body,
    /// Also nothing but the address (3.0.0 to 3.3.1): whoever has seen one such webhook can make others.
    Address,
}

impl Covered {
    pub const ALL: &[&str] = &["body", "address"];

    /// `None` when it is none of [`Self::ALL`].
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "body" => Some(Self::Body),
            "address" => Some(Self::Address),
            _ => None,
        }
    }
}

impl Bbb {
    /// Judges a webhook, and takes it apart.
    pub fn verify(&self, delivery: &Delivery<'_>) -> Result<Vec<Received>, WebhookError> {
        let form = Form::read(delivery.body);
        if !self.is_ours(delivery, &form) {
            return Err(WebhookError::BadSignature);
        }
        if let Some(sent) = form.timestamp.parse().ok().and_then(DateTime::from_timestamp_millis)
            && (delivery.now - sent).abs() > OLDEST
        {
            return Err(WebhookError::Stale);
        }
        // One that cannot be read is kept and ignored: a refusal would be tried again, and then cost the hook itself.
        let received = |body: Value| {
            let event = parse(&body, delivery.now).unwrap_or_else(|_| unreadable(&body, delivery.now));
            Received { event, body }
        };
        let events: Vec<_> = form.events()?.into_iter().map(received).collect();
        if events.is_empty() { Err(malformed("there is no event in it")) } else { Ok(events) }
    }

    fn is_ours(&self, delivery: &Delivery<'_>, form: &Form) -> bool {
        // `auth2_0` of bbb-webhooks: the secret itself.
        if let Some(value) = header(delivery.headers, "authorization") {
            let Some(token) = value.strip_prefix("Bearer ") else { return false };
            let fits = |secret: &str| bool::from(token.trim().as_bytes().ct_eq(secret.as_bytes()));
            return self.secrets().filter(|secret| fits(secret)).count() > 0;
        }
        let pairs = || delivery.query.split('&').filter(|pair| !pair.is_empty());
        let mut checksums = pairs().filter_map(|pair| pair.strip_prefix("checksum="));
        let (Some(given), None) = (checksums.next(), checksums.next()) else { return false };
        let (Some(algorithm), Some(url)) = (algorithm(given), delivery.callback_url) else { return false };
        let rest: Vec<&str> = pairs().filter(|pair| !pair.starts_with("checksum=")).collect();
        let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        // Our own registration ends in a slash; a person's may not.
        let urls = [format!("{url}{rest}"), format!("{}{rest}", url.trim_end_matches('/'))];
        let older = json_as_javascript_writes_it(form);
        let bodies = [delivery.body, older.as_bytes(), b"{}"];
        let bodies = match self.covered() {
            Covered::Body => &bodies[..2],
            Covered::Address => &bodies[..],
        };
        // All are tried, so that the time does not tell which fits.
        let mut fits = 0;
        for secret in self.secrets() {
            for (url, body) in urls.iter().flat_map(|url| bodies.iter().map(move |body| (url, body))) {
                let mut hash = digest::Context::new(algorithm);
                for part in [url.as_bytes(), body, secret.as_bytes()] {
                    hash.update(part);
                }
                fits += u32::from(bool::from(hex::encode(hash.finish()).as_bytes().ct_eq(given.as_bytes())));
            }
        }
        fits > 0
    }
}

/// The hash is told by its length (`hookChecksumAlgorithm`, SHA-1 where nobody chose).
fn algorithm(checksum: &str) -> Option<&'static Algorithm> {
    match checksum.len() {
        40 => Some(&SHA1_FOR_LEGACY_USE_ONLY),
        64 => Some(&SHA256),
        96 => Some(&SHA384),
        128 => Some(&SHA512),
        _ => None,
    }
}

/// What bbb-webhooks up to 2.6 signs: `JSON.stringify({event, timestamp, domain})`.
fn json_as_javascript_writes_it(form: &Form) -> String {
    let [event, timestamp, domain] =
        [&form.event, &form.timestamp, &form.domain].map(|text| Value::from(text.as_str()).to_string());
    format!("{{\"event\":{event},\"timestamp\":{timestamp},\"domain\":{domain}}}")
}

/// The room that a webhook names which nobody has judged yet.
pub fn unverified_room(body: &[u8]) -> Option<String> {
    let event = Form::read(body).events().ok()?.into_iter().next()?;
    Some(parse(&event, DateTime::UNIX_EPOCH).ok()?.room)
}

/// The fields of the body, decoded.
#[derive(Default)]
struct Form {
    domain: String,
    event: String,
    timestamp: String,
}

impl Form {
    fn read(body: &[u8]) -> Self {
        let mut form = Self::default();
        // With `auth2_0`, the configuration of bbb-webhooks says, the array may come alone.
        if body.trim_ascii_start().starts_with(b"[") {
            form.event = String::from_utf8_lossy(body).into_owned();
            return form;
        }
        for (name, value) in form_urlencoded::parse(body) {
            match &*name {
                "domain" => form.domain = value.into_owned(),
                "event" => form.event = value.into_owned(),
                "timestamp" => form.timestamp = value.into_owned(),
                _ => {}
            }
        }
        form
    }

    /// Each one as it is kept.
    fn events(&self) -> Result<Vec<Value>, WebhookError> {
        // The parser refuses nesting deeper than 128, so that what follows may recurse.
        let events = match serde_json::from_str(&self.event).map_err(|e| WebhookError::Malformed(e.to_string()))? {
            Value::Array(events) => events,
            event @ Value::Object(_) => vec![event],
            _ => return Err(malformed("`event` is no array of events")),
        };
        if events.len() > MOST_EVENTS {
            return Err(malformed("it holds more events than anybody sends at once"));
        }
        Ok(events.into_iter().map(kept).collect())
    }
}

/// An event without what is not kept, and without U+0000, which cannot be: people may have it in their names.
fn kept(mut event: Value) -> Value {
    if has_nul(&event) {
        event = without_nul(event);
    }
    for part in ["meeting", "user"] {
        if let Some(Value::Object(fields)) = event.pointer_mut(&format!("/data/attributes/{part}")) {
            fields.retain(|name, _| !NOT_KEPT.contains(&name.as_str()));
        }
    }
    event
}

fn without_nul(value: Value) -> Value {
    let clean = |text: String| text.replace('\0', "\u{fffd}");
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (clean(name), without_nul(value))).collect(),
        other => other,
    }
}

fn unreadable(body: &Value, received: DateTime<Utc>) -> ProviderEvent {
    ProviderEvent {
        key: fingerprint(body),
        event_type: text(&body["data"], "id").unwrap_or_else(|| "unreadable".to_owned()),
        occurred_at: received,
        room: String::new(),
        kind: EventKind::Other,
    }
}

/// Reads one event; `received` is when an event without a time of its own happened.
pub fn parse(body: &Value, received: DateTime<Utc>) -> Result<ProviderEvent, WebhookError> {
    let data = body.get("data").unwrap_or(&Value::Null);
    let event_type = text(data, "id").ok_or_else(|| malformed("data.id is missing"))?;
    let attributes = data.get("attributes").unwrap_or(&Value::Null);
    let meeting = attributes.get("meeting").unwrap_or(&Value::Null);
    let internal = text(meeting, "internal-meeting-id").or_else(|| text(attributes, "record-id"));
    let kind = kind(&event_type, attributes, meeting, internal.as_deref())?;
    // The name outside may be gone by the time a recording is ready: then it is the one inside that is known.
    let room = text(meeting, "external-meeting-id").or(internal).unwrap_or_default().to_lowercase();
    if kind != EventKind::Other && room.is_empty() {
        return Err(malformed("no meeting is named"));
    }
    let occurred_at = match (data.get("event").and_then(|event| time(event, "ts")), &kind) {
        (Some(at), _) => at,
        (None, EventKind::Other) => received,
        (None, _) => return Err(malformed("data.event.ts is missing")),
    };
    // The time of this account is our own: what it says is what makes a repeat one.
    let key = match event_type.as_str() {
        ANALYTICS_CALLBACK => fingerprint(attributes),
        _ => fingerprint(body),
    };
    Ok(ProviderEvent { key, event_type, occurred_at, room, kind })
}

fn kind(
    event_type: &str,
    attributes: &Value,
    meeting: &Value,
    internal: Option<&str>,
) -> Result<EventKind, WebhookError> {
    let user = attributes.get("user").unwrap_or(&Value::Null);
    Ok(match event_type {
        "meeting-created" if flag(meeting, "is-breakout") => EventKind::Other,
        "meeting-created" => EventKind::RoomCreated { meeting_id: internal.map(str::to_owned) },
        "meeting-ended" => match internal {
            Some(meeting) => EventKind::MeetingEnded { meeting: meeting.to_owned() },
            None => EventKind::RoomDestroyed { occupants: Vec::new() },
        },
        "user-joined" => {
            let (connection, person) = connection(user, internal)?;
            EventKind::Joined { connection, person, name: name(user) }
        }
        "user-left" => {
            let (connection, person) = connection(user, internal)?;
            EventKind::Left { connection, person, name: name(user) }
        }
        "meeting-recording-started" => EventKind::RecordingStarted,
        "meeting-recording-stopped" => EventKind::RecordingEnded,
        "rap-archive-ended" if attributes.get("recorded").is_some() && !flag(attributes, "recorded") => {
            EventKind::NothingRecorded
        }
        "rap-publish-ended" if attributes.get("success").is_none() || flag(attributes, "success") => {
            published(attributes, internal)
        }
        "rap-published" | "rap-unpublished" | "rap-deleted" => EventKind::RecordingsChanged,
        END_CALLBACK => EventKind::MeetingInDoubt,
        NOTHING_RECORDED_CALLBACK => EventKind::NothingRecorded,
        RECORDING_READY_CALLBACK => EventKind::RecordingsChanged,
        ANALYTICS_CALLBACK => EventKind::EndReport { stays: stays(attributes, internal) },
        _ => EventKind::Other,
    })
}

/// Connection and person. A connection belongs to one life of the meeting: what ends that, ends it. Who came without an
/// id of ours has the server's own as both.
fn connection(user: &Value, internal_meeting: Option<&str>) -> Result<(String, Option<String>), WebhookError> {
    let internal = text(user, "internal-user-id").ok_or_else(|| malformed("user.internal-user-id is missing"))?;
    let person = text(user, "external-user-id").filter(|person| *person != internal);
    Ok((connection_of(internal_meeting.unwrap_or_default(), &internal), person))
}

/// `<life of the meeting>/<within it>`.
pub fn connection_of(internal_meeting: &str, within: &str) -> String {
    format!("{}{within}", connections_of(internal_meeting))
}

/// With what the connections of one life of a meeting begin.
pub fn connections_of(internal_meeting: &str) -> String {
    format!("{internal_meeting}/")
}

/// A form of a recording is there: where a file is told, that one; else the server is to be asked.
fn published(attributes: &Value, record: Option<&str>) -> EventKind {
    let recording = attributes.get("recording").unwrap_or(&Value::Null);
    let playback = recording.get("playback").unwrap_or(&Value::Null);
    let record = text(attributes, "record-id").or_else(|| record.map(str::to_owned));
    let url = text(playback, "link").filter(|url| is_file(url));
    let (Some(record), Some(url), Some(format)) = (record, url, text(playback, "format")) else {
        return EventKind::RecordingsChanged;
    };
    let from = time(recording, "start-time");
    let to = time(recording, "end-time");
    let stretch = from.zip(to).map(|(from, to)| (to - from).num_seconds());
    EventKind::RecordingUploaded {
        external_id: external_id(&record, &format),
        url,
        duration_seconds: stretch.filter(|seconds| (1..604_800).contains(seconds)),
        from,
        to,
    }
}

pub(super) fn malformed(what: &str) -> WebhookError {
    WebhookError::Malformed(what.to_owned())
}
