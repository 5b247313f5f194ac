//! Jitsi's reservation API, in the form in which mod_reservations calls it.

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    provider_configs::{WEBHOOK_SECRET, jitsi},
    support::*,
};

const FORM: &str = "application/x-www-form-urlencoded";

async fn reserve(app: &TestApp, prefix: &str, secret: &str, room: &str) -> (StatusCode, Value) {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("name", room).append_pair("start_time", "2026-11-25T09:00:00.000Z");
    let form = form.append_pair("mail_owner", "b1c4@meet.example.org").finish();
    // Prosody adds no slash.
    let request = app.anonymous().request(Method::POST, &format!("{prefix}/conference"));
    let response = request.bearer_auth(secret).header("content-type", FORM).body(form).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test]
async fn prosody_may_make_the_rooms_of_open_sessions_for_as_long_as_links_are_good() {
    let app = TestApp::start().await;
    let live = app.live(json!({"max_participants": 30})).await;
    let room = live["room"].as_str().unwrap();
    let (status, granted) = reserve(&app, "/webhooks/jitsi", JITSI_SECRET, room).await;
    assert_eq!(status, StatusCode::OK, "{granted}");
    assert_eq!((&granted["id"], &granted["name"]), (&live["id"], &live["room"]));
    assert_eq!((&granted["mail_owner"], &granted["max_occupants"]), (&json!("b1c4@meet.example.org"), &json!(30)));
    let start: DateTime<Utc> = granted["start_time"].as_str().unwrap().parse().unwrap();
    let ends: DateTime<Utc> = live["ends_at"].as_str().unwrap().parse().unwrap();
    let until = start + chrono::Duration::seconds(granted["duration"].as_i64().unwrap());
    assert!((until - (ends + chrono::Duration::minutes(30))).num_seconds().abs() <= 2, "{until} {ends}");
    // Again, and by its id, as after a conflict.
    assert_eq!(reserve(&app, "/webhooks/jitsi", JITSI_SECRET, room).await.0, StatusCode::OK);
    let one = format!("/webhooks/jitsi/conference/{}", live["id"].as_str().unwrap());
    let ask = |method: Method| app.anonymous().request(method, &one).bearer_auth(JITSI_SECRET);
    assert_eq!(answer(ask(Method::GET)).await.expect(StatusCode::OK)["name"], live["room"]);
    assert_eq!(answer(ask(Method::DELETE)).await.status, StatusCode::NO_CONTENT);

    app.teacher().call(&path(&live, "end/")).await.expect(StatusCode::OK);
    let (status, refused) = reserve(&app, "/webhooks/jitsi", JITSI_SECRET, room).await;
    assert_eq!((status, &refused), (StatusCode::FORBIDDEN, &json!({"message": "The class is over."})));
    let later = app.planned(json!({"starts_at": in_minutes(2000), "ends_at": in_minutes(2060)})).await;
    let soon = app.planned(json!({})).await;
    for (room, expected) in [
        (later["room"].as_str().unwrap(), StatusCode::FORBIDDEN),
        // Hosts may set up the room.
        (soon["room"].as_str().unwrap(), StatusCode::OK),
        ("anything", StatusCode::FORBIDDEN),
        ("", StatusCode::FORBIDDEN),
        ("a\0b", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(reserve(&app, "/webhooks/jitsi", JITSI_SECRET, room).await.0, expected, "{room:?}");
    }
}

#[tokio::test]
async fn a_secret_is_good_for_the_rooms_of_its_own_configuration() {
    let app = TestApp::start().await;
    let ours = app.live(json!({})).await;
    let config = app.configure_default(&jitsi("Campus", json!({}))).await;
    let theirs = app.live(json!({})).await;
    let prefix = format!("/webhooks/jitsi/{}", config["id"].as_str().unwrap());
    let room = |session: &Value| session["room"].as_str().unwrap().to_owned();
    assert_eq!(reserve(&app, &prefix, WEBHOOK_SECRET, &room(&theirs)).await.0, StatusCode::OK);
    assert_eq!(reserve(&app, &prefix, WEBHOOK_SECRET, &room(&ours)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(reserve(&app, "/webhooks/jitsi", JITSI_SECRET, &room(&theirs)).await.0, StatusCode::FORBIDDEN);
    for (prefix, secret) in [(prefix.as_str(), JITSI_SECRET), ("/webhooks/jitsi", WEBHOOK_SECRET), (&prefix, "")] {
        assert_eq!(reserve(&app, prefix, secret, &room(&theirs)).await.0, StatusCode::UNAUTHORIZED);
    }
    let one = format!("{prefix}/conference/{}", ours["id"].as_str().unwrap());
    for method in [Method::GET, Method::DELETE] {
        let request = app.anonymous().request(method, &one).bearer_auth(WEBHOOK_SECRET);
        answer(request).await.problem(404, "not-found");
    }
}
