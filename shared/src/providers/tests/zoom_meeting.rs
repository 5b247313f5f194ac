//! What Zoom is asked for, and what its pages are let in with.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::{zoom_webhook::configured, *};
use crate::{
    domain::person::Part,
    providers::zoom::{self, Plan, ZoomMeeting},
};

const ROOM: &str = "algebra-1f2e3d";

fn plan(title: &str) -> Plan<'_> {
    let (starts_at, ends_at) = (at(1_800_000_000), at(1_800_003_601));
    Plan { room: ROOM, title, starts_at, ends_at, timezone: "Europe/Istanbul", recording: true }
}

#[test]
fn a_meeting_is_asked_for_with_what_it_is_found_by_again() {
    let providers = Providers::of(&configured());
    let zoom = providers.zoom().unwrap();
    let body = zoom.meeting(&plan("Cebir: x² & <y>"), at(1_799_000_000));
    let expected = json!({
        "topic": "Cebir: x² & <y>", "type": 2, "start_time": "2027-01-15T08:00:00Z", "duration": 61,
        "timezone": "Europe/Istanbul", "agenda": ROOM,
        "settings": {
            "approval_type": 0, "registration_type": 1, "registrants_email_notification": false,
            "registrants_confirmation_email": false, "auto_recording": "cloud",
        },
    });
    assert_eq!(body, expected);
    assert!(zoom::Zoom::is_of_room(&body, ROOM) && !zoom::Zoom::is_of_room(&body, "algebra-1f2e3"));
    // A class that has begun begins now; names have an end.
    let late = zoom.meeting(&plan(&"ğ".repeat(300)), at(1_800_000_300));
    assert_eq!(late["start_time"], "2027-01-15T08:05:00Z");
    assert_eq!(late["topic"].as_str().unwrap().chars().count(), 200);
    assert_eq!(zoom.meeting(&plan("  "), at(0))["topic"], ROOM);
}

#[test]
fn numbers_are_larger_than_32_bits_and_may_be_texts() {
    assert_eq!(zoom::meeting_number(&json!({"id": 81_234_567_890_i64})), Some(81_234_567_890));
    assert_eq!(zoom::meeting_number(&json!({"id": "81234567890"})), Some(81_234_567_890));
    for wrong in [json!({}), json!({"id": -1}), json!({"id": "x"}), json!({"id": 1.5}), json!([])] {
        assert_eq!(zoom::meeting_number(&wrong), None, "{wrong}");
    }
    let stored = json!({"provider": "zoom", "number": 81_234_567_890_i64, "registers": true});
    let meeting = Meeting::Zoom(ZoomMeeting { number: 81_234_567_890, registers: true });
    assert_eq!(serde_json::to_value(&meeting).unwrap(), stored);
    assert_eq!(meeting.external_id(), "81234567890");
}

#[test]
fn a_uuid_is_encoded_once_or_twice() {
    assert_eq!(zoom::in_path("ab+c/d=="), "ab%2Bc%2Fd%3D%3D");
    assert_eq!(zoom::in_path("/ab//c=="), "%252Fab%252F%252Fc%253D%253D");
    assert_eq!(zoom::in_path("a//b"), "a%252F%252Fb");
    assert_eq!(zoom::in_path("classes@school.test"), "classes%40school.test");
}

#[test]
fn people_are_registered_by_name_and_an_address_that_is_theirs_alone() {
    let body = |name: &str| zoom::registrant(name, "x@registrants.example.com");
    let names = |name: &str| (body(name)["first_name"].clone(), body(name)["last_name"].clone());
    assert_eq!(names("Ayşe Nur Yılmaz"), (json!("Ayşe Nur"), json!("Yılmaz")));
    assert_eq!(names("Ayşe"), (json!("Ayşe"), json!("–")));
    assert_eq!(names(" \n"), (json!("–"), json!("–")));
    assert_eq!(names(&"x".repeat(100)).0.as_str().unwrap().len(), 64);
    let address = zoom::registrant_address(ROOM, "ali");
    assert_eq!(address, zoom::registrant_address(ROOM, "ali"));
    assert_ne!(address, zoom::registrant_address(ROOM, "veli"));
    assert_ne!(address, zoom::registrant_address("other", "ali"));
    let answer = json!({"id": 1, "registrant_id": "r1", "join_url": "https://zoom.us/w/1?tk=t&pwd=p"});
    let registered = zoom::registered(&answer).unwrap();
    assert_eq!(
        (registered.registrant_id.as_str(), registered.join_url.expose()),
        ("r1", "https://zoom.us/w/1?tk=t&pwd=p")
    );
    assert!(!format!("{registered:?}").contains("tk=t"));
    assert!(zoom::registered(&json!({"registrant_id": "r1", "join_url": "javascript:alert(1)"})).is_none());
}

#[test]
fn a_page_of_our_own_is_let_in_as_zoom_s_sample_does_it() {
    let providers = Providers::of(&configured());
    let meeting = Meeting::Zoom(ZoomMeeting { number: 81_234_567_890, registers: true });
    let link = Secret::new("https://zoom.us/w/81234567890?tk=t");
    let request = |part, expires_at| JoinRequest {
        kind: ProviderKind::Zoom,
        room: ROOM,
        person: JoinPerson { id: "ali", name: "Ali", email: None },
        part,
        not_before: at(1_800_000_000),
        expires_at: at(expires_at),
        now: at(1_800_000_000),
        recording: false,
        subject: "Algebra",
        meeting: Some(&meeting),
        link: Some(&link),
    };
    let claims = |token: &str| {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.validate_exp = false;
        rules.validate_aud = false;
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(b"sdk-secret"), &rules).unwrap().claims
    };
    let join = providers.join(&request(Part::Host, 1_800_007_200)).unwrap();
    assert_eq!(join.url, link.expose());
    let expected = json!({
        "appKey": "sdk-key", "sdkKey": "sdk-key", "mn": "81234567890", "role": 1, "iat": 1_799_999_970,
        "exp": 1_800_007_200, "tokenExp": 1_800_007_200,
    });
    assert_eq!(claims(&join.token), expected);
    // Neither shorter nor longer than Zoom takes it.
    for (expires_at, exp) in [(1_800_000_600, 1_800_001_770), (1_900_000_000, 1_800_172_770)] {
        let token = claims(&providers.join(&request(Part::CoHost, expires_at)).unwrap().token);
        assert_eq!((token["role"].clone(), token["exp"].clone()), (json!(0), json!(exp)));
    }
    let without = JoinRequest { link: None, ..request(Part::Host, 1_800_007_200) };
    assert!(matches!(providers.join(&without), Err(ProviderError::Rejected(_))));
    let unmade = JoinRequest { meeting: None, ..request(Part::Host, 1_800_007_200) };
    assert!(matches!(providers.join(&unmade), Err(ProviderError::Rejected(_))));
}

#[test]
fn a_report_tells_stays_and_leaves_out_the_waiting_room() {
    let line = |more: Value| {
        let mut line = json!({
            "id": "", "user_id": "16778240", "name": "Ayşe", "user_email": "", "join_time": "2027-01-15T08:00:02Z",
            "leave_time": "2027-01-15T08:30:00Z", "duration": 1_798, "status": "in_meeting", "failover": false,
        });
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line
    };
    let page = json!({"participants": [
        line(json!({"registrant_id": "r1"})), line(json!({"status": "in_waiting_room"})),
        line(json!({"id": "host", "user_id": 16_778_241, "customer_key": ""})),
        line(json!({"customer_key": "ali", "leave_time": ""})), line(json!({"join_time": "never"})), {}, 7,
    ]});
    let stays = zoom::stays(&page, "u==", Some("host"));
    assert_eq!(stays.len(), 3);
    // As the webhook calls it.
    assert_eq!(stays[0].connection, "u==/16778240");
    assert_eq!(stays[0].known_as, [Alias::Registrant("r1".into())]);
    assert_eq!((stays[0].joined_at, stays[0].left_at), (at(1_800_000_002), Some(at(1_800_001_800))));
    assert_eq!((stays[1].known_as.as_slice(), &stays[1].person), ([Alias::Host].as_slice(), &None));
    assert_eq!((stays[2].person.as_deref(), stays[2].left_at), (Some("ali"), None));
    assert_eq!(zoom::stays(&json!("x"), "u==", None), []);
}
