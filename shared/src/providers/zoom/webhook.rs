//! Webhooks of Zoom: their signature, the question that proves an address, and the events that matter ("Using webhooks",
//! "Meetings events"). Most fields are optional in practice, and an event that lacks what it needs changes nothing: Zoom would
//! send again what is refused.
//!
//! - **One run of a meeting has a UUID**, one number has many runs. A connection is called `<uuid>/<user_id>`: `user_id` is
//!   new with each join.
//! - **Who waits is not there.** Coming out of the waiting room is a join of its own.
//! - **Breakout rooms are part of the class**: being there is presence. Who is nobody in particular is counted in
//!   the main room alone, or a class would have strangers that nobody can tell from one another.
//! - **Tokens, passwords and links are not kept**: files are fetched with a token of the app's own.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::super::{
    Alias, Delivery, EventKind, ProviderEvent, Received, Verified, WebhookError,
    fields::{epoch, fingerprint, text, time},
    header, json,
};

/// Zoom tries again after 5, 30 and 90 minutes, and does not say whether it signs anew. Repeats are recognised.
const TOLERANCE: chrono::TimeDelta = chrono::TimeDelta::hours(3);
const URL_VALIDATION: &str = "endpoint.url_validation";
/// Names longer than this are cut: they are shown, not compared.
const NAME_CHARS: usize = 200;
/// Longer texts are no ids; they would not fit where ids are kept.
const ID_BYTES: usize = 256;

/// The secret token of the app's event subscriptions.
#[derive(Debug, Clone)]
pub struct Webhooks {
    secret: crate::secrets::Secret,
}

impl Webhooks {
    pub fn new(secret: &str) -> Self {
        Self { secret: crate::secrets::Secret::new(secret.trim()) }
    }

    /// `x-zm-signature: v0=<hex>`: HMAC-SHA256 of `v0:<x-zm-request-timestamp>:<raw body>`.
    pub fn verify(&self, delivery: &Delivery<'_>) -> Result<Verified, WebhookError> {
        let value = |name| header(delivery.headers, name).ok_or(WebhookError::BadSignature);
        let mut mac = self.hmac()?;
        let (time, signature) = (value("x-zm-request-timestamp")?, value("x-zm-signature")?);
        for part in [b"v0:".as_slice(), time.as_bytes(), b":", delivery.body] {
            mac.update(part);
        }
        let given = signature.strip_prefix("v0=").and_then(|hex| hex::decode(hex).ok());
        // In constant time.
        mac.verify_slice(&given.ok_or(WebhookError::BadSignature)?).map_err(|_| WebhookError::BadSignature)?;
        let signed_at = time.parse().ok().and_then(epoch).ok_or(WebhookError::BadSignature)?;
        if (delivery.now - signed_at).abs() > TOLERANCE {
            return Err(WebhookError::Stale);
        }
        let mut body = json(delivery.body)?;
        if body["event"] == URL_VALIDATION {
            return self.prove(&body);
        }
        forget_secrets(&mut body);
        let received = |body: Value| Ok(Received { event: parse(&body, delivery.now)?, body });
        Ok(Verified::Events(one_by_one(body).into_iter().map(received).collect::<Result<_, _>>()?))
    }

    /// Shows that the secret is known here.
    fn prove(&self, body: &Value) -> Result<Verified, WebhookError> {
        let plain = body["payload"]["plainToken"].as_str();
        let plain = plain.ok_or_else(|| WebhookError::Malformed("payload.plainToken is missing".to_owned()))?;
        let mut mac = self.hmac()?;
        mac.update(plain.as_bytes());
        let proof = hex::encode(mac.finalize().into_bytes());
        Ok(Verified::Answer(json!({"plainToken": plain, "encryptedToken": proof})))
    }

    fn hmac(&self) -> Result<Hmac<Sha256>, WebhookError> {
        let secret = self.secret.expose();
        if secret.is_empty() {
            return Err(WebhookError::NotConfigured);
        }
        Hmac::new_from_slice(secret.as_bytes()).map_err(|_| WebhookError::NotConfigured)
    }
}

/// Takes out what lets somebody in, wherever it stands; it is not needed, and the same event may come with another one.
fn forget_secrets(value: &mut Value) {
    const SECRETS: [&str; 6] =
        ["download_token", "join_url", "start_url", "password", "recording_play_passcode", "pstn_password"];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !SECRETS.contains(&name.as_str()));
            fields.values_mut().for_each(forget_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_secrets),
        _ => {}
    }
}

/// One body for each file of a recording that is kept; any other body as it is.
fn one_by_one(body: Value) -> Vec<Value> {
    if !text(&body, "event").is_some_and(|event| is_of_files(&event)) {
        return vec![body];
    }
    let kept = super::kept(&body["payload"]["object"]);
    if kept.is_empty() {
        return vec![body];
    }
    let with = |file: Value| {
        let mut alone = body.clone();
        alone["payload"]["object"]["recording_files"] = json!([file]);
        alone
    };
    kept.into_iter().map(with).collect()
}

fn is_of_files(event: &str) -> bool {
    matches!(event, "recording.completed" | "recording.transcript_completed")
}

/// What a body that nobody has judged yet says of where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub account_id: Option<String>,
    pub meeting: Option<String>,
}

/// `None` for a body that belongs nowhere: every event names its account, the question that proves an address alone does not.
pub fn claim(body: &[u8]) -> Option<Claim> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let sane = |object: &Value, field| text(object, field).filter(|id| id.len() <= ID_BYTES && !id.contains('\0'));
    let account_id = sane(&body["payload"], "account_id");
    let is_question = body["event"] == URL_VALIDATION;
    (account_id.is_some() || is_question).then(|| Claim { account_id, meeting: sane(&body["payload"]["object"], "id") })
}

/// Reads one event; `received` is when an event without a time of its own happened. The room is the meeting's number.
pub fn parse(body: &Value, received: DateTime<Utc>) -> Result<ProviderEvent, WebhookError> {
    let event_type = text(body, "event").ok_or_else(|| WebhookError::Malformed("event is missing".to_owned()))?;
    let object = &body["payload"]["object"];
    let told_at = time(body, "event_ts").unwrap_or(received);
    let room = text(object, "id").filter(|id| id.len() <= ID_BYTES).unwrap_or_default();
    let (kind, at) = match kind(&event_type, object) {
        Some((kind, at)) if !room.is_empty() => (kind, at.unwrap_or(told_at)),
        _ => (EventKind::Other, told_at),
    };
    Ok(ProviderEvent { key: fingerprint(body), event_type, occurred_at: at, room, kind })
}

/// What happened, and when, where the event says so itself.
fn kind(event: &str, object: &Value) -> Option<(EventKind, Option<DateTime<Utc>>)> {
    let participant = &object["participant"];
    let uuid = || text(object, "uuid").or_else(|| text(object, "id")).unwrap_or_default();
    let named = |connection: Option<String>| {
        let connection = connection?;
        let person = text(participant, "customer_key").filter(|key| key.len() <= ID_BYTES);
        Some((connection, person, person_name(participant)))
    };
    let joined = |connection, at| {
        let (connection, person, name) = named(connection)?;
        Some((EventKind::Joined { connection, person, name }, moment(participant, at)))
    };
    let left = |connection, at| {
        let (connection, person, name) = named(connection)?;
        Some((EventKind::Left { connection, person, name }, moment(participant, at)))
    };
    let main = || connection(&uuid(), participant);
    match event {
        "meeting.started" => {
            Some((EventKind::RoomCreated { meeting_id: text(object, "uuid") }, moment(object, "start_time")))
        }
        "meeting.ended" => Some((EventKind::RoomDestroyed { occupants: Vec::new() }, moment(object, "end_time"))),
        "meeting.deleted" => Some((EventKind::MeetingDeleted, None)),
        "meeting.participant_joined" => joined(main(), "join_time"),
        "meeting.participant_left" => left(main(), "leave_time"),
        "meeting.participant_put_in_waiting_room" => left(main(), "date_time"),
        "meeting.participant_joined_breakout_room" => joined(breakout(&uuid(), object), "join_time"),
        "meeting.participant_left_breakout_room" => left(breakout(&uuid(), object), "leave_time"),
        "recording.started" | "recording.resumed" => {
            Some((EventKind::RecordingStarted, moment(&object["recording_file"], "recording_start")))
        }
        "recording.stopped" => Some((EventKind::RecordingEnded, moment(&object["recording_file"], "recording_end"))),
        event if is_of_files(event) => {
            super::files(object).into_iter().next().map(|file| (EventKind::FileRecorded(file), None))
        }
        _ => None,
    }
}

/// What a connection to a run is called; reports tell of it by the same numbers.
pub fn connection(uuid: &str, participant: &Value) -> Option<String> {
    let id = text(participant, "user_id").or_else(|| text(participant, "participant_uuid"))?;
    Some(format!("{uuid}/{id}")).filter(|connection| connection.len() <= ID_BYTES)
}

/// In a breakout room; `None` for somebody who cannot be told from other strangers.
fn breakout(uuid: &str, object: &Value) -> Option<String> {
    let participant = &object["participant"];
    let is_stranger = text(participant, "customer_key").is_none() && aliases(participant, None).is_empty();
    let room = text(object, "breakout_room_uuid").filter(|_| !is_stranger)?;
    connection(&format!("{uuid}/{room}"), participant)
}

/// What else an event names somebody as, the surest first.
pub fn event_aliases(body: &Value) -> Vec<Alias> {
    let object = &body["payload"]["object"];
    aliases(&object["participant"], text(object, "host_id").as_deref())
}

/// The same for a participant, or a line of a report.
pub fn aliases(participant: &Value, host_id: Option<&str>) -> Vec<Alias> {
    let is_host = ["participant_user_id", "id"]
        .into_iter()
        .any(|field| host_id.is_some() && text(participant, field).as_deref() == host_id);
    let registrant = text(participant, "registrant_id").map(Alias::Registrant);
    let email = text(participant, "email").or_else(|| text(participant, "user_email"));
    let email = email.map(|email| Alias::Email(email.to_lowercase()));
    registrant.into_iter().chain(is_host.then_some(Alias::Host)).chain(email).collect()
}

/// What people see.
pub fn person_name(participant: &Value) -> String {
    let name = text(participant, "user_name").or_else(|| text(participant, "name")).unwrap_or_default();
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect()
}

/// A time of ISO 8601, or an epoch.
pub fn moment(object: &Value, field: &str) -> Option<DateTime<Utc>> {
    let told = text(object, field)?;
    let parsed = DateTime::parse_from_rfc3339(&told).ok().map(|at| at.with_timezone(&Utc));
    // Years beyond four digits are no times, and Postgres's range is smaller than chrono's.
    parsed.filter(|at| (1970..10_000).contains(&chrono::Datelike::year(at))).or_else(|| time(object, field))
}
