//! Webhooks of our own Prosody module. That it sends what is read here, `sandbox/tests/it/prosody` shows.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};

use super::*;

/// A secret, signature and body that the libraries of Standard Webhooks test themselves with.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SIGNED_AT: i64 = 1_614_265_330;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const BODY: &str = r#"{"test": 2432232314}"#;

type Headers = Vec<(String, Vec<u8>)>;

fn headers(id: &str, time: &str, signature: &str) -> Headers {
    [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)]
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .to_vec()
}

fn with_secret(secret: &str) -> Providers {
    Providers::new(&ProvidersConfig { jitsi_webhook_secret: secret.into(), ..config() })
}

/// Signs with a secret that is text, as most are.
fn sign(id: &str, time: &str, body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"event-sync-secret").unwrap();
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

fn send(body: &Value) -> Result<ProviderEvent, WebhookError> {
    let body = body.to_string();
    let headers = headers("a-7", "1000", &sign("a-7", "1000", &body));
    let events = judge(&Providers::new(&config()), WebhookSource::Jitsi, &headers, body.as_bytes(), at(1000));
    events.map(|mut events| events.remove(0))
}

fn joined() -> Value {
    json!({
        "id": "0d2f-7", "start_id": "0d2f", "sequence": 7, "dropped": 0,
        "event_name": "muc-occupant-joined", "room_name": "catchup", "room_jid": "catchup@conference.meet.example.org",
        "is_breakout": false, "meeting_id": "4fe1",
        "occupant": {"occupant_jid": "14f0@meet.example.org/OWhl", "id": "s1", "name": "Ayşe", "joined_at": 999.25},
    })
}

#[test]
fn a_signature_of_the_specification_is_taken() {
    let verify = |secret: &str, signature: &str, time: i64| {
        let headers = headers(ID, &SIGNED_AT.to_string(), signature);
        judge(&with_secret(secret), WebhookSource::Jitsi, &headers, BODY.as_bytes(), at(time))
    };
    // Rightly signed, but no event of Prosody.
    let right = Err(WebhookError::Malformed("event_name is missing".into()));
    assert_eq!(verify(SECRET, SIGNATURE, SIGNED_AT), right);
    assert_eq!(verify(SECRET, &format!("v1a,x v1,AAAA {SIGNATURE}"), SIGNED_AT), right, "several, one fits");
    assert_eq!(verify(SECRET, SIGNATURE, SIGNED_AT + 300), right);
    assert_eq!(verify(SECRET, SIGNATURE, SIGNED_AT + 301), Err(WebhookError::Stale));
    assert_eq!(verify(SECRET, SIGNATURE, SIGNED_AT - 301), Err(WebhookError::Stale));
    assert_eq!(verify("whsec_AAAA", SIGNATURE, SIGNED_AT), Err(WebhookError::BadSignature));
    assert_eq!(verify("", SIGNATURE, SIGNED_AT), Err(WebhookError::NotConfigured));
}

#[test]
fn whatever_is_changed_the_signature_no_longer_fits() {
    let body = joined().to_string();
    let right = sign("a-7", "1000", &body);
    let verify = |headers: &Headers, body: &str| {
        judge(&Providers::new(&config()), WebhookSource::Jitsi, headers, body.as_bytes(), at(1000))
    };
    assert!(verify(&headers("a-7", "1000", &right), &body).is_ok());
    let bare = right.strip_prefix("v1,").unwrap();
    for changed in [
        headers("a-8", "1000", &right),
        headers("a-7", "1001", &right),
        headers("a-7", "1000", ""),
        headers("a-7", "1000", bare),
        headers("a-7", "1000", &format!("v2,{bare}")),
        headers("a-7", "1000", &right)[1..].to_vec(),
        [headers("a-7", "1000", &right), headers("a-7", "1000", &right)].concat(),
        // The bearer's proof does not stand in for a signature that is there.
        [headers("a-7", "1000", "v1,AAAA"), vec![("authorization".into(), b"Bearer event-sync-secret".to_vec())]]
            .concat(),
    ] {
        assert_eq!(verify(&changed, &body), Err(WebhookError::BadSignature), "{changed:?}");
    }
    assert_eq!(verify(&headers("a-7", "1000", &right), &body.replace("s1", "s2")), Err(WebhookError::BadSignature));
}

#[test]
fn its_events_are_those_of_event_sync_with_an_id_milliseconds_and_the_meeting() {
    let read = send(&joined()).unwrap();
    let connection = "14f0@meet.example.org/OWhl".to_owned();
    let expected = EventKind::Joined { connection, person: Some("s1".into()), name: "Ayşe".into() };
    assert_eq!((read.key.as_str(), read.room.as_str(), read.kind), ("0d2f-7", "catchup", expected));
    assert_eq!(read.occurred_at, at(999) + TimeDelta::milliseconds(250));

    let mut created = joined();
    created["event_name"] = json!("muc-room-created");
    created["created_at"] = json!(999.0);
    assert_eq!(send(&created).unwrap().kind, EventKind::RoomCreated { meeting_id: Some("4fe1".into()) });
}
