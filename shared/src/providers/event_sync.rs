//! Webhooks of a self-hosted Jitsi, as jitsi-contrib's `event_sync` component for Prosody sends them
//! (its README shows the shapes). It signs nothing and numbers nothing: who knows the secret of the
//! `Authorization` header may send, and a repeat is recognised by its content.
//!
//! Our own `deploy/prosody/mod_webhook.lua` uses the same fields, with milliseconds, and adds `id`, `start_id`, `sequence`,
//! `dropped` and `meeting_id`; it signs, see `standard_webhooks`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    EventKind, Occupancy, ProviderEvent, WebhookError,
    fields::{fingerprint, flag, name, room, text, time},
    header,
};

/// Local parts of JIDs that belong to Jitsi's machines: event_sync skips only `focus`. People have
/// random UUIDs.
const MACHINES: [&str; 8] = ["focus", "jvb", "jibri", "jibria", "jibrib", "recorder", "transcriber", "jigasi"];
/// jicofo tries out Prosody with rooms of this name.
const HEALTH_CHECK: &str = "__jicofo-health-check";

pub struct EventSync {
    /// SHA-256 of the secret, so that comparing takes the same time for any length.
    secret: Option<[u8; 32]>,
}

impl EventSync {
    pub fn new(secret: &str) -> Self {
        let secret = secret.trim();
        Self { secret: (!secret.is_empty()).then(|| Sha256::digest(secret).into()) }
    }

    /// `Authorization: Bearer <secret>`, as set in event_sync's `api_headers`.
    pub fn verify(&self, headers: &[(String, Vec<u8>)]) -> Result<(), WebhookError> {
        let expected = self.secret.as_ref().ok_or(WebhookError::NotConfigured)?;
        let given = header(headers, "authorization")
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, secret)| secret.trim())
            .ok_or(WebhookError::BadSignature)?;
        let given: [u8; 32] = Sha256::digest(given).into();
        if bool::from(given.ct_eq(expected)) { Ok(()) } else { Err(WebhookError::BadSignature) }
    }
}

/// Reads one event; `received` is when an event without a time of its own happened.
pub fn parse(body: &Value, received: DateTime<Utc>) -> Result<ProviderEvent, WebhookError> {
    let event_type = text(body, "event_name").ok_or_else(|| malformed("event_name is missing"))?;
    let room = text(body, "room_name").or_else(|| text(body, "room_jid")).map(|r| room(&r)).unwrap_or_default();
    let (occurred_at, kind) = match event_type.as_str() {
        "muc-room-created" => {
            (time(body, "created_at"), EventKind::RoomCreated { meeting_id: text(body, "meeting_id") })
        }
        "muc-room-destroyed" => (time(body, "destroyed_at"), EventKind::RoomDestroyed { occupants: occupants(body) }),
        "muc-occupant-joined" => {
            occupant_event(body, "joined_at", |connection, person, name| EventKind::Joined { connection, person, name })
        }
        "muc-occupant-left" => {
            occupant_event(body, "left_at", |connection, person, name| EventKind::Left { connection, person, name })
        }
        _ => (None, EventKind::Other),
    };
    let kind =
        if room.starts_with(HEALTH_CHECK) || is_life_of_a_breakout(body, &kind) { EventKind::Other } else { kind };
    if kind != EventKind::Other && room.is_empty() {
        return Err(malformed("room_name is missing"));
    }
    let occurred_at = match (occurred_at, &kind) {
        (Some(at), _) => at,
        (None, EventKind::Other) => received,
        (None, _) => return Err(malformed("the event's time is missing")),
    };
    let key = text(body, "id").unwrap_or_else(|| fingerprint(body));
    Ok(ProviderEvent { key, event_type, occurred_at, room, kind })
}

/// A breakout comes and goes while the class goes on; its people's joined and left do count.
fn is_life_of_a_breakout(body: &Value, kind: &EventKind) -> bool {
    flag(body, "is_breakout") && matches!(kind, EventKind::RoomCreated { .. } | EventKind::RoomDestroyed { .. })
}

fn occupant_event(
    body: &Value,
    time_field: &str,
    make: impl FnOnce(String, Option<String>, String) -> EventKind,
) -> (Option<DateTime<Utc>>, EventKind) {
    let Some(occupant) = body.get("occupant") else { return (None, EventKind::Other) };
    let at = time(occupant, time_field);
    match person_connection(occupant) {
        Some(connection) => (at, make(connection, text(occupant, "id"), name(occupant))),
        // A machine; or somebody who came before event_sync knew the room, and leaves without a name.
        None => (at, EventKind::Other),
    }
}

/// The full JID, unless it is a machine's or missing.
fn person_connection(occupant: &Value) -> Option<String> {
    let jid = text(occupant, "occupant_jid")?;
    let node = jid.split('@').next().unwrap_or_default();
    (!MACHINES.contains(&node.to_ascii_lowercase().as_str())).then_some(jid)
}

/// Prosody's encoder writes an empty list as `{}`: anything but a list holds nobody.
fn occupants(body: &Value) -> Vec<Occupancy> {
    let Some(Value::Array(all)) = body.get("all_occupants") else { return Vec::new() };
    all.iter()
        .filter_map(|occupant| {
            Some(Occupancy {
                connection: person_connection(occupant)?,
                person: text(occupant, "id"),
                name: name(occupant),
                joined_at: time(occupant, "joined_at")?,
                left_at: time(occupant, "left_at"),
            })
        })
        .collect()
}

fn malformed(what: &str) -> WebhookError {
    WebhookError::Malformed(what.to_owned())
}
