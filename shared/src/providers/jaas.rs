//! JaaS (Jitsi as a service, 8x8): the form of its keys, and the signature and events of its webhooks, after 8x8's
//! developer documentation, "The Jitsi JWT", "Webhooks payload" and "Check the webhook signatures".

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::EncodingKey;
use serde_json::Value;
use sha2::Sha256;

use super::{
    EventKind, ProviderEvent, TOLERANCE, WebhookError,
    fields::{epoch, fingerprint, flag, name, number, room, text, time},
    header,
};

/// `vpaas-magic-cookie-` and hexadecimal digits.
pub fn is_app_id(text: &str) -> bool {
    let id = text.strip_prefix("vpaas-magic-cookie-").unwrap_or_default();
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a key's id is `<AppID>/<key>` of this AppID.
pub fn is_key_of(key_id: &str, app_id: &str) -> bool {
    key_id.split_once('/').is_some_and(|(app, key)| {
        app == app_id && !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

/// An RSA private key in PEM form; `None` when it is none.
pub fn key(pem: &str) -> Option<EncodingKey> {
    EncodingKey::from_rsa_pem(pem.as_bytes()).ok()
}

pub struct Jaas {
    /// The endpoint's secret as a whole, with its `whsec_`.
    secret: String,
}

impl Jaas {
    pub fn new(secret: &str) -> Self {
        Self { secret: secret.trim().to_owned() }
    }

    /// `X-Jaas-Signature: t=<time>,v1=<base64>[,v1=…]`: HMAC-SHA256 of `<t as received>.<raw body>`.
    pub fn verify(&self, headers: &[(String, Vec<u8>)], body: &[u8], now: DateTime<Utc>) -> Result<(), WebhookError> {
        if self.secret.is_empty() {
            return Err(WebhookError::NotConfigured);
        }
        let value = header(headers, "x-jaas-signature").ok_or(WebhookError::BadSignature)?;
        let (time, signatures) = parts(value).ok_or(WebhookError::BadSignature)?;
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).map_err(|_| WebhookError::NotConfigured)?;
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(body);
        // `verify_slice` compares in constant time. All are tried, so that the time does not tell which fits.
        let fitting = signatures
            .iter()
            .filter_map(|signature| BASE64_STANDARD.decode(signature).ok())
            .filter(|signature| mac.clone().verify_slice(signature).is_ok())
            .count();
        if fitting == 0 {
            return Err(WebhookError::BadSignature);
        }
        // The documentation's example has seconds, one implementation reads milliseconds.
        let signed_at = time.parse().ok().and_then(epoch).ok_or(WebhookError::BadSignature)?;
        if (now - signed_at).abs() > TOLERANCE { Err(WebhookError::Stale) } else { Ok(()) }
    }
}

/// The time and all `v1` of a signature header; other schemes are ignored. Items are split at their
/// first `=`, since base64 may end in one.
fn parts(header: &str) -> Option<(&str, Vec<&str>)> {
    let mut time = None;
    let mut signatures = Vec::new();
    for (scheme, value) in header.split(',').filter_map(|item| item.trim().split_once('=')) {
        match scheme {
            "t" if time.is_some() => return None,
            "t" => time = Some(value),
            "v1" => signatures.push(value),
            _ => {}
        }
    }
    Some((time?, signatures))
}

/// Reads one event; `received` is when an event without a time of its own happened.
pub fn parse(body: &Value, received: DateTime<Utc>) -> Result<ProviderEvent, WebhookError> {
    let event_type = text(body, "eventType").ok_or_else(|| malformed("eventType is missing"))?;
    let data = body.get("data").unwrap_or(&Value::Null);
    let key = text(body, "idempotencyKey").unwrap_or_else(|| fingerprint(body));
    let kind = match event_type.as_str() {
        "ROOM_CREATED" | "ROOM_DESTROYED" if flag(data, "isBreakout") => EventKind::Other,
        "ROOM_CREATED" => EventKind::RoomCreated { meeting_id: text(body, "sessionId") },
        "ROOM_DESTROYED" => EventKind::RoomDestroyed { occupants: Vec::new() },
        "PARTICIPANT_JOINED" => {
            EventKind::Joined { connection: connection(data)?, person: text(data, "id"), name: name(data) }
        }
        "PARTICIPANT_LEFT" => {
            EventKind::Left { connection: connection(data)?, person: text(data, "id"), name: name(data) }
        }
        "RECORDING_STARTED" => EventKind::RecordingStarted,
        "RECORDING_ENDED" => EventKind::RecordingEnded,
        "RECORDING_UPLOADED" => uploaded(data, &key)?,
        _ => EventKind::Other,
    };
    let room = text(body, "fqn").or_else(|| text(data, "conference")).map(|r| room(&r)).unwrap_or_default();
    if kind != EventKind::Other && room.is_empty() {
        return Err(malformed("fqn is missing"));
    }
    let occurred_at = match (time(body, "timestamp"), &kind) {
        (Some(at), _) => at,
        (None, EventKind::Other) => received,
        (None, _) => return Err(malformed("timestamp is missing")),
    };
    Ok(ProviderEvent { key, event_type, occurred_at, room, kind })
}

/// `participantJid` is in every published example, `participantId` in none.
fn connection(data: &Value) -> Result<String, WebhookError> {
    text(data, "participantJid")
        .or_else(|| text(data, "participantId"))
        .ok_or_else(|| malformed("data.participantJid is missing"))
}

fn uploaded(data: &Value, key: &str) -> Result<EventKind, WebhookError> {
    let url = text(data, "preAuthenticatedLink")
        .filter(|url| url.starts_with("https://") || url.starts_with("http://"))
        .ok_or_else(|| malformed("data.preAuthenticatedLink is missing"))?;
    Ok(EventKind::RecordingUploaded {
        external_id: text(data, "recordingSessionId").unwrap_or_else(|| key.to_owned()),
        url,
        // Beyond a week it is nonsense: JaaS records six hours at most.
        duration_seconds: number(data, "durationSec")
            .filter(|seconds| (0.0..604_800.0).contains(seconds))
            .map(|seconds| seconds.round() as i64),
        from: time(data, "startTimestamp"),
        to: time(data, "endTimestamp"),
    })
}

fn malformed(what: &str) -> WebhookError {
    WebhookError::Malformed(what.to_owned())
}
