//! The stand-in for Zoom, asked as its documentation says by a client of this test's own; and a class there, from the
//! plan to the report, through the whole system.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use sandbox::{
    people::{INSTRUCTOR, STUDENTS},
    recording_host::sha256_of,
    zoom::{Account, Act, Faults, NewFile, RateLimit, SEED, Visitor, WebhookFaults, Zoom},
};
use serde_json::{Value, json};
use shared::jobs::{Job as _, ReconcileAttendance};

use crate::support::{call, count, database, eventually, post, system};

/// Somebody who has read Zoom's documentation.
struct Caller {
    zoom: Zoom,
    http: reqwest::Client,
    token: String,
}

impl Caller {
    async fn new() -> Self {
        let zoom = Zoom::start(None, Account::new("a-client-secret", "a-webhook-secret-x")).await.unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut caller = Self { zoom, http, token: String::new() };
        let (status, answer) = caller.grant("account_credentials", "a-client-secret").await;
        assert_eq!((status, answer["token_type"].as_str()), (200, Some("bearer")));
        caller.token = answer["access_token"].as_str().unwrap().to_owned();
        caller
    }

    async fn grant(&self, grant: &str, secret: &str) -> (u16, Value) {
        let account = self.zoom.account();
        let request = self
            .http
            .post(self.zoom.oauth_url())
            .basic_auth(&account.client_id, Some(secret))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("grant_type={grant}&account_id={}", account.account_id));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/{path}", self.zoom.api_url());
        let answer = self.http.request(method, url).bearer_auth(&self.token).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, Value::Null).await
    }

    async fn meeting(&self, settings: Value) -> Value {
        let body = json!({
            "topic": "Algebra", "type": 2, "start_time": "2030-01-31T10:00:00Z", "duration": 60,
            "timezone": "Europe/Istanbul", "settings": settings,
        });
        let (status, made) = self.ask(Method::POST, "users/classes@zoom.test/meetings", body).await;
        assert_eq!(status, 201, "{made}");
        made
    }
}

#[tokio::test]
async fn what_the_real_zoom_refuses_is_refused() {
    let caller = Caller::new().await;
    assert_eq!(caller.grant("client_credentials", "a-client-secret").await.1["error"], "unsupported_grant_type");
    let (status, wrong) = caller.grant("account_credentials", "x").await;
    assert_eq!((status, &wrong["error"]), (401, &json!("invalid_client")));
    assert_eq!(caller.get("users/nobody").await.1["code"], 1001);
    assert_eq!(
        caller.get("meetings/12345").await,
        (404, json!({"code": 3001, "message": "Meeting does not exist: 12345."}))
    );
    for (field, wrong) in [
        ("start_time", json!("2030-01-31T10:00:00")),
        ("timezone", json!("Mars/Base")),
        ("duration", json!(0)),
        ("topic", json!("")),
        ("agenda", json!("x".repeat(2_001))),
    ] {
        let mut body = json!({"topic": "x", "start_time": "2030-01-31T10:00:00Z", "duration": 60});
        body[field] = wrong;
        let (status, told) = caller.ask(Method::POST, "users/classes@zoom.test/meetings", body).await;
        assert_eq!((status, &told["code"], &told["errors"][0]["field"]), (400, &json!(300), &json!(field)));
    }
    let without = caller.meeting(json!({"approval_type": 2})).await["id"].clone();
    let person = json!({"email": "a@b.test", "first_name": "A"});
    let register = async |id: &Value, body: &Value| {
        caller.ask(Method::POST, &format!("meetings/{id}/registrants"), body.clone()).await
    };
    assert_eq!(register(&without, &person).await.0, 400);
    let with = caller.meeting(json!({"approval_type": 0})).await["id"].clone();
    assert_eq!(register(&with, &json!({"email": "a", "first_name": "A"})).await.0, 400);
    let (status, first) = register(&with, &person).await;
    assert_eq!(status, 201);
    // The same address is the same person, three times a day.
    assert_eq!(register(&with, &person).await.1["registrant_id"], first["registrant_id"]);
    assert_eq!((register(&with, &person).await.0, register(&with, &person).await.0), (201, 429));
    caller.zoom.expire_tokens();
    assert_eq!(
        caller.get(&format!("meetings/{with}")).await,
        (401, json!({"code": 124, "message": "Invalid access token."}))
    );
}

#[tokio::test]
async fn a_run_is_named_by_a_uuid_that_may_have_to_be_encoded_twice() {
    let caller = Caller::new().await;
    let made = caller.meeting(json!({"approval_type": 2})).await;
    let id = made["id"].as_i64().unwrap();
    assert!(id > i64::from(u32::MAX));
    let mut uuids = Vec::new();
    for _ in 0..2 {
        let started = caller.zoom.act(Act::Start { meeting: id }).await.unwrap();
        uuids.push(started["uuid"].as_str().unwrap().to_owned());
        for n in 0..3 {
            let visitor = Visitor { user_name: format!("S{n}"), ..Visitor::default() };
            caller.zoom.act(Act::Join { meeting: id, visitor, through_waiting_room: n == 0 }).await.unwrap();
        }
        caller.zoom.act(Act::End { meeting: id }).await.unwrap();
    }
    let (_, told) = caller.get(&format!("past_meetings/{id}/instances")).await;
    let told: Vec<_> = told["meetings"].as_array().unwrap().iter().map(|run| run["uuid"].as_str().unwrap()).collect();
    assert_eq!(told, uuids);
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let report = |uuid: String| format!("report/meetings/{uuid}/participants?page_size=2");
    let odd = uuids.iter().find(|uuid| uuid.starts_with('/') && uuid.contains("//")).expect("one of two");
    assert_eq!(caller.get(&report(encoded(odd))).await.0, 404);
    let (_, page) = caller.get(&report(encoded(&encoded(odd)))).await;
    assert_eq!((page["total_records"].as_i64(), page["participants"].as_array().unwrap().len()), (Some(4), 2));
    assert_eq!(page["participants"][0]["status"], "in_waiting_room");
    let next =
        format!("{}&next_page_token={}", report(encoded(&encoded(odd))), page["next_page_token"].as_str().unwrap());
    let (_, page) = caller.get(&next).await;
    assert_eq!((page["participants"].as_array().unwrap().len(), &page["next_page_token"]), (2, &json!("")));
}

#[tokio::test]
async fn faults_happen_as_they_are_asked_for_over_http() {
    let caller = Caller::new().await;
    let put = async |faults: &Faults| {
        let answer = caller.http.put(format!("{}/faults", caller.zoom.url())).json(faults).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    };
    let limit = RateLimit {
        times: Some(1),
        kind: Some("Daily-limit".into()),
        retry_after: Some("2030-01-31T00:00:00Z".into()),
    };
    put(&Faults { rate_limit: Some(limit), only: vec!["user".into()], ..Faults::default() }).await;
    let url = format!("{}/users/classes@zoom.test", caller.zoom.api_url());
    let limited = caller.http.get(&url).bearer_auth(&caller.token).send().await.unwrap();
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers()["retry-after"], "2030-01-31T00:00:00Z");
    assert_eq!(limited.headers()["x-ratelimit-type"], "Daily-limit");
    assert_eq!(caller.get("users/classes@zoom.test").await.0, 200);
    put(&Faults { lose_answers_of: vec!["create".into()], ..Faults::default() }).await;
    let body = json!({"topic": "x", "start_time": "2030-01-31T10:00:00Z"});
    assert_eq!(caller.ask(Method::POST, "users/classes@zoom.test/meetings", body).await.0, 502);
    assert_eq!(caller.zoom.meetings().len(), 1);
    let unknown = caller.http.put(format!("{}/faults", caller.zoom.url())).json(&json!({"x": 1})).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

/// Everything that a class needs, once with webhooks that come late, twice and out of order, once without any.
#[tokio::test(flavor = "multi_thread")]
async fn a_class_at_zoom_is_held_counted_and_recorded() {
    let dir = tempfile::tempdir().expect("a directory");
    let system = system(&dir, 1, &[("RUST_LOG", "warn")]).await;
    let db = database(&system).await;
    let student = &STUDENTS[0];
    for lost in [false, true] {
        let body = json!({
            "kind": "instant", "title": format!("Lost: {lost}"), "access": "tenant", "provider": "zoom",
            "recording_enabled": true,
        });
        let session = post(&system, &INSTRUCTOR, "sessions/", &body).await["id"].as_str().expect("an id").to_owned();
        let join = format!("sessions/{session}/join/");
        let host = call(&system, &INSTRUCTOR, Method::POST, &join, None).await;
        assert!(host["join_url"].as_str().expect("a link").contains("/s/"), "{host}");
        let link = call(&system, student, Method::POST, &join, None).await["join_url"].clone();
        let page = reqwest::get(link.as_str().expect("a link")).await.expect("the page");
        assert!(page.status().is_success());
        let mut meetings = system.zoom.meetings().into_iter();
        let is_theirs = |known: &sandbox::zoom::Registrant| known.join_url == link;
        let meeting = meetings.find(|meeting| meeting.registrants.iter().any(is_theirs)).expect("a meeting");
        let registrant = meeting.registrants.iter().find(|known| is_theirs(known)).expect("a registrant");

        let webhooks = WebhookFaults { lose: lost, hold: !lost, copies: 1, ..WebhookFaults::default() };
        system.zoom.set_faults(Faults { webhooks, ..Faults::default() });
        let (id, name) = (meeting.id, student.name.to_owned());
        act(&system.zoom, Act::Start { meeting: id }).await;
        let visitor = Visitor { user_name: "Host".into(), host: true, ..Visitor::default() };
        act(&system.zoom, Act::Join { meeting: id, visitor, through_waiting_room: false }).await;
        let visitor =
            Visitor { user_name: name, registrant_id: registrant.registrant_id.clone(), ..Visitor::default() };
        act(&system.zoom, Act::Join { meeting: id, visitor, through_waiting_room: true }).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Ours ends it; Zoom is told.
        call(&system, &INSTRUCTOR, Method::POST, &format!("sessions/{session}/end/"), None).await;
        let status = || system.zoom.meetings().iter().find(|known| known.id == id).map(|known| known.status.clone());
        eventually("Zoom to be told", async || status().as_deref() == Some("waiting")).await;
        let files = vec![NewFile::new("MP4", "shared_screen_with_speaker_view", 300_000)];
        act(&system.zoom, Act::Record { meeting: id, files }).await;
        system.zoom.release().await;
        if lost {
            // What Zoom says afterwards; the test does not wait a quarter of an hour for it.
            let due = "update jobs set run_at = now() where kind = $1 and state = 'available'";
            eventually("the report to be planned", async || {
                sqlx::query(due)
                    .bind(ReconcileAttendance::NAME)
                    .execute(&db)
                    .await
                    .is_ok_and(|done| done.rows_affected() > 0)
            })
            .await;
        }
        let published = "select count(*) from recordings where state = 'published'";
        let expected = if lost { 2 } else { 1 };
        eventually("the recording", async || count(&db, published).await == expected).await;
        let path = format!("sessions/{session}/attendance/");
        let row = async || {
            let report = call(&system, &INSTRUCTOR, Method::GET, &path, None).await;
            let rows = report["results"].as_array().cloned().unwrap_or_default();
            rows.into_iter()
                .find(|row| row["person_id"] == json!(student.id))
                .filter(|_| report["final"] == json!(true))
        };
        let counted = |row: &Value| {
            let sources = row["intervals"].to_string();
            sources.contains(if lost { "end_report" } else { "webhook" })
        };
        eventually("the report", async || row().await.as_ref().is_some_and(counted)).await;
        let seconds = row().await.expect("a row")["present_seconds"].as_i64().expect("a number");
        assert!((1..=20).contains(&seconds), "a stay of some seconds counts {seconds}");
    }
    let sums: Vec<String> = sqlx::query_scalar("select sha256 from recordings").fetch_all(&db).await.expect("sums");
    assert_eq!(sums, [sha256_of(300_000, SEED), sha256_of(300_000, SEED)]);
    assert_eq!(system.zoom.count("create", 201), 2);
    let guests = "select count(*) from participants where person_id like 'guest:%'";
    assert_eq!(count(&db, guests).await, 0);
    let refused = system.zoom.deliveries().into_iter().filter(|delivery| delivery.status != 200).count();
    assert_eq!(refused, 0);
    system.stop().await;
}

async fn act(zoom: &Zoom, act: Act) -> Value {
    zoom.act(act).await.expect("it happens")
}
