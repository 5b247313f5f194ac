//! Lists of jobs: whole, in pages, and cheap whatever the ledger holds.

use std::{collections::HashSet, time::Duration};

use shared::{
    db,
    domain::ids::JobId,
    jobs::{self, Queue},
    queue::{
        control::{self, DeadFilter, Filter, JobState, Keyset},
        ledger,
    },
};
use sqlx::PgPool;

use crate::{control::noop, support::*};

/// Rows as the ledger would have them.
pub async fn insert_many(pool: &PgPool, kind: &str, state: &str, count: i32) {
    let ids: Vec<uuid::Uuid> = (0..count).map(|_| uuid::Uuid::now_v7()).collect();
    sqlx::query(
        "insert into jobs (id, queue, kind, payload, state, max_attempts, finished_at) \
         select id, $2, $3, '{}', $4, 10, case when $4 in ('available', 'running') then null else now() end \
         from unnest($1::uuid[]) as new (id)",
    )
    .bind(&ids)
    .bind(jobs::find(kind).unwrap().queue.as_str())
    .bind(kind)
    .bind(state)
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn pages_are_stable_and_whole() {
    let worker = TestWorker::new().await;
    let pool = worker.db();
    insert_many(pool, "noop", "dead", 30).await;
    insert_many(pool, "finalize-session", "available", 30).await;
    let read = async |filter: &Filter| {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = Keyset { after, ascending: false, limit: 7 };
            let listed = control::list(pool, filter, page).await.unwrap();
            seen.extend(listed.jobs.iter().map(|job| job.id));
            if listed.jobs.len() < 7 {
                assert_eq!(listed.resume, None);
                return seen;
            }
            after = seen.last().copied();
            worker.enqueue(&noop("new ones come first")).await;
        }
    };
    for (filter, expected) in [
        (Filter { state: Some(JobState::Dead), ..Filter::default() }, 30),
        (Filter { state: Some(JobState::Dead), kind: Some("noop".into()), ..Filter::default() }, 30),
        (Filter { state: Some(JobState::Dead), queue: Some(Queue::Live), ..Filter::default() }, 0),
        (Filter { kind: Some("finalize-session".into()), ..Filter::default() }, 30),
        (Filter { queue: Some(Queue::Live), state: Some(JobState::Available), ..Filter::default() }, 30),
        (Filter { state: Some(JobState::Running), ..Filter::default() }, 0),
    ] {
        let seen = read(&filter).await;
        assert_eq!(seen.len(), expected, "{filter:?}");
        assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "newest first");
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len());
    }
    let now: chrono::DateTime<chrono::Utc> = worker.get("select now()").await;
    let past = Filter { created_before: Some(now - chrono::TimeDelta::hours(2)), ..Filter::default() };
    assert!(read(&past).await.is_empty());
    let recent = Filter {
        created_after: Some(now - chrono::TimeDelta::hours(2)),
        kind: Some("finalize-session".into()),
        ..Filter::default()
    };
    assert_eq!(read(&recent).await.len(), 30);
}

/// What one connection has read of the ledger so far: rows by sequential scans, rows by indexes.
async fn rows_read(pool: &PgPool) -> (i64, i64) {
    sqlx::query("select pg_stat_force_next_flush()").execute(pool).await.unwrap();
    sqlx::query_as("select seq_tup_read, idx_tup_fetch from pg_stat_user_tables where relname = 'jobs'")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_operators_ask_stays_on_the_indexes() {
    let worker = TestWorker::new().await;
    for (kind, state, count) in [
        ("noop", "done", 60_000),
        ("noop", "available", 30_000),
        ("noop", "dead", 9_000),
        ("finalize-session", "dead", 1_000),
        ("finalize-session", "running", 100),
    ] {
        insert_many(worker.db(), kind, state, count).await;
    }
    sqlx::query("analyze jobs").execute(&worker.owner().await).await.unwrap();
    // One connection, whose counters are read between its statements.
    let mut config = worker.state().config.database.clone();
    config.database_pool = 1;
    let pool = db::connect(&config, "operator").await.unwrap();

    let page = Keyset { after: None, ascending: false, limit: 21 };
    let any = Filter::default;
    for (filter, most) in [
        (any(), 21),
        (Filter { state: Some(JobState::Dead), ..any() }, 21),
        (Filter { state: Some(JobState::Dead), kind: Some("finalize-session".into()), ..any() }, 21),
        (Filter { state: Some(JobState::Dead), queue: Some(Queue::Live), ..any() }, 21),
        (Filter { state: Some(JobState::Running), ..any() }, 300),
        // More than the window: the newest rows are looked at. First, whether there are more.
        (Filter { state: Some(JobState::Available), ..any() }, control::WINDOW * 2 + 100),
        (Filter { queue: Some(Queue::Notifications), ..any() }, control::WINDOW * 2 + 100),
    ] {
        let before = rows_read(&pool).await;
        control::list(&pool, &filter, page).await.unwrap();
        let after = rows_read(&pool).await;
        assert_eq!(after.0, before.0, "{filter:?} reads the whole table");
        assert!(after.1 - before.1 <= most, "{filter:?} reads {} rows", after.1 - before.1);
    }
    // However deep: the last page of 9,000 costs what the first costs.
    let filter = Filter { state: Some(JobState::Dead), kind: Some("noop".into()), ..any() };
    let ids: Vec<JobId> =
        sqlx::query_scalar("select id from jobs where state = 'dead' and kind = 'noop' order by id limit 22")
            .fetch_all(&pool)
            .await
            .unwrap();
    let before = rows_read(&pool).await;
    let last = control::list(&pool, &filter, Keyset { after: ids.last().copied(), ..page }).await.unwrap();
    let after = rows_read(&pool).await;
    assert_eq!(last.jobs.len(), 21);
    assert_eq!((after.0 - before.0, after.1 - before.1), (0, 21));

    let before = rows_read(&pool).await;
    let states = control::queue_states(&pool).await.unwrap();
    let after = rows_read(&pool).await;
    assert_eq!(after.0, before.0, "the queues' states read the whole table");
    assert!(after.1 - before.1 < 5 * control::COUNTED, "{}", after.1 - before.1);
    assert_eq!((states[0].due.to_string(), states[0].dead.to_string()), ("10000+".into(), "9000".into()));
    assert_eq!((states[0].at_least(), states[1].running.value()), (vec!["due"], 100));

    let before = rows_read(&pool).await;
    ledger::due_head(&pool, Queue::Default, 100).await.unwrap();
    control::pause(&pool, Queue::Default, "ayse").await.unwrap();
    assert!(ledger::due_head(&pool, Queue::Default, 100).await.unwrap().is_empty());
    ledger::claim(&pool, &ids.iter().map(|id| id.0).collect::<Vec<_>>(), &["noop"], "x", Duration::from_secs(9))
        .await
        .unwrap();
    control::retry_dead(&mut *on(&pool).await, &DeadFilter { queue: Some(Queue::Live), kind: None }, None, "ayse")
        .await
        .unwrap();
    assert_eq!(rows_read(&pool).await.0, before.0, "a statement of the queue reads the whole table");
}

#[tokio::test]
async fn a_page_that_finds_little_among_many_tells_where_to_go_on() {
    let worker = TestWorker::new().await;
    let pool = worker.db();
    let old = worker.enqueue(&jobs::Cleanup {}).await;
    insert_many(pool, "noop", "done", control::WINDOW as i32 + 5).await;
    let filter = Filter { kind: Some("cleanup".into()), ..Filter::default() };
    let page = Keyset { after: None, ascending: false, limit: 21 };
    let first = control::list(pool, &filter, page).await.unwrap();
    assert!(first.jobs.is_empty());
    let second = control::list(pool, &filter, Keyset { after: first.resume, ..page }).await.unwrap();
    assert_eq!((second.jobs[0].id, second.jobs.len(), second.resume), (old, 1, None));
    // The state has an index of its own: no window is needed.
    let waiting = Filter { state: Some(JobState::Available), ..filter };
    assert_eq!(control::list(pool, &waiting, page).await.unwrap().jobs[0].id, old);
}
