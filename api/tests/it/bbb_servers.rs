//! Several BigBlueButton servers in one configuration.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sandbox::bigbluebutton::{BigBlueButton, Faults};
use serde_json::{Value, json};

use crate::{provider_configs::*, support::*};

const BBB_SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

fn host(server: &BigBlueButton) -> String {
    server.url().trim_start_matches("http://").split('/').next().unwrap().to_owned()
}

/// Two servers, of which the second has a secret of its own.
async fn two() -> (BigBlueButton, BigBlueButton) {
    let start = async |secret| BigBlueButton::start(None, secret).await.unwrap();
    (start(BBB_SECRET).await, start("the-second-servers-secret").await)
}

async fn app(a: &BigBlueButton, b: &BigBlueButton) -> (TestApp, Value) {
    let app = TestApp::start_with(&["--provider-configs-allow-private"]).await;
    let mut body = bbb("Servers", &a.url());
    body["settings"]["further_servers"] = json!([b.url()]);
    body["secrets"]["server_secrets"] = json!(format!("{}={}", host(b), b.secret()));
    let config = app.configure_default(&body).await;
    (app, config)
}

async fn join(app: &TestApp, who: &str, session: &Value) -> Value {
    app.student(who).call(&path(session, "join/")).await.expect(StatusCode::OK)
}

async fn come(app: &TestApp, who: &str, session: &Value) -> String {
    let joined = join(app, who, session).await;
    let page = reqwest::get(joined["join_url"].as_str().unwrap()).await.unwrap();
    assert_eq!(page.url().path(), "/html5client/join");
    format!("{}:{}", page.url().host_str().unwrap(), page.url().port().unwrap())
}

fn dead() -> Faults {
    Faults { dead: true, ..Faults::default() }
}

#[tokio::test]
async fn a_new_meeting_is_made_where_the_fewest_people_are_and_stays_there() {
    let (a, b) = two().await;
    let (app, _) = app(&a, &b).await;
    let (first, second) = (app.live(json!({})).await, app.live(json!({})).await);
    // In the order of the settings, while nobody is anywhere.
    for who in ["s1", "s2", "s3"] {
        assert_eq!(come(&app, who, &first).await, host(&a));
    }
    assert_eq!(come(&app, "s4", &second).await, host(&b));
    assert_eq!(come(&app, "s5", &first).await, host(&a), "although there are more people");
    assert_eq!((a.meetings().len(), b.meetings().len()), (1, 1));
    let third = app.live(json!({})).await;
    a.set_faults(Faults { status: Some(502), ..Faults::default() });
    b.set_faults(Faults { key: Some("unsupportedRequest".into()), ..Faults::default() });
    app.student("s6").call(&path(&third, "join/")).await.problem(502, "provider-refused");
    b.set_faults(Faults::default());
    assert_eq!(come(&app, "s6", &third).await, host(&b));
}

#[tokio::test]
async fn a_server_that_is_drained_keeps_its_meetings_and_takes_no_others() {
    let (a, b) = two().await;
    let (app, config) = app(&a, &b).await;
    let (old, new) = (app.live(json!({})).await, app.live(json!({})).await);
    assert_eq!(come(&app, "s1", &old).await, host(&a));
    let drain = json!({"settings": {"drained_servers": [host(&a)]}});
    app.admin().patch(&config_path(&config, ""), &drain).await.expect(StatusCode::OK);
    assert_eq!(come(&app, "s2", &old).await, host(&a));
    assert_eq!(come(&app, "s3", &new).await, host(&b));
    // Once its meeting is over, the next one is elsewhere.
    a.set_faults(Faults { end_ms: Some(0), ..Faults::default() });
    a.end(old["room"].as_str().unwrap());
    eventually("it is over", async || a.meetings().is_empty()).await;
    assert_eq!(come(&app, "s1", &old).await, host(&b));
    let wrong = json!({"settings": {"drained_servers": ["bbb9.example.org"]}});
    let refused = app.admin().patch(&config_path(&config, ""), &wrong).await;
    assert_eq!(refused.pointers(), ["/settings/drained_servers/0"]);
}

#[tokio::test]
async fn when_a_server_dies_during_a_class_everybody_gets_a_link_to_the_same_other_one() {
    let (a, b) = two().await;
    let (app, _) = app(&a, &b).await;
    let replica = app.replica(&["--provider-configs-allow-private"]).await;
    let session = app.live(json!({})).await;
    assert_eq!(come(&app, "s0", &session).await, host(&a));
    a.set_faults(dead());
    let began = Instant::now();
    let joins = (0..8).map(|n| {
        let (app, session) = (if n % 2 == 0 { &app } else { &replica }, &session);
        async move { join(app, &format!("s{n}"), session).await }
    });
    let joined = futures::future::join_all(joins).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for joined in &joined {
        assert!(joined["join_url"].as_str().unwrap().starts_with(&b.url()), "{joined}");
    }
    assert_eq!(b.meetings().len(), 1);
    let rows: Vec<(Option<String>, bool)> =
        sqlx::query_as("select server, ended_at is null from meetings order by created_at")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(rows, [(Some(host(&a)), false), (Some(host(&b)), true)]);
    // Should it come back, its meeting is ended: a class is in one place.
    let ends: Vec<Value> =
        app.jobs().await.into_iter().filter(|(kind, _)| kind == "end-meeting").map(|(_, payload)| payload).collect();
    assert_eq!(ends.len(), 1);
    assert_eq!((&ends[0]["server"], &ends[0]["room"]), (&json!(host(&a)), &session["room"]));
    a.set_faults(Faults::default());
    assert_eq!(come(&app, "s9", &session).await, host(&b));
}

#[tokio::test]
async fn while_no_server_is_there_nothing_changes() {
    let (a, b) = two().await;
    let (app, _) = app(&a, &b).await;
    let session = app.live(json!({})).await;
    assert_eq!(come(&app, "s0", &session).await, host(&a));
    for server in [&a, &b] {
        server.set_faults(dead());
    }
    let began = Instant::now();
    app.student("s1").call(&path(&session, "join/")).await.problem(503, "provider-unavailable");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for server in [&a, &b] {
        server.set_faults(Faults::default());
    }
    // Where it was, as soon as somebody asks.
    assert_eq!(come(&app, "s1", &session).await, host(&a));
}

#[tokio::test]
async fn the_test_of_a_configuration_names_the_server_that_is_wrong() {
    let (a, b) = two().await;
    let (app, config) = app(&a, &b).await;
    let test = async || app.admin().call(&config_path(&config, "test/")).await.expect(StatusCode::OK);
    assert_eq!(test().await["ok"], true);
    let wrong = json!({"secrets": {"server_secrets": format!("{}=another-secret", host(&b))}});
    app.admin().patch(&config_path(&config, ""), &wrong).await.expect(StatusCode::OK);
    let report = test().await;
    let secret = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "secret").unwrap();
    assert_eq!((&report["ok"], &secret["ok"]), (&json!(false), &json!(false)));
    assert!(secret["detail"].as_str().unwrap().starts_with(&format!("{}: ", host(&b))), "{secret}");
}
