//! What runs out: connections to the database; a database that is locked, or restarts again and
//! again.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::people::{self, INSTRUCTOR};
use serde_json::json;
use shared::clock::Clock;

use crate::{
    faults::Bench,
    support::{count, database, eventually, launch},
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
