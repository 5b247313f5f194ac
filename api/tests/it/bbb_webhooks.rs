//! What a BigBlueButton sends by itself: webhooks, and calls to the addresses that `create` named.

use reqwest::{Method, StatusCode};
use sandbox::bigbluebutton::{BigBlueButton, Faults, Format, NewRecording, Signature, WebhookFaults};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{provider_configs::*, support::*};

const BBB_SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

/// An API that knows its own address, whose tenant has this server as its default.
async fn app(server: &BigBlueButton) -> (TestApp, Value) {
    let app = TestApp::start_with(&["--provider-configs-allow-private", "--public-url", "http://{address}"]).await;
    let config = app.configure_default(&bbb("BBB", &server.url())).await;
    (app, config)
}

async fn server() -> BigBlueButton {
    BigBlueButton::start(None, BBB_SECRET).await.unwrap()
}

/// Has the server send webhooks, as our worker does.
async fn hook(server: &BigBlueButton, callback_url: &str) {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("callbackURL", callback_url).finish();
    let checksum = hex::encode(Sha256::digest(format!("hooks/create{query}{BBB_SECRET}")));
    let url = format!("{}api/hooks/create?{query}&checksum={checksum}", server.url());
    assert!(reqwest::get(url).await.unwrap().text().await.unwrap().contains("SUCCESS"));
}

/// A live session in which somebody is.
async fn joined(app: &TestApp) -> Value {
    let session = app.live(json!({"recording_enabled": true})).await;
    let joined = app.student("ali/1").call(&path(&session, "join/")).await.expect(StatusCode::OK);
    let page = reqwest::get(joined["join_url"].as_str().unwrap()).await.unwrap();
    assert_eq!(page.url().path(), "/html5client/join");
    session
}

fn room(session: &Value) -> &str {
    session["room"].as_str().unwrap()
}

async fn events(app: &TestApp) -> Vec<(String, Option<uuid::Uuid>)> {
    sqlx::query_as("select event_type, session_id from webhook_events order by event_type")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn webhooks_come_in_however_the_server_signs_them() {
    let signatures = [
        (Signature::Body, "sha1"),
        (Signature::Body, "sha256"),
        (Signature::Body, "sha512"),
        (Signature::Older, "sha1"),
        (Signature::Bearer, ""),
    ];
    for (signature, algorithm) in signatures {
        let server = server().await;
        let webhooks = WebhookFaults {
            signature,
            algorithm: algorithm.into(),
            double: true,
            lost: vec!["meeting-created".into()],
            ..WebhookFaults::default()
        };
        server.set_faults(Faults { webhooks, ..Faults::default() });
        let (app, config) = app(&server).await;
        hook(&server, config["webhook_url"].as_str().unwrap()).await;
        let session = joined(&app).await;
        server.leave(room(&session), "ali/1");
        eventually("both are stored", async || app.count("webhook_events").await == 2).await;
        let id = uuid::Uuid::parse_str(session["id"].as_str().unwrap()).unwrap();
        let expected = ["user-joined", "user-left"].map(|event| (event.to_owned(), Some(id)));
        assert_eq!(events(&app).await, expected, "{signature:?}");
        eventually("each came twice", async || server.deliveries().len() == 4).await;
        assert!(server.deliveries().iter().all(|delivery| delivery.status == Some(200)));
        let bodies: Vec<Value> =
            sqlx::query_scalar("select body from webhook_events").fetch_all(&app.pool).await.unwrap();
        assert!(!json!(bodies).to_string().contains("a-session-token"));
        assert_eq!(app.count("jobs where kind = 'process-webhook'").await, 2);
    }
}

#[tokio::test]
async fn a_signature_that_leaves_the_body_open_is_taken_only_where_somebody_said_so() {
    let server = server().await;
    let pauses_ms = Some(vec![]);
    let webhooks = WebhookFaults { signature: Signature::Address, pauses_ms, ..WebhookFaults::default() };
    server.set_faults(Faults { webhooks, ..Faults::default() });
    let (app, config) = app(&server).await;
    hook(&server, config["webhook_url"].as_str().unwrap()).await;
    joined(&app).await;
    eventually("they were refused", async || server.deliveries().iter().filter(|d| d.status == Some(401)).count() == 2)
        .await;
    assert_eq!(app.count("webhook_events").await, 0);
    let change = json!({"settings": {"webhook_checksum": "address"}});
    app.admin().patch(&config_path(&config, ""), &change).await.expect(StatusCode::OK);
    joined(&app).await;
    eventually("they are taken", async || app.count("webhook_events").await == 2).await;
}

#[tokio::test]
async fn a_batch_of_the_operators_server_comes_to_the_short_address() {
    let server = server().await;
    let webhooks = WebhookFaults { batch: 3, reorder: 3, ..WebhookFaults::default() };
    server.set_faults(Faults { webhooks, ..Faults::default() });
    let url = server.url();
    let own = ["--bbb-server-url", &url, "--bbb-shared-secret", BBB_SECRET, "--public-url", "http://{address}"];
    let app = TestApp::start_with(&own).await;
    hook(&server, &format!("http://{}{BASE}/webhooks/bbb/", app.address)).await;
    let session = app.live(json!({"provider": "bbb"})).await;
    let joined = app.teacher().call(&path(&session, "join/")).await.expect(StatusCode::OK);
    reqwest::get(joined["join_url"].as_str().unwrap()).await.unwrap();
    server.leave(room(&session), "teacher");
    eventually("all are stored", async || app.count("webhook_events").await == 3).await;
    assert_eq!(server.deliveries().len(), 1);
    assert_eq!(app.count("webhook_events where tenant_id is not null and provider_config_id is null").await, 3);
    assert_eq!(app.count("webhook_events where body::text like '%-pass%'").await, 0);
}

#[tokio::test]
async fn the_server_calls_the_addresses_that_it_was_told() {
    let server = server().await;
    let (app, _) = app(&server).await;
    let session = joined(&app).await;
    server.end(room(&session));
    let seconds = |n: i64| (now() + chrono::TimeDelta::seconds(n)).to_rfc3339();
    let attendees = json!([{"ext_user_id": "ali/1", "name": "Ali", "joins": [seconds(-60)], "leaves": [seconds(-10)]}]);
    eventually("it has ended", async || server.meetings().is_empty()).await;
    server.send_analytics(room(&session), attendees).await;
    let format = |kind: &str| Format { kind: kind.into(), url: format!("{}playback/{kind}", server.url()), length: 1 };
    let formats = vec![format("presentation"), format("notes")];
    let recording = NewRecording { meeting_id: room(&session).into(), record_id: None, formats, ready_url: None };
    server.record(recording).await;
    let expected = [
        "analytics-callback",
        "end-callback",
        "end-callback-nothing-recorded",
        "recording-ready-callback",
        "recording-ready-callback",
    ];
    eventually("all are stored", async || app.count("webhook_events").await == 5).await;
    let id = uuid::Uuid::parse_str(session["id"].as_str().unwrap()).unwrap();
    assert_eq!(events(&app).await, expected.map(|event| (event.to_owned(), Some(id))));
    assert!(server.deliveries().iter().all(|delivery| delivery.status == Some(200)), "{:?}", server.deliveries());
}

#[tokio::test]
async fn nobody_else_may_call_them() {
    let server = server().await;
    let (app, _) = app(&server).await;
    let session = joined(&app).await;
    let id = session["id"].as_str().unwrap();
    let to = |rest: &str| format!("/webhooks/bbb/callbacks/{id}/{rest}");
    let call = async |method: Method, to: &str, body: &'static str| {
        answer(app.anonymous().request(method, to).body(body)).await
    };
    call(Method::GET, &to("end/0123456789abcdef/"), "").await.problem(401, "unauthorized");
    call(Method::POST, &to("recording-ready/"), "").await.problem(401, "unauthorized");
    call(Method::POST, &to("recording-ready/"), "signed_parameters=a.b.c").await.problem(401, "unauthorized");
    call(Method::POST, &to("analytics/"), "{}").await.problem(401, "unauthorized");
    // That one is not there is told in another way than 404: a balancer would not try its other secrets.
    let jitsi = app.configure(&jitsi("Jitsi", json!({}))).await;
    let elsewhere = app.live(json!({"provider_config_id": jitsi["id"]})).await;
    for id in [elsewhere["id"].as_str().unwrap(), "019abcde-0000-7000-8000-000000000000"] {
        for (method, rest) in
            [(Method::GET, "end/0123/"), (Method::POST, "recording-ready/"), (Method::POST, "analytics/")]
        {
            let answer = call(method, &format!("/webhooks/bbb/callbacks/{id}/{rest}"), "").await;
            answer.problem(410, "meeting-gone");
        }
    }
    assert_eq!(app.count("webhook_events").await, 0);
}

/// A recording that is a page is told, and cannot be downloaded.
#[tokio::test]
async fn a_page_that_plays_a_recording_is_linked_to() {
    let server = server().await;
    let (app, _) = app(&server).await;
    let session = app.live(json!({})).await;
    let id = session["id"].as_str().unwrap();
    app.sql(&format!(
        "insert into recordings (id, tenant_id, session_id, external_id, state, playback_url, format) \
         select gen_random_uuid(), tenant_id, id, 'r/presentation', 'published', 'https://bbb.test/p', 'presentation' \
         from sessions where id = '{id}'"
    ))
    .await;
    let list = app.student("ali").get(&path(&session, "recordings/")).await.expect(StatusCode::OK);
    let shown = &list["results"][0];
    assert_eq!((&shown["playback_url"], &shown["format"]), (&json!("https://bbb.test/p"), &json!("presentation")));
    let download = format!("/recordings/{}/download/", shown["id"].as_str().unwrap());
    app.student("ali").get(&download).await.problem(409, "recording-is-a-page");
}
