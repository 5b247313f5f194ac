//! Webhooks and callbacks of a BigBlueButton. Checksums were computed by other programs than ours.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::{
    super::settings::{Configuration, Settings},
    *,
};
use crate::secrets::Secret;

const URL: &str = "https://lms.example.org/hooks/bbb";
const BODY: &str = "domain=bbb.example.org&event=%5B%7B%22data%22%3A%7B%22type%22%3A%22event%22%2C%22id%22%3A%22meeting-ended%22%2C%22attributes%22%3A%7B%22meeting%22%3A%7B%22internal-meeting-id%22%3A%22abc-1%22%2C%22external-meeting-id%22%3A%22m+1%22%7D%7D%2C%22event%22%3A%7B%22ts%22%3A1708381155717%7D%7D%7D%5D&timestamp=1708381155800";
const SHA1: &str = "77152497c693c60dbea010ae99a2207aba4e41f5";
const SHA256: &str = "db08b118e838e02522ddf4a120e2dfab993912e34f7a1c3becd4f4a9400ef34b";

/// A configuration of three servers, one of them with a secret of its own.
fn providers(webhook_checksum: &str) -> Providers {
    let settings = json!({
        "server_url": "https://bbb.example.org/bigbluebutton/",
        "further_servers": ["https://bbb2.example.org:8443/bigbluebutton/"],
        "webhook_checksum": webhook_checksum,
    });
    let secrets =
        [("shared_secret", "another"), ("server_secrets", "bbb2.example.org:8443=s3cret,bbb3.example.org=unused")];
    let secrets: BTreeMap<_, _> = secrets.map(|(field, secret)| (field.to_owned(), Secret::new(secret))).into();
    Providers::of(&Configuration { settings: Settings::read(ProviderKind::Bbb, &settings).unwrap(), secrets })
}

fn delivery<'a>(query: &'a str, headers: &'a [(String, Vec<u8>)], body: &'a str) -> Delivery<'a> {
    Delivery {
        source: WebhookSource::Bbb,
        callback_url: Some(URL),
        query,
        headers,
        body: body.as_bytes(),
        now: at(1_708_381_160),
    }
}

fn take(covered: &str, delivery: &Delivery<'_>) -> Result<Vec<Received>, WebhookError> {
    match providers(covered).verify_webhook(delivery)? {
        Verified::Events(events) => Ok(events),
        Verified::Answer(answer) => panic!("{answer}"),
    }
}

#[test]
fn the_checksum_covers_address_and_body_in_each_hash() {
    for checksum in [SHA1, SHA256] {
        for query in [format!("k=v&checksum={checksum}"), format!("checksum={checksum}&k=v")] {
            let events = take("body", &delivery(&query, &[], BODY)).unwrap();
            assert_eq!(events.len(), 1);
            let event = &events[0].event;
            assert_eq!((event.event_type.as_str(), event.room.as_str()), ("meeting-ended", "m 1"));
            assert_eq!(event.kind, EventKind::MeetingEnded { meeting: "abc-1".into() });
            assert_eq!(event.occurred_at.timestamp_millis(), 1_708_381_155_717);
            assert_eq!(providers("body").parse_stored(WebhookSource::Bbb, &events[0].body).unwrap(), *event);
        }
    }
    let right = format!("k=v&checksum={SHA256}");
    for (query, body) in [
        (right.as_str(), BODY.replace("1708381155717", "1708381155718")),
        (right.as_str(), BODY.replace('+', "%20")),
        (&format!("k=w&checksum={SHA256}"), BODY.to_owned()),
        (&format!("checksum={SHA256}"), BODY.to_owned()),
        (&format!("k=v&checksum={}", SHA256.to_uppercase()), BODY.to_owned()),
        (&format!("k=v&checksum={SHA256}&checksum={SHA256}"), BODY.to_owned()),
        ("k=v&checksum=", BODY.to_owned()),
        ("k=v", BODY.to_owned()),
    ] {
        assert_eq!(take("address", &delivery(query, &[], &body)), Err(WebhookError::BadSignature), "{query} {body}");
    }
    let nowhere = Delivery { callback_url: None, ..delivery(&right, &[], BODY) };
    assert_eq!(take("body", &nowhere), Err(WebhookError::BadSignature));
    let later = Delivery { now: at(1_708_381_160 + 8 * 86_400), ..delivery(&right, &[], BODY) };
    assert_eq!(take("body", &later), Err(WebhookError::Stale));
}

fn sha1(parts: &[&str]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, parts.concat().as_bytes()))
}

#[test]
fn older_versions_sign_in_other_ways_of_which_the_one_without_the_body_has_to_be_allowed() {
    let event = url::form_urlencoded::parse(BODY.as_bytes()).find(|(name, _)| name == "event").unwrap().1;
    // 2.6 and earlier: JSON.stringify({event, timestamp, domain}).
    let escaped = event.replace('"', "\\\"");
    let older = format!("{{\"event\":\"{escaped}\",\"timestamp\":\"1708381155800\",\"domain\":\"bbb.example.org\"}}");
    let older = format!("checksum={}", sha1(&[URL, &older, "s3cret"]));
    assert!(take("body", &delivery(&older, &[], BODY)).is_ok());
    // 3.0.0 to 3.3.1: nothing of the body.
    let bare = format!("checksum={}", sha1(&[URL, "{}", "s3cret"]));
    assert_eq!(take("body", &delivery(&bare, &[], BODY)), Err(WebhookError::BadSignature));
    assert!(take("address", &delivery(&bare, &[], BODY)).is_ok());
}

#[test]
fn the_secret_itself_may_come_as_a_bearer_token() {
    let bearer = |token: &str| [("authorization".to_owned(), format!("Bearer {token}").into_bytes())];
    for (token, good) in [("s3cret", true), ("another", true), ("unused", false), ("s3cre", false), ("", false)] {
        assert_eq!(take("body", &delivery("", &bearer(token), BODY)).is_ok(), good, "{token}");
    }
    // Who sends a wrong one is not judged by something else.
    let query = format!("k=v&checksum={SHA256}");
    assert_eq!(take("body", &delivery(&query, &bearer("x"), BODY)), Err(WebhookError::BadSignature));
    let unset = Providers::new(&config()).verify_webhook(&delivery("", &bearer("s3cret"), BODY));
    assert_eq!(unset, Err(WebhookError::NotConfigured));
}

/// As it would be sent.
fn send(events: &Value) -> Result<Vec<Received>, WebhookError> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("domain", "b").append_pair("event", &events.to_string()).append_pair("timestamp", "1708381155800");
    let bearer = [("authorization".to_owned(), b"Bearer s3cret".to_vec())];
    take("body", &delivery("", &bearer, &form.finish()))
}

fn event(id: &str, attributes: Value) -> Value {
    json!({"data": {"type": "event", "id": id, "attributes": attributes, "event": {"ts": 1_708_381_155_717_u64}}})
}

fn kind(id: &str, mut attributes: Value) -> EventKind {
    if attributes["meeting"].is_null() {
        attributes["meeting"] = json!({"internal-meeting-id": "abc-1", "external-meeting-id": "Algebra-1F"});
    }
    let [received] = <[_; 1]>::try_from(send(&json!([event(id, attributes)])).unwrap()).unwrap();
    assert_eq!(received.event.room, "algebra-1f");
    received.event.kind
}

#[test]
fn events_about_people_name_one_life_of_the_meeting() {
    let user = json!({"internal-user-id": "w_1", "external-user-id": "ali/1", "name": "Ali", "role": "VIEWER", "guest": false});
    let joined = kind("user-joined", json!({"user": user}));
    assert_eq!(
        joined,
        EventKind::Joined { connection: "abc-1/w_1".into(), person: Some("ali/1".into()), name: "Ali".into() }
    );
    let left = kind("user-left", json!({"user": {"internal-user-id": "w_1", "external-user-id": "ali/1"}}));
    assert_eq!(
        left,
        EventKind::Left { connection: "abc-1/w_1".into(), person: Some("ali/1".into()), name: String::new() }
    );
    // Nobody's id of ours: the server's own, none, or null.
    for anonymous in [json!("w_1"), Value::Null, json!("")] {
        let user = json!({"internal-user-id": "w_1", "external-user-id": anonymous, "name": "Guest"});
        assert!(matches!(kind("user-joined", json!({"user": user})), EventKind::Joined { person: None, .. }));
    }
}

#[test]
fn an_array_alone_is_taken_with_the_bearer_token() {
    let body = json!([event(
        "meeting-ended",
        json!({"meeting": {"internal-meeting-id": "abc-1", "external-meeting-id": "m"}})
    )]);
    let bearer = [("authorization".to_owned(), b"Bearer s3cret".to_vec())];
    let taken = take("body", &delivery("", &bearer, &body.to_string())).unwrap();
    assert_eq!(taken[0].event.kind, EventKind::MeetingEnded { meeting: "abc-1".into() });
}

#[test]
fn events_about_recordings_are_read() {
    assert_eq!(kind("meeting-recording-started", json!({})), EventKind::RecordingStarted);
    assert_eq!(kind("rap-archive-ended", json!({"recorded": false})), EventKind::NothingRecorded);
    assert_eq!(kind("rap-archive-ended", json!({"recorded": true})), EventKind::Other);
    assert_eq!(kind("rap-archive-ended", json!({})), EventKind::Other);
    let published = |link: &str, success: Value| {
        let playback = json!({"format": "video", "link": link, "size": "12"});
        json!({"record-id": "abc-1", "success": success,
            "recording": {"start-time": "1708381155717", "end-time": 1_708_381_185_717_u64, "playback": playback}})
    };
    let page = published("https://b/playback/presentation/2.3/abc-1", json!(true));
    assert_eq!(kind("rap-publish-ended", page), EventKind::RecordingsChanged);
    let file = kind("rap-publish-ended", published("https://b/abc-1/video-0.m4v", json!("true")));
    let EventKind::RecordingUploaded { external_id, url, duration_seconds, from, .. } = file else {
        panic!("{file:?}")
    };
    assert_eq!((external_id.as_str(), url.as_str()), ("abc-1/video", "https://b/abc-1/video-0.m4v"));
    assert_eq!((duration_seconds, from.unwrap().timestamp_millis()), (Some(30), 1_708_381_155_717));
    assert_eq!(kind("rap-publish-ended", published("https://b/a.mp4", json!(false))), EventKind::Other);
    for changed in ["rap-published", "rap-unpublished", "rap-deleted"] {
        assert_eq!(kind(changed, json!({})), EventKind::RecordingsChanged);
    }
    // Once the meeting is over the server forgets what we call it.
    let late = event("rap-published", json!({"meeting": {"internal-meeting-id": "abc-1"}}));
    assert_eq!(send(&json!([late])).unwrap()[0].event.room, "abc-1");
}

#[test]
fn a_batch_is_taken_apart_and_secrets_are_not_kept() {
    let created = json!({"meeting": {"internal-meeting-id": "abc-1", "external-meeting-id": "m", "is-breakout": false,
        "moderator-pass": "topsecret", "viewer-pass": "topsecret", "metadata": {"a": "b"}}});
    let joined = json!({"meeting": {"internal-meeting-id": "abc-1", "external-meeting-id": "m"},
        "user": {"internal-user-id": "w_1", "session-token": "topsecret", "ip-address": "topsecret", "name": "A"}});
    let batch = json!([
        event("meeting-created", created),
        event("user-joined", joined),
        event("some-new-event", json!({})),
        {"data": {"id": "without-a-time"}},
    ]);
    let received = send(&batch).unwrap();
    assert_eq!(received.len(), 4);
    assert_eq!(received[0].event.kind, EventKind::RoomCreated { meeting_id: Some("abc-1".into()) });
    assert_eq!((&received[2].event.kind, received[2].event.room.as_str()), (&EventKind::Other, ""));
    assert_eq!(received[3].event.occurred_at, at(1_708_381_160));
    assert!(!format!("{received:?}").contains("topsecret"));
    let keys: std::collections::BTreeSet<_> = received.iter().map(|r| r.event.key.clone()).collect();
    assert_eq!(keys.len(), 4);
    // The same again, whatever its order of fields.
    assert_eq!(send(&batch).unwrap()[1].event.key, received[1].event.key);
    let breakout = json!({"meeting": {"external-meeting-id": "algebra-1f", "is-breakout": "true"}});
    assert_eq!(kind("meeting-created", breakout), EventKind::Other);
    // What cannot be read is kept, because a refusal would cost the hook itself.
    let odd = json!([
        event("user-joined", json!({"meeting": {"external-meeting-id": "m"}})),
        event(
            "user-joined",
            json!({"user": {"internal-user-id": "w_1", "name": "a\u{0}b"}, "meeting": {"external-meeting-id": "m"}})
        ),
        1,
        {},
    ]);
    let kept = send(&odd).unwrap();
    let kinds: Vec<_> = kept.iter().map(|r| r.event.kind == EventKind::Other).collect();
    assert_eq!(kinds, [true, false, true, true]);
    assert!(!kept.iter().any(|r| r.body.to_string().contains("\\u0000")));
    assert_eq!((kept[0].event.event_type.as_str(), kept[3].event.event_type.as_str()), ("user-joined", "unreadable"));
    for wrong in [json!([]), json!("x")] {
        assert!(matches!(send(&wrong), Err(WebhookError::Malformed(_))), "{wrong}");
    }
    assert!(matches!(
        take("body", &delivery("", &[("authorization".into(), b"Bearer s3cret".to_vec())], "")),
        Err(WebhookError::Malformed(_))
    ));
}

#[test]
fn only_who_has_the_secret_says_that_a_recording_or_an_account_is_ready() {
    let providers = providers("body");
    let bbb = providers.bbb().unwrap();
    let token = |algorithm, secret: &str, claims: &Value| {
        // As Ruby's library writes it.
        let header = Header { typ: None, ..Header::new(algorithm) };
        encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    let claims = json!({"meeting_id": "algebra-1f", "record_id": "abc-1"});
    let ready = |token: &str| bbb.verify_recording_ready(format!("signed_parameters={token}&x=y").as_bytes());
    for algorithm in [Algorithm::HS256, Algorithm::HS512] {
        for secret in ["another", "s3cret"] {
            let told = ready(&token(algorithm, secret, &claims)).unwrap();
            assert_eq!((told.meeting_id.as_str(), told.record_id.as_str()), ("algebra-1f", "abc-1"));
        }
    }
    for wrong in [token(Algorithm::HS256, "wrong", &claims), token(Algorithm::HS256, "s3cret", &json!({})), "x".into()]
    {
        assert_eq!(ready(&wrong).unwrap_err(), WebhookError::BadSignature);
    }
    assert_eq!(bbb.verify_recording_ready(b"").unwrap_err(), WebhookError::BadSignature);

    let bearer = |token: String| [("authorization".to_owned(), format!("Bearer {token}").into_bytes())];
    let exp = |at: i64| json!({"exp": at});
    let now = jsonwebtoken::get_current_timestamp() as i64;
    let good = token(Algorithm::HS512, "s3cret", &exp(now + 86_400));
    assert_eq!(bbb.verify_analytics(&bearer(good)), Ok(()));
    for wrong in [
        token(Algorithm::HS512, "s3cret", &exp(now - 3_600)),
        token(Algorithm::HS512, "s3cret", &json!({})),
        token(Algorithm::HS512, "wrong", &exp(now + 86_400)),
    ] {
        assert_eq!(bbb.verify_analytics(&bearer(wrong)), Err(WebhookError::BadSignature));
    }
    assert_eq!(bbb.verify_analytics(&[]), Err(WebhookError::BadSignature));
}

#[test]
fn the_account_after_the_end_tells_each_stay() {
    let body = json!({"version": "1.0", "meeting_id": "algebra-1f", "internal_meeting_id": "abc-1", "data": {
    "finish": "2024-02-19T22:40:00+00:00",
    "attendees": [
        {"ext_user_id": "ali/1", "name": "Ali", "joins": [], "leaves": [], "engagement": {"chats": 3}, "sessions": [
            {"joins": ["2024-02-19T22:00:00.500+00:00"], "lefts": ["2024-02-19T22:10:00+00:00"]},
            {"joins": ["2024-02-19T22:05:00+00:00"], "lefts": []}]},
        {"ext_user_id": "b", "name": "B", "joins": ["02/19/2024 22:01:00", "02/19/2024 22:20:00"],
         "leaves": ["02/19/2024 22:10:00", "02/19/2024 22:30:00"]},
        {"ext_user_id": "c", "joins": ["2024-02-19 22:01:00 +0000"], "leaves": ["2024-02-19 22:02:00 +0000"]},
        {"ext_user_id": "w_abcdef", "joins": ["2024-02-19T22:00:00Z"]},
        {"name": "nobody"}, 7
    ]}});
    let now = at(1_708_400_000);
    let [told] = <[_; 1]>::try_from(bbb::callback_events::analytics("algebra-1f", &body, now).unwrap()).unwrap();
    let EventKind::EndReport { stays } = &told.event.kind else { panic!("{told:?}") };
    let clock = |at: DateTime<Utc>| at.format("%H:%M").to_string();
    let found: Vec<_> = stays
        .iter()
        .map(|s| (s.person.clone().unwrap(), clock(s.joined_at), s.left_at.map(clock).unwrap_or_default()))
        .collect();
    let stay = |person: &str, from: &str, to: &str| (person.to_owned(), from.to_owned(), to.to_owned());
    assert_eq!(
        found,
        [
            stay("ali/1", "22:00", "22:10"),
            stay("ali/1", "22:05", "22:40"),
            stay("b", "22:01", "22:10"),
            stay("b", "22:20", "22:30"),
            stay("c", "22:01", "22:02"),
        ]
    );
    assert_eq!(stays[1].connection, "abc-1/report:1:ali/1");
    assert!(!told.body.to_string().contains("engagement"));
    // Sent again an hour later it is the same.
    let again = bbb::callback_events::analytics("algebra-1f", &body, at(1_708_403_600)).unwrap();
    assert_eq!(again[0].event.key, told.event.key);
    assert_eq!(providers("body").parse_stored(WebhookSource::Bbb, &told.body).unwrap(), told.event);
}
