//! Zoom's webhooks, in the shapes of the types of its `@zoom/rivet`.

use super::{zoom::webhook::event_aliases, *};

const SECRET: &str = "test-secret-token";
/// Of the documentation's example; the signature was computed by other code than ours.
const VALIDATION: &str =
    r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680}"#;
const SIGNATURE: &str = "v0=b7ca7b4701973ed508c1b9416d6b48508805f163c751260ec72d9dca49e32a9c";

pub fn configured() -> Configuration {
    let settings = json!({
        "account_id": "a", "client_id": "c", "user_id": "classes@school.test", "sdk_key": "sdk-key",
    });
    let secrets = [("client_secret", "s"), ("webhook_secret", SECRET), ("sdk_secret", "sdk-secret")];
    super::configured::configuration(ProviderKind::Zoom, settings, &secrets)
}

fn headers(time: &str, signature: &str) -> Vec<(String, Vec<u8>)> {
    vec![
        ("x-zm-request-timestamp".to_owned(), time.as_bytes().to_vec()),
        ("x-zm-signature".to_owned(), signature.as_bytes().to_vec()),
    ]
}

fn verify(headers: &[(String, Vec<u8>)], body: &[u8], now: i64) -> Result<Verified, WebhookError> {
    let delivery = Delivery { source: WebhookSource::Zoom, callback_url: None, query: "", headers, body, now: at(now) };
    Providers::of(&configured()).verify_webhook(&delivery)
}

fn signed(body: &Value) -> Result<Verified, WebhookError> {
    use hmac::{Hmac, KeyInit, Mac};
    let body = body.to_string();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("v0:1800000000:{body}").as_bytes());
    let signature = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
    verify(&headers("1800000000", &signature), body.as_bytes(), 1_800_000_060)
}

fn received(body: &Value) -> Vec<Received> {
    match signed(body).unwrap() {
        Verified::Events(received) => received,
        Verified::Answer(answer) => panic!("{answer}"),
    }
}

fn one(body: &Value) -> ProviderEvent {
    let mut all = received(body);
    assert_eq!(all.len(), 1);
    all.remove(0).event
}

fn event(event: &str, object: Value) -> Value {
    json!({"event": event, "event_ts": 1_800_000_005_250_i64, "payload": {"account_id": "a", "object": object}})
}

/// As `meeting.participant_joined` has it: numbers are texts.
fn object(participant: Value) -> Value {
    json!({
        "uuid": "/4444AAAiAAAAAiAiAiiAii==", "id": "81234567890", "host_id": "x1yCzABCDEfg23HiJKl4mN", "topic": "Algebra",
        "type": 2, "start_time": "2027-01-15T08:00:00Z", "duration": 60, "timezone": "Europe/Istanbul",
        "participant": participant,
    })
}

fn participant(more: Value) -> Value {
    let mut participant = json!({
        "user_id": "16778240", "user_name": "Ayşe Yılmaz", "join_time": "2027-01-15T08:00:02Z", "email": "",
        "participant_uuid": "55555AAAiAAAAAiAiAiiAii",
    });
    participant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    participant
}

const CONNECTION: &str = "/4444AAAiAAAAAiAiAiiAii==/16778240";

#[test]
fn the_question_that_proves_an_address_is_answered() {
    let ask = |time: &str, signature: &str, now| verify(&headers(time, signature), VALIDATION.as_bytes(), now);
    let expected = json!({
        "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
        "encryptedToken": "9c8ad56737c19db2904b301c0781e86857e999f39f07727668cf62a5e7e298c8",
    });
    assert_eq!(ask("1654503849", SIGNATURE, 1_654_503_850), Ok(Verified::Answer(expected)));
    assert_eq!(ask("1654503849", SIGNATURE, 1_654_503_849 + 10_801), Err(WebhookError::Stale));
    assert_eq!(ask("1654503850", SIGNATURE, 1_654_503_850), Err(WebhookError::BadSignature));
    for wrong in ["", "v0=", "v0=00", &SIGNATURE[3..], &SIGNATURE.replace("v0", "v1"), &format!("{SIGNATURE}00")] {
        assert_eq!(ask("1654503849", wrong, 1_654_503_850), Err(WebhookError::BadSignature), "{wrong}");
    }
    let changed = VALIDATION.replace("qgg8", "qgg9");
    let changed = verify(&headers("1654503849", SIGNATURE), changed.as_bytes(), 1_654_503_850);
    assert_eq!(changed, Err(WebhookError::BadSignature));
    assert_eq!(verify(&[], VALIDATION.as_bytes(), 1_654_503_850), Err(WebhookError::BadSignature));
}

#[test]
fn only_a_question_belongs_to_nobody_in_particular() {
    let of = |body: &Value| zoom::webhook::claim(body.to_string().as_bytes());
    let claim = |account: Option<&str>, meeting: Option<&str>| {
        Some(zoom::webhook::Claim { account_id: account.map(str::to_owned), meeting: meeting.map(str::to_owned) })
    };
    assert_eq!(zoom::webhook::claim(VALIDATION.as_bytes()), claim(None, None));
    assert_eq!(of(&event("recording.completed", json!({"id": 7}))), claim(Some("a"), Some("7")));
    assert_eq!(of(&json!({"event": "meeting.started", "payload": {}})), None);
    assert_eq!(of(&json!({"event": "meeting.started", "payload": {"account_id": "\0"}})), None);
    assert_eq!(zoom::webhook::claim(b"{"), None);
}

#[test]
fn without_a_secret_nothing_is_believed() {
    let settings = json!({"account_id": "a", "client_id": "c", "user_id": "u"});
    let zoom = super::configured::configuration(ProviderKind::Zoom, settings, &[("client_secret", "s")]);
    for providers in [Providers::of(&zoom), Providers::new(&config())] {
        let headers = headers("1654503849", SIGNATURE);
        let judged = judge(&providers, WebhookSource::Zoom, &headers, VALIDATION.as_bytes(), at(1_654_503_850));
        assert_eq!(judged, Err(WebhookError::NotConfigured));
    }
}

#[test]
fn a_join_and_a_leave_are_told_with_the_connection_and_who_it_may_be() {
    let body = event(
        "meeting.participant_joined",
        object(participant(json!({
            "registrant_id": "abcdefghij0-klmnopq23456", "id": "30R7kT7bTIKSNUFEuH_Qlg", "email": "Ayse@School.test",
        }))),
    );
    let joined = one(&body);
    assert_eq!(joined.room, "81234567890");
    assert_eq!(joined.occurred_at, "2027-01-15T08:00:02Z".parse::<DateTime<Utc>>().unwrap());
    let expected = EventKind::Joined { connection: CONNECTION.into(), person: None, name: "Ayşe Yılmaz".into() };
    assert_eq!(joined.kind, expected);
    let aliases = [Alias::Registrant("abcdefghij0-klmnopq23456".into()), Alias::Email("ayse@school.test".into())];
    assert_eq!(event_aliases(&body), aliases);

    let left = json!({"customer_key": "student-1", "leave_time": "2027-01-15T08:30:00Z", "leave_reason": "left"});
    let left = one(&event("meeting.participant_left", object(participant(left))));
    assert_eq!(left.occurred_at, "2027-01-15T08:30:00Z".parse::<DateTime<Utc>>().unwrap());
    let expected =
        EventKind::Left {
            connection: CONNECTION.into(), person: Some("student-1".into()), name: "Ayşe Yılmaz".into()
        };
    assert_eq!(left.kind, expected);

    let host = event("meeting.participant_joined", object(participant(json!({"id": "x1yCzABCDEfg23HiJKl4mN"}))));
    assert_eq!(event_aliases(&host), [Alias::Host]);
}

#[test]
fn who_waits_is_not_there_and_who_is_put_out_has_left() {
    for waiting in [
        "meeting.participant_joined_waiting_room",
        "meeting.participant_left_waiting_room",
        "meeting.participant_admitted",
        "meeting.participant_jbh_waiting",
    ] {
        assert_eq!(one(&event(waiting, object(participant(json!({}))))).kind, EventKind::Other, "{waiting}");
    }
    let put_out = object(participant(json!({"date_time": "2027-01-15T08:10:00Z"})));
    let put_out = one(&event("meeting.participant_put_in_waiting_room", put_out));
    assert!(matches!(put_out.kind, EventKind::Left { .. }));
    assert_eq!(put_out.occurred_at, "2027-01-15T08:10:00Z".parse::<DateTime<Utc>>().unwrap());
}

#[test]
fn a_breakout_room_is_presence_of_those_who_are_known() {
    let mut body =
        object(participant(json!({"registrant_id": "r1", "parent_user_id": "16778240", "user_id": "33555456"})));
    body["breakout_room_uuid"] = "b2==".into();
    let joined = one(&event("meeting.participant_joined_breakout_room", body.clone()));
    let EventKind::Joined { connection, .. } = joined.kind else { panic!("{joined:?}") };
    assert_eq!(connection, "/4444AAAiAAAAAiAiAiiAii==/b2==/33555456");
    body["participant"].as_object_mut().unwrap().remove("registrant_id");
    assert_eq!(one(&event("meeting.participant_joined_breakout_room", body)).kind, EventKind::Other);
}

#[test]
fn a_meeting_begins_and_ends_whatever_its_number_is_written_as() {
    for id in [json!("81234567890"), json!(81_234_567_890_i64)] {
        let object = json!({
            "uuid": "u==", "id": id, "host_id": "h", "start_time": "2027-01-15T08:00:00Z",
            "end_time": "2027-01-15T09:00:00Z",
        });
        let started = one(&event("meeting.started", object.clone()));
        assert_eq!((started.room.as_str(), started.occurred_at), ("81234567890", at(1_800_000_000)));
        assert_eq!(started.kind, EventKind::RoomCreated { meeting_id: Some("u==".into()) });
        let ended = one(&event("meeting.ended", object));
        assert_eq!(
            (ended.occurred_at, ended.kind),
            (at(1_800_003_600), EventKind::RoomDestroyed { occupants: vec![] })
        );
    }
}

#[test]
fn a_deletion_is_told_and_one_of_something_else_is_not() {
    let object = json!({"uuid": "u==", "id": 81_234_567_890_i64, "host_id": "h", "topic": "Algebra", "type": 2});
    let deleted = one(&event("meeting.deleted", object.clone()));
    assert_eq!((deleted.room.as_str(), deleted.kind), ("81234567890", EventKind::MeetingDeleted));
    assert_eq!(one(&event("meeting.updated", object)).kind, EventKind::Other);
}

#[test]
fn files_of_a_recording_are_events_of_their_own_without_any_token() {
    let file = |id: &str, kind: &str, more: Value| {
        let mut file = json!({
            "id": id, "meeting_id": "u==", "recording_start": "2027-01-15T08:00:00Z",
            "recording_end": "2027-01-15T09:00:00Z", "file_type": kind, "file_extension": kind, "file_size": 1_024,
            "download_url": format!("https://us02web.zoom.us/rec/webhook_download/{id}"), "status": "completed",
            "recording_type": "shared_screen_with_speaker_view",
        });
        file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        file
    };
    let mut without_id = file("", "MP4", json!({"recording_type": "gallery_view"}));
    without_id.as_object_mut().unwrap().remove("id");
    let files = json!([
        file("f1", "MP4", json!({})),
        without_id,
        file("f3", "M4A", json!({"recording_type": "audio_only"})),
        file("f4", "TIMELINE", json!({})),
        file("f5", "CHAT", json!({})),
        file("f6", "MP4", json!({"status": "processing"})),
    ]);
    let object = json!({"id": 81_234_567_890_i64, "uuid": "u==", "recording_count": 6, "recording_files": files});
    let mut body = event("recording.completed", object);
    body["download_token"] = "abJhbGciOiJIUzUxMiJ9.secret".into();
    let all = received(&body);
    let names: Vec<_> = all
        .iter()
        .map(|received| match &received.event.kind {
            EventKind::FileRecorded(file) => (file.external_id.as_str(), file.kind, file.bytes),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        [("f1", FileKind::Film, Some(1_024)), ("u==/gallery_view/2027-01-15T08:00:00Z", FileKind::Film, Some(1_024))];
    assert_eq!(names, expected);
    assert_ne!(all[0].event.key, all[1].event.key);
    for received in &all {
        assert!(!received.body.to_string().contains("secret"));
        let again = Providers::new(&config()).parse_stored(WebhookSource::Zoom, &received.body).unwrap();
        assert_eq!(again, received.event);
    }
    let registered =
        json!({"id": 1, "password": "secret", "registrant": {"id": "r", "join_url": "https://zoom.us/w/1?tk=secret"}});
    assert!(!received(&event("meeting.registration_created", registered))[0].body.to_string().contains("secret"));
    // Another token, the same event.
    body["download_token"] = "another".into();
    assert_eq!(received(&body)[0].event.key, all[0].event.key);

    let sound = json!({"id": 1, "uuid": "u==", "recording_files": [file("f3", "M4A", json!({}))]});
    let sound = one(&event("recording.completed", sound));
    assert!(matches!(sound.kind, EventKind::FileRecorded(RecordedFile { kind: FileKind::Sound, .. })));
    let text = json!({"id": 1, "uuid": "u==", "recording_files": [file("f7", "TRANSCRIPT", json!({}))]});
    let text = one(&event("recording.transcript_completed", text));
    assert!(matches!(text.kind, EventKind::FileRecorded(RecordedFile { kind: FileKind::Transcript, .. })));
}

#[test]
fn what_is_unknown_or_lacks_something_is_kept_and_changes_nothing() {
    for body in [
        event("meeting.alert", object(json!({}))),
        event("recording.completed", json!({"id": 1})),
        event("recording.completed", json!({"id": 1, "recording_files": "x"})),
        event("meeting.participant_joined", json!({"id": "1", "uuid": "u"})),
        event("meeting.participant_joined", json!({"uuid": "u", "participant": {"user_id": "1"}})),
        event("meeting.ended", Value::Null),
        json!({"event": "app_deauthorized", "payload": []}),
    ] {
        assert_eq!(one(&body).kind, EventKind::Other, "{body}");
    }
    assert!(matches!(signed(&json!({"payload": {}})), Err(WebhookError::Malformed(_))));
    // Without times of its own an event is put where it was sent, or received.
    let mut body = event("meeting.ended", json!({"id": 7}));
    assert_eq!(one(&body).occurred_at.timestamp_millis(), 1_800_000_005_250);
    body.as_object_mut().unwrap().remove("event_ts");
    assert_eq!(one(&body).occurred_at, at(1_800_000_060));
}
