//! What runs out: connections to the database, file descriptors, disk; a database that is locked, or restarts again and
//! again.

use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use sandbox::people::{self, INSTRUCTOR};
use serde_json::json;
use shared::clock::Clock;

use crate::{
    faults::Bench,
    support::{count, database, eventually, launch, post},
};

/// Plans a session; the status, and whether it says when to come again.
async fn plan(bench: &Bench, api: &str, title: &str) -> (StatusCode, bool) {
    let token = people::token(&INSTRUCTOR, bench.system.var("AUTH_JWT_SECRET"), Clock::System.now()).expect("a token");
    let request = reqwest::Client::new()
        .post(format!("{api}/api/v1/live-sessions/sessions/"))
        .bearer_auth(token)
        .json(&json!({"kind": "instant", "title": title}));
    let answer = request.send().await.expect("the API answers");
    (answer.status(), answer.headers().contains_key("retry-after"))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_find_no_free_connection_are_refused_with_retry_after_and_change_nothing() {
    let bench = Bench::new(0, &[]).await;
    let api = launch(&bench.system, &bench.dir, "api", &[("DATABASE_POOL", "2"), ("REQUEST_TIMEOUT", "8")]);
    api.ready().await;
    assert_eq!(plan(&bench, &api.url, "Before").await.0, StatusCode::CREATED);
    let mut lock = bench.db.begin().await.expect("a transaction");
    sqlx::query("lock table sessions in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    let requests = (0..20).map(|_| plan(&bench, &api.url, "Meanwhile"));
    for (status, retry_after) in futures::future::join_all(requests).await {
        assert_eq!((status, retry_after), (StatusCode::SERVICE_UNAVAILABLE, true));
    }
    lock.rollback().await.expect("the lock is given back");
    eventually("the API to work again", async || plan(&bench, &api.url, "After").await.0 == StatusCode::CREATED).await;
    assert_eq!(count(&bench.db, "select count(*) from sessions where title = 'Meanwhile'").await, 0, "no side effect");
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_well_is_there_after_three_restarts_of_postgres_and_the_rest_was_a_503() {
    let bench = Bench::new(1, &[("JOB_LEASE", "10")]).await;
    let api = bench.system.var("API_URL").to_owned();
    let pids = [bench.system.api.process().pid(), bench.system.workers[0].process().pid()];
    bench.enqueue(200, 50).await;
    let ended = tokio_util::sync::CancellationToken::new();
    let ask = async || {
        let mut good = 0;
        while !ended.is_cancelled() {
            match plan(&bench, &api, "Restarts").await {
                (StatusCode::CREATED, _) => good += 1,
                (status, retry_after) => assert_eq!((status, retry_after), (StatusCode::SERVICE_UNAVAILABLE, true)),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        good
    };
    let restart = async {
        for _ in 0..3 {
            bench.system.postgres.stop_immediate().await;
            bench.system.postgres.restart().await.expect("Postgres starts again");
        }
        eventually("the API to work again", async || plan(&bench, &api, "After").await.0 == StatusCode::CREATED).await;
        ended.cancel();
    };
    let (one, other, ()) = tokio::join!(ask(), ask(), restart);
    let db = database(&bench.system).await;
    let kept = count(&db, "select count(*) from sessions where title = 'Restarts'").await;
    // Two requests at a time may lose their answers at each of three restarts.
    assert!((one + other..=one + other + 6).contains(&kept), "{kept} of {}", one + other);
    eventually("every job to be done", async || count(&db, crate::faults::UNDONE).await == 0).await;
    assert_eq!(count(&db, "select count(*) from jobs where attempt <> 1").await, 0);
    assert_eq!([bench.system.api.process().pid(), bench.system.workers[0].process().pid()], pids, "both live");
    bench.system.stop().await;
}

/// Files that a process may have open; the number before.
fn limit_files(pid: u32, most: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    // Only the superuser may raise the maximum, which children have from here.
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: most, maximum }).expect("a limit").current
}

/// How large the server's files may grow. Its processes belong to another user; it does it itself.
async fn limit_file_sizes(owner: &sqlx::PgPool, server: u32, most: &str) {
    let pids: Vec<i32> =
        sqlx::query_scalar("select pid from pg_stat_activity").fetch_all(owner).await.expect("the server's processes");
    for pid in pids.into_iter().chain(i32::try_from(server)) {
        let limit = format!("copy (select) to program 'prlimit --fsize={most}: --pid {pid} || true'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(limit)).execute(owner).await.expect("a limit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_find_no_free_file_descriptor_wait_without_using_an_attempt() {
    let bench = Bench::new(1, &[]).await;
    let worker = bench.system.workers[0].process().pid();
    let open = std::fs::read_dir(format!("/proc/{worker}/fd")).expect("its files").count();
    let before = limit_files(worker, Some(open as u64));
    let class = json!({
        "title": "Full", "starts_at": Clock::System.now() + chrono::Duration::minutes(12), "ends_at": Clock::System.now() + chrono::Duration::minutes(42),
        "invitees": [{"person_id": "ayse", "email": "full-ayse@okul.example"}, {"person_id": "can", "email": "full-can@okul.example"}],
    });
    post(&bench.system, &INSTRUCTOR, "sessions/", &class).await;
    let waiting =
        "select count(*) from jobs where kind = 'send-invitation' and errors::text like '%Too many open files%'";
    eventually("mails that find no descriptor", async || count(&bench.db, waiting).await > 0).await;
    limit_files(worker, before);
    let unsent = "select count(*) from reminders where mail = 'invitation' and state <> 'sent'";
    eventually("the mails to be sent", async || count(&bench.db, unsent).await == 0).await;
    bench.all_done().await;
    assert_eq!(count(&bench.db, "select count(*) from jobs where attempt <> 1 or crashes <> 0").await, 0);
    assert_eq!(bench.system.workers[0].process().pid(), worker, "the worker lives");
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_disk_is_full_is_a_503_and_nothing_that_was_answered_well_is_lost() {
    const WAL_SEGMENT: &str = "16777216";
    let bench = Bench::new(1, &[]).await;
    let api = bench.system.var("API_URL").to_owned();
    assert_eq!(plan(&bench, &api, "Before").await.0, StatusCode::CREATED);
    // No file may grow beyond the size of a WAL segment, and the table has it already: as on a full disk, what is
    // there can be read and written over, but nothing can be added.
    sqlx::query(
        "insert into sessions (id, tenant_id, kind, title, description, host_id, provider, room, starts_at, ends_at, timezone, created_by) \
         select gen_random_uuid(), t.id, 'scheduled', 'Old', (select string_agg(md5(n::text || i), '') from generate_series(1, 55) as i), \
             'host', 'jitsi', 'old-' || n, now() + interval '1 day', now() + interval '2 days', 'UTC', 'host' \
         from generate_series(1, 10000) as n, (select id from tenants limit 1) as t",
    )
    .execute(&bench.db)
    .await
    .expect("a table of that size");
    let server = bench.system.postgres.pid().expect("the server's pid");
    let owner = sqlx::PgPool::connect(bench.system.var("DATABASE_URL")).await.expect("the owner of the tables");
    limit_file_sizes(&owner, server, WAL_SEGMENT).await;
    let mut good = 0;
    let mut refused = 0;
    while refused < 5 {
        match plan(&bench, &api, "Meanwhile").await {
            (StatusCode::CREATED, _) => good += 1,
            (status, retry_after) => {
                assert_eq!((status, retry_after), (StatusCode::SERVICE_UNAVAILABLE, true));
                refused += 1;
            }
        }
        assert!(good < 100, "the table does not grow any more");
    }
    bench.enqueue(20, 0).await;
    bench.all_done().await;
    limit_file_sizes(&owner, server, "unlimited").await;
    eventually("the API to work again", async || plan(&bench, &api, "After").await.0 == StatusCode::CREATED).await;
    assert_eq!(count(&bench.db, "select count(*) from sessions where title = 'Meanwhile'").await, good);
    bench.system.stop().await;
}
