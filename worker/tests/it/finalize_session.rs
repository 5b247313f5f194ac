use chrono::TimeDelta;
use serde_json::Value;
use shared::{domain::ids::SessionId, jobs::FinalizeSession};

use crate::support::TestWorker;

/// person → (status, present seconds, percent, invited)
async fn report(worker: &TestWorker, session: SessionId) -> Vec<(String, String, i64, f64, bool)> {
    sqlx::query_as(
        "select person_id, status, present_seconds, percent, invited from attendance where session_id = $1 order by 1",
    )
    .bind(session)
    .fetch_all(worker.db())
    .await
    .unwrap()
}

#[tokio::test]
async fn the_report_unites_heartbeats_and_webhooks_and_lists_who_never_came() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = ends_at, recording_enabled = true").await;
    let start = worker.now() - TimeDelta::minutes(60);
    let at = |minutes| start + TimeDelta::minutes(minutes);
    for person in ["ali", "veli", "yok"] {
        worker.invite(session, person, &[]).await;
    }
    worker.invite(session, "izinli", &[("excused", "true")]).await;
    // Two tabs at once, and a gap of ten minutes.
    worker.heartbeats(session, "ali", (at(0), at(30)), true).await;
    worker.heartbeats(session, "ali", (at(10), at(30)), true).await;
    worker.heartbeats(session, "ali", (at(40), at(60)), true).await;
    // The provider saw him all the time, and says when he left; the heartbeats stopped.
    worker.heartbeats(session, "veli", (at(0), at(5)), false).await;
    sqlx::query(
        "insert into sightings (session_id, tenant_id, person_id, connection_key, source, kind, at) \
         values ($1, $2, 'veli', 'c1', 'webhook', 'joined', $3), ($1, $2, 'veli', 'c1', 'webhook', 'left', $4)",
    )
    .bind(session)
    .bind(worker.tenant)
    .bind(at(0))
    .bind(at(60))
    .execute(worker.db())
    .await
    .unwrap();
    worker.heartbeats(session, "host", (at(0), at(60)), true).await;
    worker.heartbeats(session, "misafir", (at(20), at(30)), true).await;

    assert_eq!(worker.run(&FinalizeSession { session_id: session }).await.state, "done");
    let expected = [
        ("ali", "present", 3000, 83.33, true),
        ("host", "present", 3600, 100.0, true),
        ("izinli", "excused", 0, 0.0, true),
        ("misafir", "partial", 600, 16.66, false),
        ("veli", "present", 3600, 100.0, true),
        ("yok", "absent", 0, 0.0, true),
    ];
    let expected = expected.map(|(p, s, n, c, i)| (p.to_owned(), s.to_owned(), n, c, i));
    let first = report(&worker, session).await;
    assert_eq!(first, expected);
    let names: Vec<String> =
        sqlx::query_scalar("select name from attendance order by person_id").fetch_all(worker.db()).await.unwrap();
    assert_eq!(names, ["Ali", "Ayşe Öğretmen", "Izinli", "Misafir", "Veli", "Yok"]);
    let intervals: Value = worker.get("select intervals from attendance where person_id = 'ali'").await;
    assert_eq!(intervals.as_array().map(Vec::len), Some(2));

    let (state, external): (String, String) =
        sqlx::query_as("select state, external_id from recordings").fetch_one(worker.db()).await.unwrap();
    assert_eq!((state.as_str(), external.as_str()), ("expected", "expected"));

    // Again, after somebody was taken off the list.
    sqlx::query("delete from invitees where person_id = 'yok'").execute(worker.db()).await.unwrap();
    assert_eq!(worker.run(&FinalizeSession { session_id: session }).await.state, "done");
    let again = report(&worker, session).await;
    assert_eq!(again, first[..5]);
    assert_eq!(worker.get::<i64>("select count(*) from recordings").await, 1);
    assert!(worker.get::<bool>("select finalized_at is not null from sessions").await);
}

#[tokio::test]
async fn a_session_that_is_gone_or_not_over_is_left_alone() {
    let worker = TestWorker::new().await;
    assert_eq!(worker.run(&FinalizeSession { session_id: SessionId::new() }).await.state, "done");
    let live = worker.live_session(TimeDelta::minutes(5)).await;
    worker.invite(live, "ali", &[]).await;
    assert_eq!(worker.run(&FinalizeSession { session_id: live }).await.state, "done");
    assert!(report(&worker, live).await.is_empty());
    assert!(worker.get::<bool>("select finalized_at is null from sessions").await);
}

#[tokio::test]
async fn the_rules_frozen_at_the_start_count() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let frozen = r#"attendance_rules = '{"late_after_seconds": 60, "heartbeat_timeout_seconds": 30}'"#;
    worker.set("sessions", session.0, &format!("status = 'ended', ended_at = ends_at, {frozen}")).await;
    worker.set("tenants", worker.tenant.0, r#"attendance_rules = '{"late_after_seconds": 3000}'"#).await;
    let start = worker.now() - TimeDelta::minutes(60);
    worker.heartbeats(session, "ali", (start + TimeDelta::minutes(2), start + TimeDelta::minutes(60)), true).await;
    worker.run(&FinalizeSession { session_id: session }).await;
    assert_eq!(report(&worker, session).await[0].1, "late");
}

#[tokio::test]
async fn ten_thousand_people_are_reported_in_time() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = ends_at").await;
    for statement in [
        "insert into invitees (session_id, tenant_id, person_id, name) \
         select id, tenant_id, 'p' || n, 'Kişi' from sessions, generate_series(1, 10000) n",
        "insert into participants (id, tenant_id, session_id, person_id, source, connection_key, joined_at, last_seen_at, \
             left_at, left_reason) \
         select gen_random_uuid(), tenant_id, id, 'p' || n, 'heartbeat', n::text, started_at, ended_at, ended_at, 'left' \
         from sessions, generate_series(1, 9000) n",
        "insert into sightings (session_id, tenant_id, person_id, connection_key, source, kind, at) \
         select id, tenant_id, 'p' || n, 'c' || n, 'webhook', 'joined', started_at \
         from sessions, generate_series(1, 9000) n",
    ] {
        sqlx::query(statement).execute(worker.db()).await.unwrap();
    }
    // The job's own limit is a minute.
    assert_eq!(worker.run(&FinalizeSession { session_id: session }).await.state, "done");
    let counts: Vec<(String, i64)> = sqlx::query_as("select status, count(*) from attendance group by 1 order by 1")
        .fetch_all(worker.db())
        .await
        .unwrap();
    assert_eq!(counts, [("absent".to_owned(), 1000), ("present".to_owned(), 9000)]);
}

#[tokio::test]
async fn what_was_corrected_while_the_session_ran_is_in_the_report() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = ends_at").await;
    worker.invite(session, "yok", &[]).await;
    sqlx::query(
        "insert into attendance_corrections (id, tenant_id, session_id, person_id, status, present_seconds, reason, made_by) \
         values (gen_random_uuid(), $1, $2, 'yok', 'present', 1800, 'seen', 'host')",
    )
    .bind(worker.tenant)
    .bind(session)
    .execute(worker.db())
    .await
    .unwrap();
    assert_eq!(worker.run(&FinalizeSession { session_id: session }).await.state, "done");
    assert_eq!(report(&worker, session).await, [("yok".to_owned(), "present".to_owned(), 1800, 50.0, true)]);
    let original: String = worker.get("select corrected ->> 'original_status' from attendance").await;
    assert_eq!(original, "absent");
}
