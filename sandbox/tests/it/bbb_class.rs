//! A class at two BigBlueButton servers, of which one dies: the whole system, with webhooks that are late, doubled and lost.

use std::time::Duration;

use reqwest::Method;
use sandbox::{
    bigbluebutton::{BigBlueButton, Faults, Format, NewRecording, WebhookFaults},
    people::{self, ADMIN, INSTRUCTOR, OPERATOR, Person, STUDENTS},
    system::System,
};
use serde_json::{Value, json};
use shared::clock::Clock;

use crate::support::{call, count, database, eventually, post, system};

fn host(server: &BigBlueButton) -> String {
    server.url().trim_start_matches("http://").split('/').next().unwrap().to_owned()
}

/// Joins, and opens the link as a browser does; the server that it leads to.
async fn come(system: &System, person: &Person, session: &str) -> String {
    let joined = call(system, person, Method::POST, &format!("sessions/{session}/join/"), None).await;
    let page = reqwest::get(joined["join_url"].as_str().unwrap()).await.unwrap();
    assert_eq!(page.url().path(), "/html5client/join");
    format!("127.0.0.1:{}", page.url().port().unwrap())
}

async fn leave(system: &System, person: &Person, session: &str) {
    let token = people::token(person, system.var("AUTH_JWT_SECRET"), Clock::System.now()).unwrap();
    let url = format!("{}/api/v1/live-sessions/sessions/{session}/leave/", system.var("API_URL"));
    let answer = reqwest::Client::new().post(url).bearer_auth(token).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

async fn run(system: &System, schedule: &str) {
    call(system, &OPERATOR, Method::POST, &format!("schedules/{schedule}/run/"), None).await;
}

/// The servers, and their configuration as the tenant's default.
async fn configure(system: &System) -> (BigBlueButton, BigBlueButton) {
    let a = BigBlueButton::start(None, "the-first-servers-secret").await.unwrap();
    let b = BigBlueButton::start(None, "the-second-servers-secret").await.unwrap();
    for server in [&a, &b] {
        let webhooks =
            WebhookFaults { late_ms: 100, double: true, pauses_ms: Some(vec![100; 100]), ..WebhookFaults::default() };
        server.set_faults(Faults { webhooks, end_ms: Some(0), ..Faults::default() });
    }
    let body = json!({
        "name": "Servers", "provider": "bbb",
        "settings": {"server_url": a.url(), "further_servers": [b.url()]},
        "secrets": {"shared_secret": a.secret(), "server_secrets": format!("{}={}", host(&b), b.secret())},
    });
    let made = post(system, &ADMIN, "provider-configs/", &body).await;
    let id = made["id"].as_str().unwrap();
    call(system, &ADMIN, Method::POST, &format!("provider-configs/{id}/make-default/"), None).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_death_during_a_class_leaves_one_report() {
    let dir = tempfile::tempdir().unwrap();
    let off = [("SCHEDULE_POLL_MEETINGS", "0 0 1 1 *"), ("SCHEDULE_REGISTER_WEBHOOKS", "0 0 1 1 *")];
    let system = system(&dir, 1, &off).await;
    let db = database(&system).await;
    let (a, b) = configure(&system).await;
    run(&system, "register-webhooks").await;
    eventually("both are told where to send webhooks", async || a.hooks().len() == 1 && b.hooks().len() == 1).await;

    let class = json!({"title": "Cebir", "kind": "instant", "access": "tenant", "recording_enabled": true});
    let session = post(&system, &INSTRUCTOR, "sessions/", &class).await;
    let (id, room) = (session["id"].as_str().unwrap(), session["room"].as_str().unwrap());
    for person in [&INSTRUCTOR, &STUDENTS[0], &STUDENTS[1]] {
        assert_eq!(come(&system, person, id).await, host(&a));
    }
    let open = "select count(*) from participants where source = 'webhook' and left_at is null";
    eventually("all three are noted down", async || count(&db, open).await == 3).await;

    // Whoever joins now is led elsewhere; one of them does not come again, and their page sends no heartbeats any more.
    leave(&system, &STUDENTS[1], id).await;
    a.set_faults(Faults { dead: true, ..Faults::default() });
    b.set_faults(Faults {
        webhooks: WebhookFaults { lost: vec!["*".into()], ..WebhookFaults::default() },
        end_ms: Some(0),
        ..Faults::default()
    });
    for person in [&INSTRUCTOR, &STUDENTS[0]] {
        assert_eq!(come(&system, person, id).await, host(&b));
    }
    eventually("who was at the dead one was there until then", async || count(&db, open).await == 0).await;
    // The other one's webhooks are lost: it is asked.
    run(&system, "poll-meetings").await;
    eventually("who is at the other one is found by asking", async || count(&db, open).await == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    // The dead one comes back: its meeting is ended, and nobody at the other one has left by that.
    a.set_faults(Faults { end_ms: Some(0), ..Faults::default() });
    eventually("its meeting is ended", async || a.meetings().is_empty()).await;
    assert_eq!(count(&db, open).await, 2);

    call(&system, &INSTRUCTOR, Method::POST, &format!("sessions/{id}/end/"), None).await;
    eventually("the meeting is over", async || b.meetings().is_empty()).await;
    let report = async || call(&system, &INSTRUCTOR, Method::GET, &format!("sessions/{id}/attendance/"), None).await;
    eventually("the report is there", async || report().await["final"] == true).await;
    let report = report().await;
    let seconds = |who: &Person| -> i64 {
        let rows: Vec<&Value> =
            report["results"].as_array().unwrap().iter().filter(|row| row["person_id"] == who.id).collect();
        assert_eq!(rows.len(), 1, "{report}");
        rows[0]["present_seconds"].as_i64().unwrap()
    };
    assert!(seconds(&STUDENTS[0]) >= 2, "{report}");
    assert!(seconds(&STUDENTS[1]) < seconds(&STUDENTS[0]), "{report}");

    // A page that plays it, told by the callback alone.
    let url = format!("{}playback/presentation/2.3/x", b.url());
    let formats = vec![Format { kind: "presentation".into(), url: url.clone(), length: 1 }];
    b.record(NewRecording { meeting_id: room.to_owned(), record_id: None, formats, ready_url: None }).await;
    let recordings =
        async || call(&system, &STUDENTS[0], Method::GET, &format!("sessions/{id}/recordings/"), None).await;
    eventually("the recording is linked to", async || recordings().await["results"][0]["playback_url"] == url).await;
    let dead = "select count(*) from jobs where state = 'dead'";
    assert_eq!(count(&db, dead).await, 0);
    system.stop().await;
}
