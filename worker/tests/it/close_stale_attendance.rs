use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    db::participants::{self, Presence},
    jobs::CloseStaleAttendance,
};

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
    // And as many that were heard a moment ago.
    sqlx::query(
        "insert into participants (id, tenant_id, session_id, person_id, source, connection_key, joined_at, last_seen_at) \
         select gen_random_uuid(), tenant_id, session_id, person_id, source, 'b' || connection_key, joined_at, now() from participants",
    )
    .execute(worker.db())
    .await
    .unwrap();
    sqlx::query("analyze participants").execute(&worker.owner().await).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(worker.run(&CloseStaleAttendance {}).await.state, "done");
    let closing = started.elapsed();
    assert_eq!(worker.get::<i64>("select count(*) from participants where left_at = last_seen_at").await, 100_000);
    // Nothing to close, as nearly always.
    let started = std::time::Instant::now();
    assert_eq!(worker.run(&CloseStaleAttendance {}).await.state, "done");
    let idle = started.elapsed();
    // The bare statement, of which the job is to cost no more than half as much again.
    let owner = worker.owner().await;
    let again = "update participants set left_at = null, left_reason = null where left_at = last_seen_at";
    sqlx::query(again).execute(&owner).await.unwrap();
    sqlx::query("vacuum analyze participants").execute(&owner).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(shared::db::participants::close_stale(worker.db()).await.unwrap(), 100_000);
    println!(
        "100,000 of 200,000 closed in {closing:?}, by the bare statement in {:?}; nothing to close: {idle:?}",
        started.elapsed()
    );
    assert!(closing.as_secs_f64() < 10.0 && idle.as_secs_f64() < 3.0, "{closing:?}, {idle:?}");
}

/// F37: heartbeats come late or in a burst exactly while silent connections are closed.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_first_a_heartbeat_that_was_taken_is_never_closed_away() {
    const PEOPLE: usize = 40;
    const TIMEOUT: i32 = 15;
    let worker = TestWorker::new().await;
    worker.set("tenants", worker.tenant.0, &format!("heartbeat_timeout_s = {TIMEOUT}")).await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    // The timeout of each passes at some moment of the next second.
    sqlx::query(
        "insert into participants (id, tenant_id, session_id, person_id, source, connection_key, joined_at, last_seen_at) \
         select gen_random_uuid(), $1, $2, 'p' || n, 'heartbeat', 'c' || n, now() - interval '20 minutes', \
             now() - interval '15 s' + n * interval '25 ms' from generate_series(1, $3) n",
    )
    .bind(worker.tenant)
    .bind(session)
    .bind(PEOPLE as i32)
    .execute(worker.db())
    .await
    .unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_millis(1500);
    let sweeps = async {
        let mut sweeps = 0;
        while std::time::Instant::now() < until {
            participants::close_stale(worker.db()).await.unwrap();
            sweeps += 1;
        }
        sweeps
    };
    let ids: Vec<String> = (1..=PEOPLE).map(|n| format!("p{n}")).collect();
    let pages = futures::future::join_all(ids.iter().enumerate().map(async |(n, person)| {
        let who = Presence { tenant: worker.tenant, session, person, connection: None, timeout_s: TIMEOUT };
        // A burst at about the moment: before it, at it, and after it.
        let moment = 25 * (n as u64 + 1) + [0, 15, 30, 45][n % 4] - 15;
        tokio::time::sleep(std::time::Duration::from_millis(moment)).await;
        for _ in 0..5 {
            let taken = participants::beat_all(worker.db(), &[who.into()]).await.unwrap().contains(&0)
                || participants::beat(worker.db(), &who).await.unwrap();
            if !taken {
                let mut tx = worker.begin_for(worker.tenant).await;
                shared::db::sessions::lock_in(&mut *tx, worker.tenant, session, "somebody").await.unwrap().unwrap();
                let silent = participants::find_silent(&mut tx, &who).await.unwrap().unwrap();
                participants::come_back(&mut tx, &who, silent).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    }));
    let (sweeps, _) = futures::future::join(sweeps, pages).await;
    let open = "select count(*) from participants where left_at is null and last_seen_at > now() - interval '5 s'";
    assert_eq!(worker.get::<i64>(open).await, PEOPLE as i64, "after {sweeps} sweeps");
    let closed = "select count(*) from participants where left_at is not null";
    let at_last_sighting = format!(
        "{closed} and left_at = last_seen_at and left_reason = 'stale' and last_seen_at < now() - interval '13 s'"
    );
    let (closed, right) = (worker.get::<i64>(closed).await, worker.get::<i64>(&at_last_sighting).await);
    assert_eq!(closed, right);
    let rows = worker.get::<i64>("select count(*) from participants").await;
    assert_eq!(rows, PEOPLE as i64 + closed, "one open stretch each");
    println!("{sweeps} sweeps, {closed} of {PEOPLE} were closed before they came back");
}
