use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    domain::ids::SessionId,
    jobs::{AutoEndSessions, FinalizeSession},
};

use crate::support::TestWorker;

async fn state(worker: &TestWorker, session: SessionId) -> (String, Option<DateTime<Utc>>, Option<String>) {
    sqlx::query_as("select status, ended_at, coalesce(end_reason, cancel_reason) from sessions where id = $1")
        .bind(session)
        .fetch_one(worker.db())
        .await
        .unwrap()
}

#[tokio::test]
async fn an_empty_session_past_its_end_ends_when_the_last_one_left() {
    let worker = TestWorker::new().await;
    let now = worker.now();
    let session = worker.live_session(TimeDelta::minutes(80)).await;
    let left = now - TimeDelta::minutes(25);
    worker.heartbeats(session, "ali", (now - TimeDelta::minutes(70), left), true).await;
    worker.heartbeats(session, "veli", (now - TimeDelta::minutes(70), left - TimeDelta::minutes(9)), true).await;
    let nobody = worker.live_session(TimeDelta::minutes(80)).await;

    assert_eq!(worker.run(&AutoEndSessions {}).await.state, "done");
    assert_eq!(state(&worker, session).await, ("ended".into(), Some(left), Some("overdue".into())));
    let planned_end = worker.get(&format!("select ends_at from sessions where id = '{nobody}'")).await;
    assert_eq!(state(&worker, nobody).await, ("ended".into(), Some(planned_end), Some("overdue".into())));
    assert_eq!(worker.waiting::<FinalizeSession>().await.len(), 2);
    assert_eq!(worker.run(&AutoEndSessions {}).await.state, "done");
    assert_eq!(worker.waiting::<FinalizeSession>().await.len(), 2);
}

#[tokio::test]
async fn a_host_who_came_early_and_stays_starts_the_session_when_it_can_be_joined() {
    let worker = TestWorker::new().await;
    let came = worker.now() - TimeDelta::minutes(5);
    let (early, due, left) = (
        worker.session(TimeDelta::minutes(16)).await,
        worker.session(TimeDelta::minutes(14)).await,
        worker.session(TimeDelta::minutes(14)).await,
    );
    for (session, gone) in [(early, false), (due, false), (left, true)] {
        let row = worker.heartbeats(session, "host", (came, came), gone).await;
        worker.set("participants", row, "source = 'webhook', role = 'host'").await;
    }
    let student = worker.session(TimeDelta::minutes(5)).await;
    let row = worker.heartbeats(student, "ali", (came, came), false).await;
    worker.set("participants", row, "source = 'webhook'").await;
    assert_eq!(worker.run(&AutoEndSessions {}).await.state, "done");
    assert_eq!(state(&worker, due).await.0, "live");
    for session in [early, left, student] {
        assert_eq!(state(&worker, session).await.0, "scheduled");
    }
    assert!(
        worker
            .get::<bool>(&format!(
                "select attendance_rules ? 'heartbeat_timeout_seconds' from sessions where id = '{due}'"
            ))
            .await
    );
}

#[tokio::test]
async fn a_session_with_people_or_within_its_grace_goes_on() {
    let worker = TestWorker::new().await;
    let now = worker.now();
    let full = worker.live_session(TimeDelta::minutes(80)).await;
    worker.heartbeats(full, "ali", (now - TimeDelta::minutes(70), now), false).await;
    let within = worker.live_session(TimeDelta::minutes(70)).await;
    let just_left = worker.live_session(TimeDelta::minutes(80)).await;
    worker.heartbeats(just_left, "ali", (now - TimeDelta::minutes(70), now), true).await;
    let late_start = worker.live_session(TimeDelta::minutes(80)).await;
    worker.set("sessions", late_start.0, "started_at = now() - interval '1 minute'").await;
    worker.run(&AutoEndSessions {}).await;
    for session in [full, within, just_left, late_start] {
        assert_eq!(state(&worker, session).await.0, "live");
    }
}

#[tokio::test]
async fn connections_whose_end_was_lost_do_not_keep_a_session_open_for_ever() {
    let worker = TestWorker::new().await;
    let now = worker.now();
    let told = worker.live_session(TimeDelta::minutes(60 + 239)).await;
    let connection =
        worker.heartbeats(told, "ali", (now - TimeDelta::hours(4), now - TimeDelta::hours(4)), false).await;
    worker.set("participants", connection, "source = 'webhook'").await;
    let tab = worker.live_session(TimeDelta::hours(14)).await;
    worker.heartbeats(tab, "ali", (now - TimeDelta::hours(13), now), false).await;
    worker.run(&AutoEndSessions {}).await;
    assert_eq!(state(&worker, told).await.0, "live");
    assert_eq!(state(&worker, tab).await.0, "ended", "a forgotten tab");

    worker.set("sessions", told.0, "ends_at = ends_at - interval '2 minutes'").await;
    worker.run(&AutoEndSessions {}).await;
    assert_eq!(state(&worker, told).await, ("ended".into(), Some(now - TimeDelta::hours(4)), Some("overdue".into())));
    assert_eq!(worker.get::<i64>("select count(*) from participants where left_at is null").await, 0);
}

#[tokio::test]
async fn a_session_that_never_started_is_cancelled_and_nobody_is_told() {
    let worker = TestWorker::new().await;
    let session = worker.session(-TimeDelta::minutes(80)).await;
    let mail = worker.mail(session, "host", "invitation", 0).await;
    let soon = worker.session(-TimeDelta::minutes(70)).await;
    worker.run(&AutoEndSessions {}).await;
    assert_eq!(state(&worker, session).await, ("cancelled".into(), None, Some("abandoned".into())));
    assert_eq!(state(&worker, soon).await.0, "scheduled");
    assert_eq!(worker.get::<String>(&format!("select state from reminders where id = '{mail}'")).await, "dropped");
    assert!(worker.waiting::<FinalizeSession>().await.is_empty());
}
