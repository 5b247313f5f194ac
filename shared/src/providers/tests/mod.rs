//! What the adapters promise, judged by published vectors, by the shapes that the senders document,
//! and by a decoder that is not ours.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod bbb_link;
mod bbb_webhook;
mod configured;
mod event_sync_webhook;
mod jaas_webhook;
mod jitsi_token;
mod mod_webhook;
mod zoom_meeting;
mod zoom_webhook;

fn config() -> ProvidersConfig {
    ProvidersConfig {
        jitsi_domain: "meet.example.org".into(),
        jitsi_app_id: "lms".into(),
        jitsi_jwt_secret: "0123456789abcdef0123456789abcdef".into(),
        jitsi_private_key: String::new(),
        jitsi_control_url: String::new(),
        jitsi_control_secret: String::new(),
        jitsi_audience: "jitsi".into(),
        jitsi_xmpp_domain: "*".into(),
        jitsi_webhook_secret: "event-sync-secret".into(),
        jaas_webhook_secret: "whsec_9635df66714a4cf088ee9d0979dd3bf6".into(),
        bbb_server_url: String::new(),
        bbb_shared_secret: String::new(),
        bbb_webhook_checksum: "body".into(),
        recording_hosts: vec![],
        recording_allow_private: false,
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(seconds, 0).unwrap()
}

/// JSON of any shape, with the fields' real names among the keys so that it gets past the door.
fn any_json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "muc-room-destroyed",
            "muc-occupant-left",
            "PARTICIPANT_JOINED",
            "RECORDING_UPLOADED",
            "meeting.participant_left",
            "recording.completed",
            "MP4",
            "https://zoom.us/rec",
            "a@b",
            "[t]r",
            "1e308",
            "NaN"
        ])
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "event_name",
        "room_name",
        "room_jid",
        "occupant",
        "occupant_jid",
        "joined_at",
        "left_at",
        "created_at",
        "destroyed_at",
        "all_occupants",
        "is_breakout",
        "id",
        "name",
        "eventType",
        "fqn",
        "timestamp",
        "data",
        "idempotencyKey",
        "participantJid",
        "preAuthenticatedLink",
        "durationSec",
        "startTimestamp",
        "event",
        "payload",
        "object",
        "participant",
        "user_id",
        "recording_files",
        "file_type",
        "download_url",
        "leave_time",
    ]);
    scalar.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..12)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The events of a webhook; what is stored of each is the same event, but for the time of those that have none.
fn judge(
    providers: &Providers,
    source: WebhookSource,
    headers: &[(String, Vec<u8>)],
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Vec<ProviderEvent>, WebhookError> {
    let delivery = Delivery { source, callback_url: None, query: "", headers, body, now };
    match providers.verify_webhook(&delivery)? {
        Verified::Events(received) => Ok(received.into_iter().map(|received| received.event).collect()),
        Verified::Answer(answer) => panic!("a question, answered with {answer}"),
    }
}

/// Bodies as bytes: JSON, JSON that was cut or changed somewhere, anything.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let changed =
        (any_json(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(|(json, at, new, cut)| {
            let mut bytes = json.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = new;
            if cut {
                bytes.truncate(at);
            }
            bytes
        });
    prop_oneof![any_json().prop_map(|json| json.to_string().into_bytes()), changed, any::<Vec<u8>>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_the_verifiers_panic(body in any_bytes(), signature in prop_oneof![
        any::<Vec<u8>>(), "t=[0-9]{0,20},v1=[A-Za-z0-9+/=]{0,60}".prop_map(String::into_bytes),
    ]) {
        let providers = Providers::new(&config());
        let bearer = b"Bearer event-sync-secret".to_vec();
        for headers in [
            vec![("authorization".to_owned(), bearer)],
            ["authorization", "x-jaas-signature"].map(|name| (name.to_owned(), signature.clone())).to_vec(),
            ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| (name.to_owned(), signature.clone())).to_vec(),
        ] {
            for source in WebhookSource::ALL {
                if let Ok(events) = judge(&providers, source, &headers, &body, at(1_800_000_000)) {
                    prop_assert!(!events.is_empty());
                }
                let _ = providers.unverified_room(source, &body);
            }
        }
    }

    #[test]
    fn no_json_makes_the_readers_panic(body in any_json(), event in prop::sample::select(vec![
        "muc-room-created", "muc-room-destroyed", "muc-occupant-joined", "muc-occupant-left",
        "ROOM_CREATED", "PARTICIPANT_LEFT", "RECORDING_UPLOADED", "meeting.participant_left", "recording.completed",
    ])) {
        let providers = Providers::new(&config());
        let mut named = body.clone();
        if let Some(map) = named.as_object_mut() {
            map.insert("event_name".into(), event.into());
            map.insert("eventType".into(), event.into());
            map.insert("event".into(), event.into());
        }
        for body in [&body, &named] {
            for source in WebhookSource::ALL {
                if let Ok(event) = providers.parse_stored(source, body) {
                    prop_assert!(!event.key.is_empty() && !event.event_type.is_empty());
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_judges_panic(body in any::<Vec<u8>>(), header in any::<Vec<u8>>(), text in any::<String>()) {
        let providers = Providers::new(&config());
        let headers = [
            ("authorization".to_owned(), [b"Bearer ".as_slice(), &header].concat()),
            ("x-jaas-signature".to_owned(), format!("t={text},v1={text}").into_bytes()),
        ];
        for source in WebhookSource::ALL {
            prop_assert!(judge(&providers, source, &headers, &body, at(1)).is_err());
        }
    }
}

#[test]
fn sources_are_found_by_their_names() {
    for source in WebhookSource::ALL {
        assert_eq!(source.as_str().parse(), Ok(source));
    }
    assert!("teams".parse::<WebhookSource>().is_err());
}
