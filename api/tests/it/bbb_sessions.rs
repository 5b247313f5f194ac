//! Sessions that are held at a BigBlueButton: the first join makes the meeting.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sandbox::bigbluebutton::{BigBlueButton, Faults};
use serde_json::{Value, json};

use crate::{provider_configs::*, support::*};

const BBB_SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

async fn server() -> BigBlueButton {
    BigBlueButton::start(None, BBB_SECRET).await.unwrap()
}

/// An API whose tenant has this server as its default.
async fn app(server: &BigBlueButton, more: &[&str]) -> (TestApp, Value) {
    let app = TestApp::start_with(&[&["--provider-configs-allow-private"], more].concat()).await;
    let config = app.configure_default(&bbb("BBB", &server.url())).await;
    (app, config)
}

/// Opens a link as a browser does.
async fn open(joined: &Value) -> StatusCode {
    let browser = reqwest::Client::new();
    let page = browser.get(joined["join_url"].as_str().unwrap()).send().await.unwrap();
    let is_client = page.url().path() == "/html5client/join";
    if is_client { page.status() } else { StatusCode::FORBIDDEN }
}

#[tokio::test]
async fn the_first_join_makes_the_meeting_and_everybody_gets_a_link_of_their_own() {
    let server = server().await;
    let (app, config) = app(&server, &[]).await;
    let session = app.live(json!({"title": "Cebir: x² & <y>", "recording_enabled": true})).await;
    assert_eq!((&session["provider"], &session["provider_config_id"]), (&json!("bbb"), &config["id"]));
    assert!(server.calls().is_empty(), "a meeting that nobody joins would be removed again");
    let join = async |who: Client<'_>| who.call(&path(&session, "join/")).await.expect(StatusCode::OK);
    let host = join(app.teacher()).await;
    assert_eq!((&host["provider"], &host["role"], &host["token"]), (&json!("bbb"), &json!("host"), &json!("")));
    let student = join(app.student("ali/1")).await;
    for joined in [&host, &student] {
        assert_eq!(open(joined).await, StatusCode::OK, "{joined}");
    }
    let [meeting] = <[_; 1]>::try_from(server.meetings()).unwrap();
    assert_eq!(json!(meeting.meeting_id), session["room"]);
    assert_eq!((meeting.name.as_str(), meeting.record), ("Cebir: x² & <y>", true));
    let there: Vec<_> =
        meeting.attendees.iter().map(|one| (one.user_id.as_str(), one.full_name.as_str(), one.role.as_str())).collect();
    assert_eq!(there, [("teacher", "Name of teacher", "MODERATOR"), ("ali/1", "Name of ali/1", "VIEWER")]);
    // The link of one is not the link of another.
    let forged = student["join_url"].as_str().unwrap().replace("role=VIEWER", "role=MODERATOR");
    assert_eq!(open(&json!({"join_url": forged})).await, StatusCode::FORBIDDEN);
    assert_eq!(app.count("participants").await, 2);
}

#[tokio::test]
async fn people_who_come_first_at_once_are_in_one_meeting() {
    let server = server().await;
    // Each call takes long enough that all of them are under way.
    server.set_faults(Faults { delay_ms: 300, ..Faults::default() });
    let (app, _) = app(&server, &["--database-pool", "2"]).await;
    let replica = app.replica(&["--provider-configs-allow-private"]).await;
    let session = app.live(json!({})).await;
    let joins = (0..12).map(|n| {
        let (app, address) = (if n % 2 == 0 { &app } else { &replica }, path(&session, "join/"));
        async move { app.student(&format!("s{n}")).call(&address).await.expect(StatusCode::OK) }
    });
    let joined = futures::future::join_all(joins).await;
    assert_eq!(server.meetings().len(), 1);
    server.set_faults(Faults::default());
    for joined in &joined {
        assert_eq!(open(joined).await, StatusCode::OK);
    }
    assert_eq!(server.meetings()[0].attendees.len(), 12);
}

#[tokio::test]
async fn a_server_that_is_down_or_slow_leaves_everything_as_it_was() {
    let server = server().await;
    let (app, _) = app(&server, &[]).await;
    let session = app.planned(json!({"starts_at": in_minutes(5), "ends_at": in_minutes(60)})).await;
    let join = async || app.teacher().call(&path(&session, "join/")).await;
    for faults in [
        Faults { status: Some(502), ..Faults::default() },
        Faults { key: Some("serverUnavailable".into()), ..Faults::default() },
        Faults { delay_ms: 30_000, ..Faults::default() },
    ] {
        server.set_faults(faults.clone());
        let began = Instant::now();
        let answer = join().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{faults:?}: {:?}", began.elapsed());
        assert_eq!(answer.header("retry-after"), "5", "{faults:?}");
        let problem = answer.problem(503, "provider-unavailable");
        assert!(!problem.to_string().contains("127.0.0.1"), "{problem}");
        assert_eq!(app.count("participants").await, 0);
        let kept = app.teacher().get(&path(&session, "")).await.expect(StatusCode::OK);
        assert_eq!(kept, session, "the session did not start");
    }
    // It has failed three times: for a while nobody asks it, and nobody waits for it.
    server.set_faults(Faults::default());
    let (asked, began) = (server.calls().len(), Instant::now());
    let answer = join().await;
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=6).contains(&seconds), "{seconds}");
    answer.problem(503, "provider-unavailable");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(server.calls().len(), asked);
    // Another replica has not seen it fail.
    let replica = app.replica(&["--provider-configs-allow-private"]).await;
    let other = replica.teacher().call(&path(&session, "join/")).await.expect(StatusCode::OK);
    assert_eq!(open(&other).await, StatusCode::OK);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let joined = join().await.expect(StatusCode::OK);
    assert_eq!(open(&joined).await, StatusCode::OK);
    assert_eq!(app.teacher().get(&path(&session, "")).await.expect(StatusCode::OK)["status"], "live");
}

#[tokio::test]
async fn while_a_server_is_slow_nobody_waits_for_the_database() {
    let server = server().await;
    let (app, _) = app(&server, &["--database-pool", "2"]).await;
    let session = app.live(json!({})).await;
    server.set_faults(Faults { delay_ms: 2_000, ..Faults::default() });
    let joins = (0..8).map(|n| {
        let (app, address) = (&app, path(&session, "join/"));
        async move {
            let who = app.student(&format!("s{n}"));
            // A key makes no difference.
            let answer =
                if n % 2 == 0 { who.call(&address).await } else { who.post_once(&address, "k", &json!({})).await };
            answer.expect(StatusCode::OK)
        }
    });
    let others = async {
        eventually("one of them asks the server, the others wait for it", async || server.calls().len() == 1).await;
        let began = Instant::now();
        let body = json!({"title": "Renamed", "description": "while eight people wait for the meeting"});
        app.teacher().patch(&path(&session, ""), &body).await.expect(StatusCode::OK);
        app.teacher().get("/sessions/").await.expect(StatusCode::OK);
        began.elapsed()
    };
    let (_, took) = futures::future::join(futures::future::join_all(joins), others).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(app.count("participants").await, 8);
}

#[tokio::test]
async fn a_join_with_a_key_is_repeated_without_asking_again() {
    let server = server().await;
    let (app, _) = app(&server, &[]).await;
    let session = app.live(json!({})).await;
    let join = async || app.student("ali").post_once(&path(&session, "join/"), "k1", &json!({})).await;
    server.set_faults(Faults { status: Some(503), ..Faults::default() });
    join().await.problem(503, "provider-unavailable");
    server.set_faults(Faults { delay_ms: 500, ..Faults::default() });
    // While the server is asked the key is free: who is first with the answer keeps it.
    let mut refused = 0;
    for answer in futures::future::join_all([join(), join(), join()]).await {
        if answer.status != StatusCode::OK {
            answer.problem(409, "idempotency-key-in-use");
            refused += 1;
        }
    }
    assert!(refused < 3);
    let asked = server.calls().len();
    let (first, again) = (join().await.expect(StatusCode::OK), join().await.expect(StatusCode::OK));
    assert_eq!(first, again);
    assert_eq!(server.calls().len(), asked);
    assert_eq!(app.count("participants").await, 1);
}

#[tokio::test]
async fn a_meeting_that_was_ended_at_the_server_gives_way_to_another_one_with_other_links() {
    let server = server().await;
    server.set_faults(Faults { end_ms: Some(300), ..Faults::default() });
    let (app, _) = app(&server, &[]).await;
    let session = app.live(json!({})).await;
    let join = async || app.teacher().call(&path(&session, "join/")).await;
    let first = join().await.expect(StatusCode::OK);
    server.end(session["room"].as_str().unwrap());
    // It lingers for a moment, in which there is neither the old one nor a new one.
    eventually("it counts as ended", async || server.meetings().iter().any(|m| m.forcibly_ended)).await;
    join().await.problem(503, "provider-unavailable");
    eventually("it is gone", async || server.meetings().is_empty()).await;
    let second = join().await.expect(StatusCode::OK);
    assert_eq!((open(&first).await, open(&second).await), (StatusCode::FORBIDDEN, StatusCode::OK));
    assert_eq!(server.count("join", "mismatchCreateTimeParam"), 1);
    assert_eq!(app.teacher().get(&path(&session, "")).await.expect(StatusCode::OK)["status"], "live");
}

#[tokio::test]
async fn nobody_makes_a_meeting_who_may_not_join_it() {
    let server = server().await;
    let (app, config) = app(&server, &[]).await;
    let (later, private) = (app.planned(json!({})).await, app.live(json!({"access": "invitees"})).await);
    let join = async |who: Client<'_>, session: &Value| who.call(&path(session, "join/")).await;
    join(app.student("ali"), &later).await.problem(409, "join-not-open");
    join(app.student("ali"), &private).await.problem(404, "not-found");
    join(app.foreigner(), &later).await.problem(404, "not-found");
    join(app.service(), &later).await.problem(403, "forbidden");
    let ended = app.live(json!({})).await;
    app.teacher().call(&path(&ended, "end/")).await.expect(StatusCode::OK);
    join(app.teacher(), &ended).await.problem(410, "session-ended");
    let small = app.live(json!({"max_participants": 1})).await;
    join(app.student("a"), &small).await.expect(StatusCode::OK);
    join(app.student("b"), &small).await.problem(409, "session-full");
    assert_eq!(server.calls().len(), 1);
    app.admin().patch(&config_path(&config, ""), &json!({"enabled": false})).await.expect(StatusCode::OK);
    join(app.teacher(), &small).await.problem(409, "provider-config-disabled");
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_know_us_is_somebody_s_to_mend() {
    let server = server().await;
    let (app, config) = app(&server, &[]).await;
    let session = app.live(json!({})).await;
    let join = async || app.teacher().call(&path(&session, "join/")).await;
    let secret = |secret: &str| json!({"secrets": {"shared_secret": secret}});
    app.admin().patch(&config_path(&config, ""), &secret("another-secret")).await.expect(StatusCode::OK);
    join().await.problem(502, "provider-refused");
    assert_eq!(server.count("create", "checksumError"), 1);
    app.admin().patch(&config_path(&config, ""), &secret(BBB_SECRET)).await.expect(StatusCode::OK);
    server.set_faults(Faults { status: Some(404), ..Faults::default() });
    join().await.problem(502, "provider-refused");
    server.set_faults(Faults::default());
    join().await.expect(StatusCode::OK);
    // A private address, without the operator's consent.
    let strict = app.replica(&[]).await;
    strict.teacher().call(&path(&session, "join/")).await.problem(502, "provider-refused");
}

#[tokio::test]
async fn the_operators_server_may_be_in_a_private_network_and_the_only_one() {
    let server = server().await;
    let url = server.url();
    let own = ["--bbb-server-url", url.as_str(), "--bbb-shared-secret", BBB_SECRET];
    let beside = TestApp::start_with(&own).await;
    assert_eq!(beside.live(json!({})).await["provider"], "jitsi");
    let alone = [&own[..], &["--jitsi-domain", "", "--jitsi-app-id", "", "--jitsi-jwt-secret", ""]].concat();
    let alone = TestApp::start_with(&alone).await;
    for (app, changes) in [(&beside, json!({"provider": "bbb"})), (&alone, json!({}))] {
        let session = app.live(changes).await;
        assert_eq!((&session["provider"], &session["provider_config_id"]), (&json!("bbb"), &Value::Null));
        let joined = app.teacher().call(&path(&session, "join/")).await.expect(StatusCode::OK);
        assert_eq!(open(&joined).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_end_a_cancellation_and_a_deletion_have_the_meeting_ended() {
    let server = server().await;
    let (app, config) = app(&server, &[]).await;
    let early = json!({"starts_at": in_minutes(600), "ends_at": in_minutes(660)});
    let (live, cancelled, deleted) =
        (app.live(json!({})).await, app.planned(early.clone()).await, app.planned(early).await);
    // The host is there already, to set up the room.
    for session in [&live, &cancelled, &deleted] {
        app.teacher().call(&path(session, "join/")).await.expect(StatusCode::OK);
    }
    app.teacher().call(&path(&live, "end/")).await.expect(StatusCode::OK);
    app.teacher().call(&path(&live, "end/")).await.expect(StatusCode::OK);
    app.teacher().call(&path(&cancelled, "cancel/")).await.expect(StatusCode::OK);
    assert_eq!(app.teacher().delete(&path(&deleted, "")).await.status, StatusCode::NO_CONTENT);
    let ends: Vec<_> = app.jobs().await.into_iter().filter(|(kind, _)| kind == "end-meeting").collect();
    let expected = [&live, &cancelled, &deleted].map(|session| {
        let payload =
            json!({"provider": "bbb", "provider_config_id": config["id"], "room": session["room"], "server": null});
        ("end-meeting".to_owned(), payload)
    });
    assert_eq!(ends, expected);
    // At a Jitsi there is nothing to end.
    let jitsi = app.configure(&jitsi("Jitsi", json!({}))).await;
    let session = app.live(json!({"provider_config_id": jitsi["id"]})).await;
    app.teacher().call(&path(&session, "end/")).await.expect(StatusCode::OK);
    assert_eq!(app.count("jobs where kind = 'end-meeting'").await, 3);
}
