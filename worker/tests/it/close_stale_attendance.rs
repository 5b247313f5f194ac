use chrono::{DateTime, TimeDelta, Utc};
use shared::jobs::CloseStaleAttendance;

use crate::support::TestWorker;

async fn left(worker: &TestWorker, id: uuid::Uuid) -> (Option<DateTime<Utc>>, Option<String>) {
    sqlx::query_as("select left_at, left_reason from participants where id = $1")
        .bind(id)
        .fetch_one(worker.db())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_silent_connection_is_closed_at_its_last_sighting() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    let now = worker.now();
    let ago = |seconds| now - TimeDelta::seconds(seconds);
    let silent = worker.heartbeats(session, "ali", (ago(600), ago(120)), false).await;
    let alive = worker.heartbeats(session, "veli", (ago(600), ago(30)), false).await;
    let told = worker.heartbeats(session, "can", (ago(600), ago(300)), false).await;
    worker.set("participants", told, "source = 'webhook'").await;

    assert_eq!(worker.run(&CloseStaleAttendance {}).await.state, "done");
    assert_eq!(left(&worker, silent).await, (Some(ago(120)), Some("stale".into())));
    assert_eq!(left(&worker, alive).await, (None, None));
    assert_eq!(left(&worker, told).await, (None, None), "the provider is to say when they leave");

    assert_eq!(worker.run(&CloseStaleAttendance {}).await.state, "done");
    assert_eq!(left(&worker, silent).await.0, Some(ago(120)));
}

#[tokio::test]
async fn each_tenant_s_own_timeout_counts() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    let now = worker.now();
    let seen = now - TimeDelta::seconds(120);
    let connection = worker.heartbeats(session, "ali", (seen, seen), false).await;
    worker.set("tenants", worker.tenant.0, "heartbeat_timeout_s = 600").await;
    worker.run(&CloseStaleAttendance {}).await;
    assert_eq!(left(&worker, connection).await.0, None);
    worker.set("tenants", worker.tenant.0, "heartbeat_timeout_s = 100").await;
    worker.run(&CloseStaleAttendance {}).await;
    assert_eq!(left(&worker, connection).await.0, Some(seen));
}

#[tokio::test]
async fn a_heartbeat_at_the_same_moment_wins() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    let seen = worker.now() - TimeDelta::seconds(300);
    let connection = worker.heartbeats(session, "ali", (seen, seen), false).await;

    let mut heartbeat = worker.db().begin().await.unwrap();
    sqlx::query("update participants set last_seen_at = now() where id = $1 and left_at is null")
        .bind(connection)
        .execute(&mut *heartbeat)
        .await
        .unwrap();
    let id = worker.enqueue(&CloseStaleAttendance {}).await;
    let claimed = worker.claim(id).await;
    let engine = worker.engine.clone();
    let sweep = tokio::spawn(async move { engine.run(claimed).await });
    crate::support::eventually("the sweep waits for the heartbeat's row", || async {
        worker
            .get::<i64>(
                "select count(*) from pg_locks where not granted \
                 and pid in (select pid from pg_stat_activity where datname = current_database())",
            )
            .await
            > 0
    })
    .await;
    heartbeat.commit().await.unwrap();
    sweep.await.unwrap();
    assert_eq!(left(&worker, connection).await, (None, None));
}

#[tokio::test]
async fn a_hundred_thousand_silent_connections_are_closed_by_one_run() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    sqlx::query(
        "insert into participants (id, tenant_id, session_id, person_id, source, connection_key, joined_at, last_seen_at) \
         select gen_random_uuid(), $1, $2, 'p' || n, 'heartbeat', n::text, now() - interval '20 minutes', \
             now() - interval '5 minutes' from generate_series(1, 100000) n",
    )
    .bind(worker.tenant)
    .bind(session)
    .execute(worker.db())
    .await
    .unwrap();
    assert_eq!(worker.run(&CloseStaleAttendance {}).await.state, "done");
    assert_eq!(worker.get::<i64>("select count(*) from participants where left_at = last_seen_at").await, 100_000);
}
