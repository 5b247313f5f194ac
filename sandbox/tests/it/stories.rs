//! The whole system, with real processes that are really killed. `SHOW_LOGS=1` shows what the services log.

use std::{collections::BTreeMap, process::Command, time::Duration};

use sandbox::{people::INSTRUCTOR, system::System};
use serde_json::{Value, json};
use shared::{
    clock::Clock,
    jobs::Noop,
    queue::{Dispatcher, Tx, redis::RedisQueues},
};

use crate::support::{PROGRAM, count, database, eventually, post, system};

/// A session that starts in ten minutes: its reminders are due at once.
async fn plan(system: &System, people: usize) -> String {
    let now = Clock::System.now();
    let invitees: Vec<Value> = (0..people)
        .map(|n| json!({"person_id": format!("p{n}"), "name": format!("Person {n}"), "email": format!("p{n}@demo.example")}))
        .collect();
    let body = json!({
        "kind": "scheduled",
        "title": "Kill test",
        "starts_at": now + chrono::Duration::minutes(10),
        "ends_at": now + chrono::Duration::minutes(40),
        "timezone": "Europe/Istanbul",
        "invitees": invitees,
    });
    let session = post(system, &INSTRUCTOR, "sessions/", &body).await;
    session["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_in_success_while_the_worker_is_killed_and_redis_is_flushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = tokio::task::spawn_blocking(move || {
        let output = Command::new(PROGRAM).args(["--dir"]).arg(dir.path()).args(["demo", "--break"]).output();
        (output, dir)
    });
    let (output, _dir) = output.await.expect("the demo is awaited");
    let output = output.expect("the demo runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{faults}");
    assert!(told.contains("The demo ended in success"), "{told}");
    assert_eq!(told.matches("killed the worker").count(), 3, "{told}");
    assert_eq!(told.matches("flushed Redis").count(), 3, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_jobs_that_waited_for_a_worker_are_all_done_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let quiet = [("SCHEDULE_CLOSE_STALE_ATTENDANCE", "off"), ("RUST_LOG", "warn")];
    let system = system(&dir, 0, &quiet).await;
    let db = database(&system).await;
    let redis = RedisQueues::connect(system.var("REDIS_URL"), "live-sessions").expect("a Redis address");
    let dispatcher = Dispatcher::start(redis.clone());
    for batch in 0..20 {
        let mut tx = Tx::begin(&db, &dispatcher).await.expect("a transaction");
        let jobs: Vec<Noop> = (0..1_000).map(|n| Noop { note: format!("{batch}-{n}"), ..Noop::default() }).collect();
        tx.enqueue_all(&jobs).await.expect("jobs are written");
        tx.commit().await.expect("they are committed");
    }
    let held = redis.depth(shared::jobs::Queue::Default).await.expect("Redis answers");
    assert!(held <= 2 * shared::queue::redis::SLICE, "Redis holds {held} ids of a backlog");

    let started = std::time::Instant::now();
    let worker = Command::new(PROGRAM)
        .args(["service", "worker", "--health-addr", "127.0.0.1:0"])
        .envs(&system.env)
        .spawn()
        .expect("a worker starts");
    let worker = scopeguard(worker);
    eventually("all jobs to be done", async || {
        count(&db, "select count(*) from jobs where kind = 'noop' and state = 'done'").await == 20_000
    })
    .await;
    println!("20,000 jobs in {:?}", started.elapsed());
    drop(worker);
    assert_eq!(count(&db, "select count(*) from jobs where kind = 'noop' and attempt <> 1").await, 0);
    system.stop().await;
}

/// Kills a child process when the test ends, however it ends.
fn scopeguard(child: std::process::Child) -> impl Drop {
    struct Kill(std::process::Child);
    impl Drop for Kill {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    Kill(child)
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_neither_lost_nor_doubled_when_workers_are_killed_and_redis_is_flushed() {
    const PEOPLE: usize = 60;
    let dir = tempfile::tempdir().expect("a directory");
    let system = system(&dir, 2, &[("RUST_LOG", "warn"), ("JOB_LEASE", "3")]).await;
    let db = database(&system).await;
    plan(&system, PEOPLE).await;
    let client = redis::Client::open(system.var("REDIS_URL")).expect("a Redis address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis answers");
    // Two starts may end with a kill before a job is given up; so two kills of each worker.
    for round in 0..2 {
        let before = system.smtp.messages().len();
        eventually("mails to go out", async || system.smtp.messages().len() > before + 5).await;
        system.workers[round % 2].process().kill9().await;
        redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.expect("Redis is flushed");
    }
    let open = "select count(*) from reminders where state in ('pending', 'queued', 'sending')";
    eventually("all mails to be sent", async || count(&db, open).await == 0).await;

    let mails = system.smtp.messages();
    let mut by_id: BTreeMap<String, usize> = BTreeMap::new();
    for mail in &mails {
        *by_id.entry(mail.message_id().expect("every mail has an id").to_owned()).or_default() += 1;
    }
    let sent = count(&db, "select count(*) from reminders where state = 'sent'").await;
    assert_eq!(by_id.len() as i64, sent, "each row that is marked sent was sent, and no other");
    assert!(sent >= PEOPLE as i64 * 2, "an invitation and a reminder for everybody, at least: {sent}");
    // The only way to a double is a kill between the mail server's answer and our commit.
    let doubled: usize = by_id.values().map(|n| n - 1).sum();
    println!("{} mails, {doubled} of them repeated with the same Message-ID", mails.len());
    let in_flight = 2 * 8;
    assert!(doubled <= in_flight, "{doubled} doubled mails are more than were in flight at two kills");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_api_died_before_the_push_runs_within_two_seconds() {
    let dir = tempfile::tempdir().expect("a directory");
    let system = system(&dir, 1, &[("RUST_LOG", "warn")]).await;
    let db = database(&system).await;
    // What an API leaves that is killed between commit and push: a row, and nothing in Redis.
    sqlx::query("insert into jobs (id, queue, kind, payload, max_attempts) values ($1, 'default', 'noop', '{}', 3)")
        .bind(uuid::Uuid::now_v7())
        .execute(&db)
        .await
        .expect("the row is written");
    let started = std::time::Instant::now();
    eventually("the job to be done", async || {
        count(&db, "select count(*) from jobs where kind = 'noop' and state = 'done'").await == 1
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_chaos_run_loses_nothing() {
    let run = tokio::task::spawn_blocking(|| {
        Command::new(PROGRAM).args(["chaos", "--seed", "7", "--minutes", "0.4"]).output().expect("it runs")
    });
    let output = run.await.expect("it is awaited");
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("lost      0"), "{told}");
    let faults = told.matches('⚡').count();
    assert!(faults >= 3, "{faults} faults are no test");
}
