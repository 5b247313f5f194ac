use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use shared::{
    domain::ids::SessionId,
    jobs::{FinalizeSession, ImportRecording, ProcessWebhook},
};

use crate::support::TestWorker;

fn room(session: SessionId) -> String {
    format!("oda-{}", session.0.simple())
}

fn event(session: SessionId, name: &str, more: Value) -> Value {
    let mut body = json!({
        "event_name": name,
        "room_name": room(session),
        "room_jid": format!("{}@muc.meet.test", room(session)),
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn joined(session: SessionId, connection: &str, person: Option<&str>, at: DateTime<Utc>) -> Value {
    let occupant = json!({"occupant_jid": connection, "id": person, "name": "Adı", "joined_at": at.timestamp()});
    event(session, "muc-occupant-joined", json!({"occupant": occupant}))
}

fn left(session: SessionId, connection: &str, at: DateTime<Utc>) -> Value {
    let occupant = json!({"occupant_jid": connection, "name": "Adı", "left_at": at.timestamp()});
    event(session, "muc-occupant-left", json!({"occupant": occupant}))
}

fn destroyed(session: SessionId, at: DateTime<Utc>, occupants: Value) -> Value {
    event(session, "muc-room-destroyed", json!({"destroyed_at": at.timestamp(), "all_occupants": occupants}))
}

impl TestWorker {
    async fn process(&self, body: &Value) {
        let webhook_event_id = self.webhook(body).await;
        let mut job = self.run(&ProcessWebhook { webhook_event_id }).await;
        while job.state == "available" && job.attempt == 0 {
            job = self.run_id(job.id).await;
        }
        assert_eq!(job.state, "done", "{}", job.error());
    }

    async fn status(&self, session: SessionId) -> String {
        self.get(&format!("select status from sessions where id = '{session}'")).await
    }
}

type Connection = (String, String, DateTime<Utc>, Option<DateTime<Utc>>, Option<String>, String);

async fn connections(worker: &TestWorker, session: SessionId) -> Vec<Connection> {
    sqlx::query_as(
        "select connection_key, person_id, joined_at, left_at, left_reason, role from participants \
         where session_id = $1 and source = 'webhook' order by 1",
    )
    .bind(session)
    .fetch_all(worker.db())
    .await
    .unwrap()
}

#[tokio::test]
async fn the_first_host_who_comes_starts_the_session_when_they_came() {
    let worker = TestWorker::new().await;
    let session = worker.session(TimeDelta::minutes(5)).await;
    let came = worker.now() - TimeDelta::seconds(40);
    worker.process(&joined(session, "c-student@x", Some("ali"), came)).await;
    assert_eq!(worker.status(session).await, "scheduled");
    worker.process(&joined(session, "c-host@x", Some("host"), came)).await;
    assert_eq!(worker.status(session).await, "live");
    assert_eq!(worker.get::<DateTime<Utc>>("select started_at from sessions").await, came);
    let rules: Value = worker.get("select attendance_rules from sessions").await;
    assert_eq!(rules["heartbeat_timeout_seconds"], 90);
    let roles: Vec<_> = connections(&worker, session).await.into_iter().map(|c| (c.1, c.5)).collect();
    assert_eq!(roles, [("host".into(), "host".into()), ("ali".into(), "participant".into())]);
}

#[tokio::test]
async fn a_co_host_starts_it_too_but_not_before_it_can_be_joined() {
    let worker = TestWorker::new().await;
    let session = worker.session(TimeDelta::minutes(20)).await;
    worker.invite(session, "asistan", &[("role", "co_host")]).await;
    let now = worker.now();
    worker.process(&joined(session, "c1@x", Some("asistan"), now)).await;
    assert_eq!(worker.status(session).await, "scheduled");
    worker.set("sessions", session.0, "starts_at = now() + interval '10 minutes'").await;
    worker.process(&joined(session, "c2@x", Some("asistan"), now)).await;
    assert_eq!(worker.status(session).await, "live");
}

#[tokio::test]
async fn any_order_and_repetition_of_events_leads_to_the_same_rows() {
    let worker = TestWorker::new().await;
    let start = worker.now() - TimeDelta::minutes(30);
    let at = |minutes| start + TimeDelta::minutes(minutes);
    let mut outcomes = Vec::new();
    for order in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2], [4, 2, 0, 5, 3, 1], [1, 5, 3, 2, 0, 4]] {
        let session = worker.live_session(TimeDelta::minutes(30)).await;
        worker.set("sessions", session.0, "ends_at = now() + interval '1 hour'").await;
        let stay = json!([{"occupant_jid": "c2@x", "id": "veli", "name": "V", "joined_at": at(3).timestamp(), "left_at": at(20).timestamp()}]);
        let events = [
            joined(session, "c1@x", Some("ali"), at(1)),
            left(session, "c1@x", at(10)),
            joined(session, "c1@x", Some("ali"), at(12)),
            // Never says that they left: the end of the room does.
            joined(session, "c3@x", None, at(5)),
            destroyed(session, at(20), stay),
            joined(session, "c4@x", Some("can"), at(21)),
        ];
        for n in order {
            worker.process(&events[n]).await;
        }
        worker.process(&events[order[0]]).await;
        let mut sightings = sqlx::query_as::<_, (String, String, String, DateTime<Utc>)>(
            "select person_id, connection_key, kind, at from sightings where session_id = $1 order by 2, 4, 3",
        )
        .bind(session)
        .fetch_all(worker.db())
        .await
        .unwrap();
        sightings.dedup();
        assert_eq!(worker.status(session).await, "live", "its planned end is ahead");
        outcomes.push((connections(&worker, session).await, sightings));
    }
    let (rows, _) = &outcomes[0];
    let seen: Vec<_> = rows.iter().map(|r| (r.0.as_str(), r.1.as_str(), r.2, r.3)).collect();
    let expected = [
        ("c1@x", "ali", at(1), Some(at(20))),
        ("c2@x", "veli", at(3), Some(at(20))),
        ("c3@x", "guest:c3@x", at(5), Some(at(20))),
        ("c4@x", "can", at(21), None),
    ];
    assert_eq!(seen, expected);
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:#?}");
}

#[tokio::test]
async fn events_of_one_connection_at_the_same_moment_do_not_miss_each_other() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    let now = worker.now();
    let mut running = Vec::new();
    for n in 0..8 {
        let connection = format!("c{n}@x");
        for body in [
            joined(session, &connection, Some("ali"), now - TimeDelta::minutes(9)),
            left(session, &connection, now - TimeDelta::minutes(2)),
        ] {
            let webhook_event_id = worker.webhook(&body).await;
            let id = worker.enqueue(&ProcessWebhook { webhook_event_id }).await;
            let (claimed, engine) = (worker.claim(id).await, worker.engine.clone());
            running.push(tokio::spawn(async move { engine.run(claimed).await }));
        }
    }
    for run in running {
        run.await.unwrap();
    }
    let rows = connections(&worker, session).await;
    assert_eq!(rows.len(), 8);
    for row in rows {
        assert_eq!((row.1.as_str(), row.3), ("ali", Some(now - TimeDelta::minutes(2))), "{}", row.0);
    }
}

#[tokio::test]
async fn a_closed_room_ends_the_session_past_its_planned_end_only() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(70)).await;
    let now = worker.now();
    let tab = worker.heartbeats(session, "ali", (now - TimeDelta::minutes(60), now), false).await;
    worker.process(&joined(session, "c1@x", Some("ali"), now - TimeDelta::minutes(60))).await;
    worker.process(&destroyed(session, now - TimeDelta::minutes(15), json!({}))).await;
    assert_eq!(worker.status(session).await, "live");

    let end = now - TimeDelta::minutes(5);
    worker.process(&destroyed(session, end, json!({}))).await;
    assert_eq!(worker.status(session).await, "ended");
    let (reason, ended): (String, DateTime<Utc>) =
        sqlx::query_as("select end_reason, ended_at from sessions").fetch_one(worker.db()).await.unwrap();
    assert_eq!((reason.as_str(), ended), ("provider", end));
    assert_eq!(worker.waiting::<FinalizeSession>().await.len(), 1);
    let open: bool = worker.get(&format!("select left_at is null from participants where id = '{tab}'")).await;
    assert!(!open, "our own connections are closed, too");
}

#[tokio::test]
async fn an_old_closed_room_does_not_end_a_session_that_people_came_back_to() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(70)).await;
    let now = worker.now();
    worker.process(&joined(session, "c1@x", Some("ali"), now - TimeDelta::minutes(1))).await;
    worker.process(&destroyed(session, now - TimeDelta::minutes(3), json!([]))).await;
    assert_eq!(worker.status(session).await, "live");
    // Of before the start: another life of the room.
    worker.process(&destroyed(session, now - TimeDelta::minutes(90), json!([]))).await;
    assert_eq!(worker.status(session).await, "live");
    assert_eq!(connections(&worker, session).await[0].3, None);
}

#[tokio::test]
async fn a_room_that_opens_again_closes_what_its_server_left_open_in_any_order() {
    let worker = TestWorker::new().await;
    let start = worker.now() - TimeDelta::minutes(30);
    let at = |minutes| start + TimeDelta::minutes(minutes);
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 0, 4, 1, 2]] {
        let session = worker.live_session(TimeDelta::minutes(30)).await;
        let created = |minutes: i64| event(session, "muc-room-created", json!({"created_at": at(minutes).timestamp()}));
        let events = [
            created(0),
            joined(session, "c1@x", Some("ali"), at(0)),
            joined(session, "c2@x", Some("veli"), at(1)),
            left(session, "c2@x", at(5)),
            created(10),
        ];
        for index in order {
            worker.process(&events[index]).await;
        }
        worker.process(&joined(session, "c3@x", Some("ali"), at(10))).await;
        let left: Vec<_> = connections(&worker, session).await.into_iter().map(|c| (c.0, c.3)).collect();
        let before = at(10) - TimeDelta::milliseconds(1);
        let expected = [("c1@x".into(), Some(before)), ("c2@x".into(), Some(at(5))), ("c3@x".into(), None)];
        assert_eq!(left, expected, "{order:?}");
    }
}

#[tokio::test]
async fn who_left_before_the_room_was_closed_left_then() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    let start = worker.now() - TimeDelta::minutes(30);
    worker.process(&joined(session, "c1@x", Some("ali"), start)).await;
    worker.process(&left(session, "c1@x", start + TimeDelta::minutes(5))).await;
    worker.process(&destroyed(session, start + TimeDelta::minutes(20), json!([]))).await;
    assert_eq!(connections(&worker, session).await[0].3, Some(start + TimeDelta::minutes(5)));
    // Back on the same connection, and not heard of again.
    worker.process(&joined(session, "c1@x", Some("ali"), start + TimeDelta::minutes(10))).await;
    assert_eq!(connections(&worker, session).await[0].3, Some(start + TimeDelta::minutes(20)));
}

#[tokio::test]
async fn late_events_correct_the_report_once() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let start = worker.now() - TimeDelta::minutes(60);
    worker.invite(session, "ali", &[]).await;
    worker.process(&joined(session, "c1@x", Some("ali"), start)).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = ends_at").await;
    worker.run(&FinalizeSession { session_id: session }).await;
    assert_eq!(worker.get::<i64>("select present_seconds from attendance").await, 3600);

    worker.process(&left(session, "c1@x", start + TimeDelta::minutes(20))).await;
    worker.process(&joined(session, "c2@x", Some("ali"), start + TimeDelta::minutes(30))).await;
    worker.process(&left(session, "c2@x", start + TimeDelta::minutes(40))).await;
    let waiting = worker.waiting::<FinalizeSession>().await;
    assert_eq!(waiting.len(), 1, "one computation for a burst of events");
    assert_eq!(worker.run_id(waiting[0]).await.state, "done");
    assert_eq!(worker.get::<i64>("select present_seconds from attendance").await, 1800);

    worker.process(&left(session, "c2@x", start + TimeDelta::minutes(40))).await;
    assert!(worker.waiting::<FinalizeSession>().await.is_empty(), "a repeat is no news");
}

#[tokio::test]
async fn what_cannot_be_applied_is_kept_with_the_reason() {
    let worker = TestWorker::new().await;
    let gone = SessionId::new();
    let now = worker.now();
    for (provider, body, reason) in [
        ("jitsi", joined(gone, "c@x", None, now), "no session meets in this room"),
        ("jitsi", json!({"event_name": "muc-something-new"}), "nothing in it changes a session"),
        ("jitsi", json!([1, 2]), "event_name is missing"),
        ("carrier-pigeon", json!({}), "no webhooks come from"),
    ] {
        let webhook_event_id = worker.webhook_from(provider, &body).await;
        let job = worker.run(&ProcessWebhook { webhook_event_id }).await;
        assert_eq!(job.state, "done", "{}", job.error());
        let (state, note): (String, String) = sqlx::query_as("select state, note from webhook_events where id = $1")
            .bind(webhook_event_id)
            .fetch_one(worker.db())
            .await
            .unwrap();
        assert_eq!(state, "ignored");
        assert!(note.contains(reason), "{note}");
    }
    let gone = shared::domain::ids::WebhookEventId::new();
    assert_eq!(worker.run(&ProcessWebhook { webhook_event_id: gone }).await.state, "done");
}

#[tokio::test]
async fn an_uploaded_recording_takes_the_place_of_the_expected_one_and_is_imported_once() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = now(), recording_enabled = true").await;
    worker.run(&FinalizeSession { session_id: session }).await;
    let now = worker.now();
    let uploaded = |id: &str, link: &str| {
        json!({
            "eventType": "RECORDING_UPLOADED", "idempotencyKey": link, "timestamp": now.timestamp_millis(),
            "fqn": format!("vpaas-magic-cookie-1/{}", room(session)),
            "data": {"preAuthenticatedLink": format!("https://host.test/{link}?sig=1"), "recordingSessionId": id, "durationSec": 60},
        })
    };
    for body in [uploaded("r1", "a"), uploaded("r1", "a"), uploaded("r2", "b")] {
        let webhook_event_id = worker.webhook_from("jaas", &body).await;
        let job = worker.run(&ProcessWebhook { webhook_event_id }).await;
        assert_eq!(job.state, "done", "{}", job.error());
    }
    let rows: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select external_id, state, source_url from recordings order by 1")
            .fetch_all(worker.db())
            .await
            .unwrap();
    let expected = [("r1", "a"), ("r2", "b")]
        .map(|(id, link)| (id.to_owned(), "available".to_owned(), Some(format!("https://host.test/{link}?sig=1"))));
    assert_eq!(rows, expected);
    assert_eq!(worker.waiting::<ImportRecording>().await.len(), 2);
}

#[tokio::test]
async fn a_stored_webhook_can_be_processed_again() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(5)).await;
    let now = worker.now();
    let webhook_event_id = worker.webhook(&joined(session, "c1@x", Some("ali"), now)).await;
    worker.run(&ProcessWebhook { webhook_event_id }).await;
    let first = connections(&worker, session).await;
    worker.run(&ProcessWebhook { webhook_event_id }).await;
    worker.set("webhook_events", webhook_event_id.0, "state = 'stored'").await;
    worker.run(&ProcessWebhook { webhook_event_id }).await;
    assert_eq!(connections(&worker, session).await, first);
    assert_eq!(worker.get::<String>("select state from webhook_events").await, "processed");
}

#[tokio::test]
async fn events_that_come_while_the_session_is_ended_are_in_the_report() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(50)).await;
    let now = worker.now();
    let mut events = Vec::new();
    for n in 0..30 {
        let (connection, person) = (format!("c{n}@x"), format!("p{n}"));
        worker.process(&joined(session, &connection, Some(&person), now - TimeDelta::minutes(40))).await;
        events.push(left(session, &connection, now - TimeDelta::minutes(10)));
    }
    let mut running = Vec::new();
    for (n, body) in events.iter().enumerate() {
        let webhook_event_id = worker.webhook(body).await;
        let id = worker.enqueue(&ProcessWebhook { webhook_event_id }).await;
        let (claimed, engine) = (worker.claim(id).await, worker.engine.clone());
        running.push(tokio::spawn(async move { engine.run(claimed).await }));
        if n == 15 {
            // As the API does.
            let mut tx = worker.begin().await;
            let host = shared::domain::session::EndReason::Host;
            shared::db::sessions::end(&mut *tx, session, host, None).await.unwrap().expect("it was live");
            shared::db::participants::close_all(&mut *tx, session, 90, None).await.unwrap();
            let id = tx.enqueue(&FinalizeSession { session_id: session }).await.unwrap().job_id();
            tx.commit().await.unwrap();
            let (claimed, engine) = (worker.claim(id).await, worker.engine.clone());
            running.push(tokio::spawn(async move { engine.run(claimed).await }));
        }
    }
    for run in running {
        run.await.unwrap();
    }
    // What met the change of state in the middle comes again; late events have the report computed again.
    let mut rounds = 0;
    loop {
        let mut waiting = worker.waiting::<ProcessWebhook>().await;
        waiting.extend(worker.waiting::<FinalizeSession>().await);
        if waiting.is_empty() {
            break;
        }
        for id in waiting {
            let job = worker.run_id(id).await;
            assert_ne!(job.state, "dead", "{}", job.error());
        }
        rounds += 1;
        assert!(rounds < 10);
    }
    let errors: i64 = worker.get("select count(*) from jobs where errors::text like '%deadlock%'").await;
    assert_eq!(errors, 0);
    assert_eq!(worker.get::<i64>("select count(*) from participants where left_at is null").await, 0);
    let seconds: Vec<i64> =
        sqlx::query_scalar("select present_seconds from attendance").fetch_all(worker.db()).await.unwrap();
    assert_eq!(seconds, [1800; 30]);
}
