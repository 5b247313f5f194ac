//! Webhooks of JaaS: the published example, and the shapes of its documentation.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};

use super::*;

/// Published by 8x8 with its signature.
const BODY: &str = r#"{"eventType":"PARTICIPANT_JOINED","sessionId":"9a441d60-ceaf-4eba-b0a8-a7d940a76e1b","timestamp":1632490058278,"fqn":"vpaas-magic-cookie-96f0941768964ab380ed0fbada7a502f/sampleappromanticshiftsstripas","idempotencyKey":"9e9e7420-562d-4659-8e22-44b9b22aaa49","customerId":"96f0941768964ab380ed0fbada7a502f","appId":"vpaas-magic-cookie-96f0941768964ab380ed0fbada7a502f","data":{"avatar":"","name":"Test User","id":"auth0|5f903d7a77f3b4006eb8e67d","participantJid":"fc1ea14a-9bca-4218-a563-8c627e803d56@8x8.vc","moderator":true,"email":"test.user@company.com"}}"#;
const SIGNATURE: &str = "xlzqEojlh4qb21sQpXYsWgyK8x9HVpz+RQldsv18rV0=";
const SIGNED_AT: i64 = 1_632_490_060;

fn verify(signature: &str, body: &[u8], now: DateTime<Utc>) -> Result<Vec<ProviderEvent>, WebhookError> {
    let headers = [
        ("content-type".to_owned(), b"application/json".to_vec()),
        ("x-jaas-signature".to_owned(), signature.as_bytes().to_vec()),
    ];
    judge(&Providers::new(&config()), WebhookSource::Jaas, &headers, body, now)
}

/// Signs with the formula of the documentation.
fn sign(time: &str, body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(config().jaas_webhook_secret.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    format!("t={time},v1={}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

fn send(body: &Value) -> Result<ProviderEvent, WebhookError> {
    let body = body.to_string();
    verify(&sign("1000", &body), body.as_bytes(), at(1000)).map(|mut events| events.remove(0))
}

#[test]
fn the_published_example_is_accepted_and_read() {
    let events = verify(&format!("t={SIGNED_AT},v1={SIGNATURE}"), BODY.as_bytes(), at(SIGNED_AT + 3)).unwrap();
    let expected = ProviderEvent {
        key: "9e9e7420-562d-4659-8e22-44b9b22aaa49".into(),
        event_type: "PARTICIPANT_JOINED".into(),
        occurred_at: Utc.timestamp_millis_opt(1_632_490_058_278).unwrap(),
        room: "sampleappromanticshiftsstripas".into(),
        kind: EventKind::Joined {
            connection: "fc1ea14a-9bca-4218-a563-8c627e803d56@8x8.vc".into(),
            person: Some("auth0|5f903d7a77f3b4006eb8e67d".into()),
            name: "Test User".into(),
        },
    };
    assert_eq!(events, std::slice::from_ref(&expected));
    let stored = serde_json::from_str(BODY).unwrap();
    assert_eq!(Providers::new(&config()).parse_stored(WebhookSource::Jaas, &stored).unwrap(), expected);
}

#[test]
fn several_signatures_and_other_schemes_are_allowed() {
    let now = at(SIGNED_AT);
    for header in [
        format!("t={SIGNED_AT},v1=AAAA,v1={SIGNATURE},v0=xyz"),
        format!("v1={SIGNATURE}, t={SIGNED_AT}"),
        format!("t={SIGNED_AT},v1=,v1=?,junk,v1={SIGNATURE}"),
    ] {
        assert!(verify(&header, BODY.as_bytes(), now).is_ok(), "{header}");
    }
    let milliseconds = sign("1632490060123", BODY);
    assert!(verify(&milliseconds, BODY.as_bytes(), now).is_ok());
}

#[test]
fn anything_else_is_a_bad_signature() {
    let now = at(SIGNED_AT);
    for header in [
        String::new(),
        format!("t={SIGNED_AT}"),
        format!("v1={SIGNATURE}"),
        format!("t={SIGNED_AT},v0={SIGNATURE}"),
        format!("t={SIGNED_AT},v1="),
        format!("t={},v1={SIGNATURE}", SIGNED_AT + 1),
        format!("t={SIGNED_AT},t={SIGNED_AT},v1={SIGNATURE}"),
        format!("t=0{SIGNED_AT},v1={SIGNATURE}"),
        sign("soon", BODY),
    ] {
        assert_eq!(verify(&header, BODY.as_bytes(), now), Err(WebhookError::BadSignature), "{header}");
    }
    let header = format!("t={SIGNED_AT},v1={SIGNATURE}");
    assert_eq!(verify(&header, format!("{BODY} ").as_bytes(), now), Err(WebhookError::BadSignature));
    for wrong in ["whsec_9635df66714a4cf088ee9d0979dd3bf7", "9635df66714a4cf088ee9d0979dd3bf6"] {
        let other = Providers::new(&ProvidersConfig { jaas_webhook_secret: wrong.into(), ..config() });
        let headers = [("x-jaas-signature".to_owned(), header.clone().into_bytes())];
        assert_eq!(judge(&other, WebhookSource::Jaas, &headers, BODY.as_bytes(), now), Err(WebhookError::BadSignature));
    }
    let providers = Providers::new(&config());
    assert_eq!(judge(&providers, WebhookSource::Jaas, &[], BODY.as_bytes(), now), Err(WebhookError::BadSignature));
    let unset = Providers::new(&ProvidersConfig { jaas_webhook_secret: String::new(), ..config() });
    assert_eq!(judge(&unset, WebhookSource::Jaas, &[], BODY.as_bytes(), now), Err(WebhookError::NotConfigured));
}

#[test]
fn every_changed_byte_is_noticed() {
    let header = format!("t={SIGNED_AT},v1={SIGNATURE}");
    for index in 0..BODY.len() {
        let mut body = BODY.as_bytes().to_vec();
        body[index] ^= 1;
        assert_eq!(verify(&header, &body, at(SIGNED_AT)), Err(WebhookError::BadSignature), "byte {index}");
    }
}

#[test]
fn a_replay_after_five_minutes_is_stale() {
    let header = format!("t={SIGNED_AT},v1={SIGNATURE}");
    for (seconds, ok) in [(300, true), (-300, true), (301, false), (-301, false), (604_800, false)] {
        let result = verify(&header, BODY.as_bytes(), at(SIGNED_AT) + TimeDelta::seconds(seconds));
        if ok {
            assert!(result.is_ok(), "{seconds}");
        } else {
            assert_eq!(result, Err(WebhookError::Stale), "{seconds}");
        }
    }
}

fn event(event_type: &str, data: Value) -> Value {
    json!({
        "eventType": event_type, "sessionId": "9a441d60", "timestamp": 1_632_490_058_278_i64,
        "fqn": "vpaas-magic-cookie-96f0/Algebra-1", "idempotencyKey": "k1", "data": data,
    })
}

#[test]
fn the_events_that_matter_are_read() {
    let uploaded = json!({
        "preAuthenticatedLink": "https://media.example.org/r.mp4?sig=x", "recordingSessionId": "rec-1",
        "durationSec": "61.6", "startTimestamp": 1_632_490_000_000_i64, "endTimestamp": 1_632_490_061_600_i64,
        "initiatorId": "u", "share": true, "participants": [{"id": "u", "name": "n"}],
    });
    for (body, kind) in [
        (event("ROOM_CREATED", json!({})), EventKind::RoomCreated { meeting_id: Some("9a441d60".into()) }),
        (event("ROOM_DESTROYED", json!({"isBreakout": false})), EventKind::RoomDestroyed { occupants: vec![] }),
        (event("ROOM_DESTROYED", json!({"isBreakout": "true", "breakoutRoomId": "b"})), EventKind::Other),
        (
            event("PARTICIPANT_LEFT", json!({"participantId": "p1", "id": "", "moderator": "true"})),
            EventKind::Left { connection: "p1".into(), person: None, name: String::new() },
        ),
        (event("RECORDING_STARTED", Value::Null), EventKind::RecordingStarted),
        (event("RECORDING_ENDED", json!({"conference": "x"})), EventKind::RecordingEnded),
        (
            event("RECORDING_UPLOADED", uploaded),
            EventKind::RecordingUploaded {
                external_id: "rec-1".into(),
                url: "https://media.example.org/r.mp4?sig=x".into(),
                duration_seconds: Some(62),
                from: Some(at(1_632_490_000)),
                to: Some(Utc.timestamp_millis_opt(1_632_490_061_600).unwrap()),
            },
        ),
        (event("SPEAKER_STATS", json!({"anything": [1, 2]})), EventKind::Other),
        (event("PARTICIPANT_JOINED_LOBBY", json!({"participantJid": "x"})), EventKind::Other),
    ] {
        let read = send(&body).unwrap();
        assert_eq!(read.kind, kind, "{body}");
        assert_eq!((read.room.as_str(), read.key.as_str()), ("algebra-1", "k1"));
    }
}

#[test]
fn without_its_own_id_an_event_is_known_by_its_content() {
    let mut body = event("ROOM_CREATED", json!({}));
    body.as_object_mut().unwrap().remove("idempotencyKey");
    let first = send(&body).unwrap();
    assert_eq!(first.key.len(), 64);
    assert_eq!(send(&body).unwrap().key, first.key);
    body["timestamp"] = json!(1_632_490_058_279_i64);
    assert_ne!(send(&body).unwrap().key, first.key);
}

#[test]
fn rightly_signed_nonsense_is_malformed() {
    let mut no_room = event("ROOM_DESTROYED", json!({}));
    no_room.as_object_mut().unwrap().remove("fqn");
    let mut no_time = event("ROOM_DESTROYED", json!({}));
    no_time["timestamp"] = json!(-1e300);
    for body in [
        json!({}),
        no_room,
        no_time,
        event("PARTICIPANT_JOINED", json!({})),
        event("PARTICIPANT_JOINED", json!("text")),
        event("RECORDING_UPLOADED", json!({"preAuthenticatedLink": "file:///etc/passwd"})),
    ] {
        assert!(matches!(send(&body), Err(WebhookError::Malformed(_))), "{body}");
    }
}

/// Payloads in the shapes of 8x8's documentation, one per kind of event.
const RECORDED: &[(&str, &str)] = &[
    ("CHAT_UPLOADED", include_str!("jaas/chat_uploaded.json")),
    ("LIVE_STREAM_STARTED", include_str!("jaas/live_stream_started.json")),
    ("PARTICIPANT_JOINED", include_str!("jaas/participant_joined.json")),
    ("PARTICIPANT_JOINED_LOBBY", include_str!("jaas/participant_joined_lobby.json")),
    ("PARTICIPANT_LEFT", include_str!("jaas/participant_left.json")),
    ("PARTICIPANT_LEFT_LOBBY", include_str!("jaas/participant_left_lobby.json")),
    ("POLL_CREATED", include_str!("jaas/poll_created.json")),
    ("RECORDING_ENDED", include_str!("jaas/recording_ended.json")),
    ("RECORDING_STARTED", include_str!("jaas/recording_started.json")),
    ("RECORDING_UPLOADED", include_str!("jaas/recording_uploaded.json")),
    ("ROLE_CHANGED", include_str!("jaas/role_changed.json")),
    ("ROOM_CREATED", include_str!("jaas/room_created.json")),
    ("ROOM_DESTROYED", include_str!("jaas/room_destroyed.json")),
    ("SETTINGS_PROVISIONING", include_str!("jaas/settings_provisioning.json")),
    ("SOMETHING_NEW", include_str!("jaas/something_new.json")),
    ("SPEAKER_STATS", include_str!("jaas/speaker_stats.json")),
    ("TRANSCRIPTION_UPLOADED", include_str!("jaas/transcription_uploaded.json")),
    ("USAGE", include_str!("jaas/usage.json")),
];

#[test]
fn each_event_of_the_documentation_is_read_or_kept_and_ignored() {
    for (name, text) in RECORDED {
        let event = send(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!((event.event_type.as_str(), event.room.as_str()), (*name, "algebra-1f2e3d-abcdefghijklmnop"));
        let fits = match *name {
            "ROOM_CREATED" => matches!(event.kind, EventKind::RoomCreated { meeting_id: Some(_) }),
            "ROOM_DESTROYED" => matches!(event.kind, EventKind::RoomDestroyed { .. }),
            "PARTICIPANT_JOINED" => {
                matches!(&event.kind, EventKind::Joined { person: Some(id), .. } if id == "student-1")
            }
            "PARTICIPANT_LEFT" => matches!(&event.kind, EventKind::Left { person: Some(id), .. } if id == "student-1"),
            "RECORDING_STARTED" => event.kind == EventKind::RecordingStarted,
            "RECORDING_ENDED" => event.kind == EventKind::RecordingEnded,
            "RECORDING_UPLOADED" => {
                matches!(&event.kind, EventKind::RecordingUploaded { external_id, .. } if external_id == "rec-1")
            }
            // Of the lobby: nobody of whom it tells is in the class.
            _ => event.kind == EventKind::Other,
        };
        assert!(fits, "{name}: {:?}", event.kind);
    }
}

#[test]
fn fields_more_or_less_do_no_harm() {
    for (name, text) in RECORDED {
        let whole: Value = serde_json::from_str(text).unwrap();
        let mut more = whole.clone();
        more["something"] = json!({"new": [1]});
        if more["data"].is_object() {
            more["data"]["something"] = json!({"new": [1]});
        }
        assert_eq!(send(&more).unwrap().kind, send(&whole).unwrap().kind, "{name}");
        let Some(fields) = whole["data"].as_object() else { continue };
        for field in fields.keys() {
            let mut less = whole.clone();
            less["data"].as_object_mut().unwrap().remove(field);
            // Without the link there is no recording to be fetched; nothing else is needed.
            assert_eq!(
                send(&less).is_err(),
                *name == "RECORDING_UPLOADED" && field == "preAuthenticatedLink",
                "{name}: {field}"
            );
        }
    }
}
