//! Webhooks of event_sync, in the shapes of its README.

use super::*;

fn send(body: &Value) -> Result<ProviderEvent, WebhookError> {
    send_raw("Bearer event-sync-secret", body.to_string().as_bytes())
}

fn send_raw(authorization: &str, body: &[u8]) -> Result<ProviderEvent, WebhookError> {
    let headers = [("authorization".to_owned(), authorization.as_bytes().to_vec())];
    let mut events = judge(&Providers::new(&config()), WebhookSource::Jitsi, &headers, body, at(5))?;
    assert_eq!(events.len(), 1);
    Ok(events.remove(0))
}

/// The shapes of event_sync's README.
fn example(event: &str) -> Value {
    let occupant = json!({
        "name": "James Barrow", "email": "j.barrow@domain.com", "id": "00380324-a840",
        "occupant_jid": "14f01c40-5195@meet.mydomain.com/OWhl8jSh", "joined_at": 1_625_823_996,
    });
    let mut body = json!({
        "event_name": event, "room_name": "catchup", "is_breakout": false,
        "room_jid": "catchup@conference.meet.mydomain.com",
    });
    match event {
        "muc-room-created" => body["created_at"] = json!(1_625_823_996),
        "muc-room-destroyed" => {
            body["created_at"] = json!(1_625_823_996);
            body["destroyed_at"] = json!(1_625_824_035);
            body["all_occupants"] = json!([occupant]);
            body["all_occupants"][0]["left_at"] = json!(1_625_824_035);
        }
        _ => {
            body["active_occupants_count"] = json!(4);
            body["occupant"] = occupant;
            if event == "muc-occupant-left" {
                body["occupant"]["left_at"] = json!(1_625_824_035);
            }
        }
    }
    body
}

const CONNECTION: &str = "14f01c40-5195@meet.mydomain.com/OWhl8jSh";

#[test]
fn every_documented_event_is_read() {
    let person = Some("00380324-a840".to_owned());
    let name = "James Barrow".to_owned();
    for (event, seconds, kind) in [
        ("muc-room-created", 1_625_823_996, EventKind::RoomCreated { meeting_id: None }),
        (
            "muc-occupant-joined",
            1_625_823_996,
            EventKind::Joined { connection: CONNECTION.into(), person: person.clone(), name: name.clone() },
        ),
        (
            "muc-occupant-left",
            1_625_824_035,
            EventKind::Left { connection: CONNECTION.into(), person: person.clone(), name: name.clone() },
        ),
        (
            "muc-room-destroyed",
            1_625_824_035,
            EventKind::RoomDestroyed {
                occupants: vec![Occupancy {
                    connection: CONNECTION.into(),
                    person: person.clone(),
                    name: name.clone(),
                    joined_at: at(1_625_823_996),
                    left_at: Some(at(1_625_824_035)),
                }],
            },
        ),
    ] {
        let read = send(&example(event)).unwrap();
        assert_eq!(read.kind, kind);
        assert_eq!((read.event_type.as_str(), read.room.as_str()), (event, "catchup"));
        assert_eq!(read.occurred_at, at(seconds));
        let again = Providers::new(&config()).parse_stored(WebhookSource::Jitsi, &example(event)).unwrap();
        assert_eq!(again, read);
    }
}

#[test]
fn a_repeat_has_the_same_key_and_another_event_another() {
    let joined = send(&example("muc-occupant-joined")).unwrap();
    let reordered = r#"{ "occupant": {"joined_at":1625823996,"occupant_jid":"14f01c40-5195@meet.mydomain.com/OWhl8jSh",
        "id":"00380324-a840","name":"James Barrow","email":"j.barrow@domain.com"}, "active_occupants_count":4,
        "room_jid":"catchup@conference.meet.mydomain.com","is_breakout":false,"room_name":"catchup",
        "event_name":"muc-occupant-joined"}"#;
    assert_eq!(send_raw("bearer event-sync-secret", reordered.as_bytes()).unwrap().key, joined.key);
    let mut later = example("muc-occupant-joined");
    later["occupant"]["joined_at"] = json!(1_625_823_997);
    assert_ne!(send(&later).unwrap().key, joined.key);
}

#[test]
fn prosodys_oddities_are_tolerated() {
    let mut empty = example("muc-room-destroyed");
    empty["all_occupants"] = json!({});
    assert_eq!(send(&empty).unwrap().kind, EventKind::RoomDestroyed { occupants: vec![] });

    let mut guest = example("muc-occupant-joined");
    guest["occupant"].as_object_mut().unwrap().retain(|k, _| k == "occupant_jid" || k == "joined_at");
    assert_eq!(
        send(&guest).unwrap().kind,
        EventKind::Joined { connection: CONNECTION.into(), person: None, name: String::new() }
    );

    let mut numeric = example("muc-occupant-joined");
    numeric["occupant"]["id"] = json!(42);
    numeric["occupant"]["joined_at"] = json!(1_625_823_996.0);
    let read = send(&numeric).unwrap();
    assert!(matches!(read.kind, EventKind::Joined { person: Some(p), .. } if p == "42"));
    assert_eq!(read.occurred_at, at(1_625_823_996));

    // Somebody whose joined event_sync never saw.
    let mut nobody = example("muc-occupant-left");
    nobody.as_object_mut().unwrap().remove("occupant");
    assert_eq!(send(&nobody).unwrap().kind, EventKind::Other);

    let mut tenant = example("muc-room-created");
    tenant["room_name"] = json!("[school]Catchup");
    assert_eq!(send(&tenant).unwrap().room, "catchup");
}

#[test]
fn machines_are_not_people() {
    for jid in [
        "focus@auth.meet.jitsi/x",
        "recorder@hidden.meet.jitsi/x",
        "jibria@recorder.example.org/x",
        "transcriber@hidden.meet.jitsi/x",
    ] {
        let mut joined = example("muc-occupant-joined");
        joined["occupant"]["occupant_jid"] = json!(jid);
        assert_eq!(send(&joined).unwrap().kind, EventKind::Other, "{jid}");
        let mut destroyed = example("muc-room-destroyed");
        destroyed["all_occupants"][0]["occupant_jid"] = json!(jid);
        assert_eq!(send(&destroyed).unwrap().kind, EventKind::RoomDestroyed { occupants: vec![] }, "{jid}");
    }
    let mut health = example("muc-room-created");
    health["room_name"] = json!("__jicofo-health-check-3");
    assert_eq!(send(&health).unwrap().kind, EventKind::Other);
}

#[test]
fn a_breakouts_people_count_but_its_end_is_not_the_classs() {
    for (event, counts) in [
        ("muc-room-created", false),
        ("muc-room-destroyed", false),
        ("muc-occupant-joined", true),
        ("muc-occupant-left", true),
    ] {
        let mut body = example(event);
        body["is_breakout"] = json!(true);
        body["breakout_room_id"] = json!("0b1c");
        let read = send(&body).unwrap();
        assert_eq!(read.room, "catchup");
        assert_eq!(read.kind != EventKind::Other, counts, "{event}");
    }
}

#[test]
fn unknown_events_are_kept_as_other() {
    let read = send(&json!({"event_name": "muc-poll"})).unwrap();
    assert_eq!((read.kind, read.occurred_at, read.room.as_str()), (EventKind::Other, at(5), ""));
}

#[test]
fn only_who_knows_the_secret_may_send() {
    let body = example("muc-room-created").to_string();
    for authorization in
        ["", "Bearer", "Bearer ", "Bearer event-sync-secre", "Basic event-sync-secret", "event-sync-secret"]
    {
        assert_eq!(send_raw(authorization, body.as_bytes()), Err(WebhookError::BadSignature), "{authorization}");
    }
    let providers = Providers::new(&config());
    assert_eq!(judge(&providers, WebhookSource::Jitsi, &[], body.as_bytes(), at(5)), Err(WebhookError::BadSignature));
    let right = ("authorization".to_owned(), b"Bearer event-sync-secret".to_vec());
    assert_eq!(
        judge(&providers, WebhookSource::Jitsi, &[right.clone(), right.clone()], body.as_bytes(), at(5)),
        Err(WebhookError::BadSignature)
    );
    let unset = Providers::new(&ProvidersConfig { jitsi_webhook_secret: String::new(), ..config() });
    assert_eq!(judge(&unset, WebhookSource::Jitsi, &[right], body.as_bytes(), at(5)), Err(WebhookError::NotConfigured));
}

#[test]
fn what_event_sync_cannot_have_sent_is_malformed() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = r#"{"event_name":"muc-room-created","room_name":"a","created_at":1"#.to_owned() + &"0".repeat(300) + "}";
    let nul = r#"{"event_name":"muc-poll","x":{"y":["\u0000"]}}"#.to_owned();
    for body in
        ["", "nonsense", "[]", "{}", "null", r#"{"event_name":7e999}"#, deep.as_str(), huge.as_str(), nul.as_str()]
    {
        assert!(
            matches!(send_raw("Bearer event-sync-secret", body.as_bytes()), Err(WebhookError::Malformed(_))),
            "{body:.80}"
        );
    }
    assert!(matches!(send_raw("Bearer event-sync-secret", &[0xff, b'{']), Err(WebhookError::Malformed(_))));
    for missing in ["created_at", "event_name"] {
        let mut body = example("muc-room-created");
        body.as_object_mut().unwrap().remove(missing);
        assert!(matches!(send(&body), Err(WebhookError::Malformed(_))), "{missing}");
    }
}
