//! Sessions that are held at Zoom: the first join makes the meeting, and everybody gets a link of their own.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sandbox::zoom::{Account, Faults, RateLimit, Zoom};
use serde_json::{Value, json};

use crate::{provider_configs::*, support::*};

const CLIENT_SECRET: &str = "a-client-secret";
const WEBHOOK_SECRET: &str = "a-webhook-secret-x";

async fn zoom() -> Zoom {
    Zoom::start(None, Account::new(CLIENT_SECRET, WEBHOOK_SECRET)).await.unwrap()
}

pub fn config(zoom: &Zoom, settings: Value) -> Value {
    let account = zoom.account();
    let mut whole =
        json!({"account_id": account.account_id, "client_id": account.client_id, "user_id": account.user_email});
    whole.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let secrets =
        json!({"client_secret": CLIENT_SECRET, "webhook_secret": WEBHOOK_SECRET, "sdk_secret": "an-sdk-secret"});
    json!({"name": "Zoom", "provider": "zoom", "secrets": secrets, "settings": whole})
}

/// An API whose tenant has this account as its default.
async fn app(zoom: &Zoom, settings: Value) -> (TestApp, Value) {
    let app = TestApp::start_with(&places(&zoom.oauth_url(), &zoom.api_url())).await;
    let config = app.configure_default(&config(zoom, settings)).await;
    (app, config)
}

fn places<'a>(oauth: &'a str, api: &'a str) -> [&'a str; 4] {
    ["--zoom-oauth-url", oauth, "--zoom-api-url", api]
}

async fn join(who: Client<'_>, session: &Value) -> Answer {
    who.call(&path(session, "join/")).await
}

async fn joined(who: Client<'_>, session: &Value) -> Value {
    join(who, session).await.expect(StatusCode::OK)
}

fn link(joined: &Value) -> &str {
    joined["join_url"].as_str().unwrap()
}

#[tokio::test]
async fn the_first_join_makes_the_meeting_and_everybody_gets_a_link_of_their_own() {
    let zoom = zoom().await;
    let (app, config) = app(&zoom, json!({"sdk_key": "an-sdk-key"})).await;
    assert_eq!(config["webhook_url"], format!("{BASE}/webhooks/zoom/{}/", config["id"].as_str().unwrap()));
    let session = app.live(json!({"title": "Cebir: x² & <y>", "recording_enabled": true})).await;
    assert_eq!((&session["provider"], &session["provider_config_id"]), (&json!("zoom"), &config["id"]));
    assert!(zoom.calls().is_empty());

    let student = joined(app.student("ali/1"), &session).await;
    let meetings = zoom.meetings();
    let [meeting] = meetings.as_slice() else { panic!("{meetings:?}") };
    assert!(meeting.id > i64::from(u32::MAX));
    assert_eq!(
        (meeting.topic.as_str(), meeting.agenda.as_str()),
        ("Cebir: x² & <y>", session["room"].as_str().unwrap())
    );
    assert_eq!(meeting.settings["auto_recording"], "cloud");
    assert_eq!((&student["role"], &student["provider"]), (&json!("participant"), &json!("zoom")));
    assert_eq!(link(&student), meeting.registrants[0].join_url);
    assert_eq!(meeting.registrants[0].first_name, "Name of");
    // Zoom learns nobody's address.
    assert!(!format!("{:?}", meeting.registrants).contains("okul.example"));

    let host = joined(app.teacher(), &session).await;
    assert!(link(&host).contains(&format!("/s/{}?zak=", meeting.id)), "{host}");
    let signature = |joined: &Value| {
        let payload = joined["token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let (ours, theirs) = (signature(&host), signature(&student));
    assert_eq!((&ours["role"], &theirs["role"], &theirs["appKey"]), (&json!(1), &json!(0), &json!("an-sdk-key")));
    assert_eq!(theirs["mn"], meeting.id.to_string());
    let other = joined(app.student("veli"), &session).await;
    assert_ne!(link(&other), link(&student));

    // Again: the same link, without a word to Zoom. The host's is another one each time.
    let asked = zoom.calls().len();
    assert_eq!(link(&joined(app.student("ali/1"), &session).await), link(&student));
    assert_eq!(zoom.calls().len(), asked);
    assert_ne!(link(&joined(app.teacher(), &session).await), link(&host));
    assert_eq!((zoom.count("create", 201), zoom.count("register", 201), zoom.count("token", 200)), (1, 2, 1));

    // Nothing of what lets people in is stored in the clear.
    let dump: String = sqlx::query_scalar(
        "select concat((select string_agg(m::text, '') from meetings m), (select string_agg(r::text, '') \
         from meeting_registrants r))",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    for secret in ["zak", "tk=", "pwd", "http"] {
        assert!(!dump.contains(secret), "{secret}: {dump}");
    }
    assert!(dump.contains(&meeting.id.to_string()));
}

#[tokio::test]
async fn a_class_that_comes_at_once_makes_one_meeting() {
    let zoom = zoom().await;
    let (app, _) = app(&zoom, json!({})).await;
    let session = app.live(json!({})).await;
    zoom.set_faults(Faults { delay_ms: 300, ..Faults::default() });
    let other = app.replica(&places(&zoom.oauth_url(), &zoom.api_url())).await;
    let joins = (0..8).map(|n| {
        let (app, session) = (if n % 2 == 0 { &app } else { &other }, &session);
        async move { joined(app.student(&format!("s{n}")), session).await }
    });
    let links: std::collections::BTreeSet<_> =
        futures::future::join_all(joins).await.iter().map(|joined| link(joined).to_owned()).collect();
    assert_eq!(links.len(), 8);
    assert_eq!((zoom.count("create", 201), zoom.meetings().len()), (1, 1));
    // One token for each process, whoever asked first.
    assert_eq!(zoom.count("token", 200), 2);
}

#[tokio::test]
async fn a_meeting_whose_making_was_not_heard_of_is_found_again() {
    let zoom = zoom().await;
    let (app, _) = app(&zoom, json!({})).await;
    // Others are there.
    for _ in 0..5 {
        let other = app.live(json!({})).await;
        joined(app.teacher(), &other).await;
    }
    let session = app.live(json!({})).await;
    zoom.set_faults(Faults { lose_answers_of: vec!["create".into()], ..Faults::default() });
    join(app.teacher(), &session).await.problem(503, "provider-unavailable");
    assert_eq!(zoom.meetings().len(), 6);
    zoom.set_faults(Faults::default());
    joined(app.teacher(), &session).await;
    assert_eq!((zoom.meetings().len(), zoom.count("list", 200)), (6, 1));
    // And where it was not made after all, it is made.
    let session = app.live(json!({})).await;
    zoom.set_faults(Faults { status: Some(502), only: vec!["create".into()], ..Faults::default() });
    join(app.teacher(), &session).await.problem(503, "provider-unavailable");
    zoom.set_faults(Faults::default());
    joined(app.teacher(), &session).await;
    assert_eq!(zoom.meetings().len(), 7);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_for_all_who_wait() {
    let zoom = zoom().await;
    let (app, _) = app(&zoom, json!({})).await;
    let session = app.live(json!({})).await;
    joined(app.teacher(), &session).await;
    zoom.expire_tokens();
    zoom.set_faults(Faults { delay_ms: 100, ..Faults::default() });
    let joins = (0..6).map(|_| joined(app.teacher(), &session));
    futures::future::join_all(joins).await;
    assert_eq!((zoom.count("token", 200), zoom.count("get", 401) > 0), (2, true));
    // One that is only good for seconds is asked for anew when they are over.
    zoom.expire_tokens();
    zoom.set_faults(Faults { token_seconds: Some(2), ..Faults::default() });
    joined(app.teacher(), &session).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let refused = zoom.count("get", 401);
    joined(app.teacher(), &session).await;
    assert_eq!((zoom.count("token", 200), zoom.count("get", 401)), (4, refused));
}

#[tokio::test]
async fn too_many_calls_are_waited_out_if_that_is_short() {
    let zoom = zoom().await;
    let (app, _) = app(&zoom, json!({})).await;
    let session = app.live(json!({})).await;
    let limit = RateLimit { times: Some(1), kind: Some("QPS".into()), retry_after: None };
    zoom.set_faults(Faults { rate_limit: Some(limit), only: vec!["create".into()], ..Faults::default() });
    joined(app.student("ali"), &session).await;
    assert_eq!((zoom.count("create", 429), zoom.count("create", 201)), (1, 1));
}

#[tokio::test]
async fn a_limit_of_the_day_is_told_to_all_processes() {
    let zoom = zoom().await;
    let (app, _) = app(&zoom, json!({})).await;
    let (session, made) = (app.live(json!({})).await, app.live(json!({})).await);
    joined(app.teacher(), &made).await;
    let until = now() + chrono::TimeDelta::hours(3);
    let limit = RateLimit {
        times: None,
        kind: Some("Daily-limit".into()),
        retry_after: Some(until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
    };
    zoom.set_faults(Faults { rate_limit: Some(limit), only: vec!["create".into()], ..Faults::default() });
    let answer = join(app.teacher(), &session).await;
    let wait: i64 = answer.header("retry-after").parse().unwrap();
    answer.problem(503, "provider-busy");
    assert!((10_700..=10_800).contains(&wait), "{wait}");
    let asked = zoom.count("create", 429);
    let other = app.replica(&places(&zoom.oauth_url(), &zoom.api_url())).await;
    for app in [&app, &other] {
        join(app.teacher(), &session).await.problem(503, "provider-busy");
    }
    assert_eq!(zoom.count("create", 429), asked);
    // What is made already is joined as ever.
    joined(app.student("ali"), &made).await;
}

#[tokio::test]
async fn a_meeting_that_was_deleted_at_zoom_is_made_again() {
    let zoom = zoom().await;
    let (app, _) = app(&zoom, json!({})).await;
    let session = app.live(json!({})).await;
    let first = joined(app.teacher(), &session).await;
    let known = joined(app.student("ali"), &session).await;
    let number = zoom.meetings()[0].id;
    let token = reqwest::Client::new();
    let gone = token.delete(format!("{}/meetings/{number}", zoom.api_url())).bearer_auth(token_of(&zoom).await);
    assert_eq!(gone.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let second = joined(app.teacher(), &session).await;
    let new = zoom.meetings()[0].id;
    assert_ne!(number, new);
    assert!(link(&first).contains(&number.to_string()) && link(&second).contains(&new.to_string()));
    let again = joined(app.student("ali"), &session).await;
    assert_ne!(link(&again), link(&known));
}

/// A token of a client that is not ours.
async fn token_of(zoom: &Zoom) -> String {
    let account = zoom.account();
    let asked = reqwest::Client::new()
        .post(zoom.oauth_url())
        .basic_auth(&account.client_id, Some(CLIENT_SECRET))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("grant_type=account_credentials&account_id={}", account.account_id));
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn nobody_waits_long_for_a_zoom_that_is_slow_or_refuses() {
    let zoom = zoom().await;
    let (app, config) = app(&zoom, json!({})).await;
    let session = app.live(json!({})).await;
    zoom.set_faults(Faults { delay_ms: 8_000, ..Faults::default() });
    let began = Instant::now();
    join(app.teacher(), &session).await.problem(503, "provider-unavailable");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    zoom.set_faults(Faults { code: Some(4711), ..Faults::default() });
    join(app.teacher(), &session).await.problem(502, "provider-refused");
    zoom.set_faults(Faults::default());
    let wrong = json!({"secrets": {"client_secret": "another-secret"}});
    app.admin().patch(&config_path(&config, ""), &wrong).await.expect(StatusCode::OK);
    join(app.teacher(), &session).await.problem(502, "provider-refused");
    let right = json!({"secrets": {"client_secret": CLIENT_SECRET}});
    app.admin().patch(&config_path(&config, ""), &right).await.expect(StatusCode::OK);
    joined(app.teacher(), &session).await;
    assert!(zoom.meetings().len() <= 2);
}

#[tokio::test]
async fn without_registration_all_but_the_host_have_one_link() {
    let zoom = zoom().await;
    let (app, config) = app(&zoom, json!({"registration": "off"})).await;
    let session = app.live(json!({})).await;
    let (ali, veli) = (joined(app.student("ali"), &session).await, joined(app.student("veli"), &session).await);
    assert_eq!(link(&ali), link(&veli));
    assert_eq!((zoom.count("register", 201), &ali["token"]), (0, &json!("")));
    assert!(link(&joined(app.teacher(), &session).await).contains("/s/"));
    // A change is for meetings that are made from now on.
    let on = json!({"settings": {"registration": "on"}});
    app.admin().patch(&config_path(&config, ""), &on).await.expect(StatusCode::OK);
    assert_eq!(link(&joined(app.student("can"), &session).await), link(&ali));
    let new = app.live(json!({})).await;
    assert_ne!(link(&joined(app.student("ali"), &new).await), link(&joined(app.student("veli"), &new).await));
}

#[tokio::test]
async fn classes_that_overlap_are_shared_out_among_the_hosts() {
    let zoom = zoom().await;
    let further = json!({"further_user_ids": ["two@zoom.test", "three@zoom.test"]});
    let (app, _) = app(&zoom, further).await;
    let host_of = async |session: &Value| {
        joined(app.teacher(), session).await;
        let room = session["room"].as_str().unwrap();
        zoom.meetings().into_iter().find(|meeting| meeting.agenda == room).unwrap().host_email
    };
    let at = |from, to| json!({"starts_at": in_minutes(from), "ends_at": in_minutes(to)});
    let morning = [app.planned(at(60, 120)).await, app.planned(at(90, 150)).await, app.planned(at(119, 130)).await];
    let mut hosts = Vec::new();
    for session in &morning {
        hosts.push(host_of(session).await);
    }
    assert_eq!(hosts, ["classes@zoom.test", "two@zoom.test", "three@zoom.test"]);
    // After all of them, the first is free again; beside all of them, whoever has least.
    let (after, beside) = (app.planned(at(200, 260)).await, app.planned(at(125, 160)).await);
    assert_eq!(host_of(&after).await, "classes@zoom.test");
    assert_eq!(host_of(&beside).await, "classes@zoom.test");
    // A class that is over, or was called off, takes nobody's time.
    app.teacher().call(&path(&morning[1], "cancel/")).await.expect(StatusCode::OK);
    assert_eq!(host_of(&app.planned(at(95, 140)).await).await, "two@zoom.test");
    // All at once, from two processes.
    let other = app.replica(&places(&zoom.oauth_url(), &zoom.api_url())).await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(app.planned(at(600, 660)).await);
    }
    let joins = sessions.iter().enumerate().map(|(n, session)| {
        let app = if n % 2 == 0 { &app } else { &other };
        async move { joined(app.teacher(), session).await }
    });
    futures::future::join_all(joins).await;
    let mut counts = std::collections::BTreeMap::new();
    for session in &sessions {
        *counts.entry(host_of(session).await).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    // A lost answer is looked for with all of them.
    let lost = app.planned(at(600, 660)).await;
    zoom.set_faults(Faults { lose_answers_of: vec!["create".into()], ..Faults::default() });
    join(app.teacher(), &lost).await.problem(503, "provider-unavailable");
    zoom.set_faults(Faults::default());
    let made = zoom.meetings().len();
    host_of(&lost).await;
    assert_eq!(zoom.meetings().len(), made);
}

#[tokio::test]
async fn a_change_of_what_the_meeting_knows_is_told_by_a_job() {
    let zoom = zoom().await;
    let (app, _) = app(&zoom, json!({})).await;
    let session = app.planned(json!({})).await;
    let change = async |changes: Value| {
        app.teacher().patch(&path(&session, ""), &changes).await.expect(StatusCode::OK);
        app.count("jobs where kind = 'update-meeting'").await
    };
    assert_eq!(change(json!({"description": "x", "max_participants": 9})).await, 0);
    assert_eq!(change(json!({"title": "Geometry"})).await, 1);
    assert_eq!(change(json!({"title": "Geometry"})).await, 1);
    // Each change has one of its own: the first may be running already.
    assert_eq!(change(json!({"starts_at": in_minutes(90), "ends_at": in_minutes(150)})).await, 2);
    assert_eq!(change(json!({"recording_enabled": true})).await, 3);
    let elsewhere = app.configure(&jitsi("Jitsi", json!({}))).await;
    let other = app.planned(json!({"provider_config_id": elsewhere["id"]})).await;
    app.teacher().patch(&path(&other, ""), &json!({"title": "x"})).await.expect(StatusCode::OK);
    assert_eq!(app.count("jobs where kind = 'update-meeting'").await, 3);
}

#[tokio::test]
async fn webhooks_are_proven_stored_once_and_found_by_account() {
    let zoom = zoom().await;
    let (app, config) = app(&zoom, json!({})).await;
    let session = app.live(json!({})).await;
    joined(app.teacher(), &session).await;
    let number = zoom.meetings()[0].id;
    let base = format!("http://{}{BASE}/webhooks/zoom/", app.address);
    let own = format!("{base}{}/", config["id"].as_str().unwrap());
    let ask = async |url: &str| {
        let webhook = reqwest::Client::new().put(format!("{}/webhook", zoom.url())).json(&json!({"url": url}));
        webhook.send().await.unwrap().status()
    };
    for url in [&own, &base] {
        assert_eq!(ask(url).await, StatusCode::NO_CONTENT);
        assert_eq!(app.count("webhook_events").await, 0, "a question is not kept");
    }
    let stored = async || app.count("webhook_events where provider = 'zoom'").await;
    // By the address of the configuration, then by the customer's, where the account is found by its id.
    for (url, expected) in [(&own, 1), (&base, 2)] {
        zoom.set_webhook(url);
        zoom.act(sandbox::zoom::Act::Start { meeting: number }).await.unwrap();
        assert_eq!((zoom.deliveries().last().unwrap().status, stored().await), (200, expected));
    }
    assert_eq!(app.count("jobs where kind = 'process-webhook'").await, 2);
    let webhooks = sandbox::zoom::WebhookFaults { copies: 2, ..Default::default() };
    zoom.set_faults(Faults { webhooks, ..Faults::default() });
    zoom.act(sandbox::zoom::Act::End { meeting: number }).await.unwrap();
    assert_eq!(stored().await, 3);
    // What is not signed with the configuration's secret is nobody's.
    let stranger = Zoom::start(None, Account::new(CLIENT_SECRET, "another-webhook-secret")).await.unwrap();
    for url in [&own, &base] {
        stranger.set_webhook(url);
        stranger.send("meeting.started", json!({"object": {"id": number.to_string(), "uuid": "u"}})).await;
        assert_eq!(stranger.deliveries().last().unwrap().status, 401);
    }
    assert_eq!(stored().await, 3);
}
