//! The engine around the handlers: every way that a job can end, with jobs that exist only here.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    jobs::{Job, Queue},
    queue::{
        Enqueued, Tx,
        ledger::{self, Unfinished},
    },
};
use tokio_util::sync::CancellationToken;
use worker::{
    handler::{Ctx, Done, Handler, JobError},
    registry::Registry,
    run::Engine,
    state::State,
};

use crate::support::TestWorker;

/// What a job of these tests does.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Act {
    Nothing,
    /// Renames the tenant, in the transaction that it hands back.
    Rename(String),
    Panic,
    Retry,
    Fail,
    Snooze,
    Hang,
    /// Renames the tenant after somebody else took the job over.
    LoseTheLease,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Test {
    act: Act,
}

impl Job for Test {
    const NAME: &'static str = "test";
    const QUEUE: Queue = Queue::Default;
    const MAX_ATTEMPTS: i32 = 3;
    const TIMEOUT: Duration = Duration::from_millis(300);
}

impl Handler for Test {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        match self.act {
            Act::Nothing => Ok(Done::nothing()),
            Act::Rename(name) => rename(state, &name).await,
            Act::Panic => panic!("on purpose"),
            Act::Retry => Err(anyhow::anyhow!("not this time\0").into()),
            Act::Fail => Err(JobError::fail("never")),
            Act::Snooze => Err(JobError::Snooze(Duration::from_secs(60), "not ready".into())),
            Act::Hang => std::future::pending().await,
            Act::LoseTheLease => {
                sqlx::query("update jobs set lease_until = now() - interval '1 second' where id = $1")
                    .bind(ctx.lease.id)
                    .execute(&state.db)
                    .await?;
                ledger::rescue(&state.db).await?;
                rename(state, "too late").await
            }
        }
    }
}

async fn rename(state: &State, name: &str) -> Result<Done, JobError> {
    let mut tx = Tx::begin(&state.db, &state.dispatcher).await?;
    sqlx::query("update tenants set name = $1").bind(name).execute(&mut *tx).await?;
    Ok(Done::with(tx))
}

/// A worker that can run [`Test`] only.
async fn worker() -> TestWorker {
    let mut worker = TestWorker::new().await;
    let registry = Registry::new().register::<Test>();
    worker.engine = Engine::new(worker.state().clone(), registry, CancellationToken::new());
    worker
}

async fn name(worker: &TestWorker) -> String {
    worker.get("select name from tenants").await
}

#[tokio::test]
async fn effect_and_outcome_are_committed_together() {
    let worker = worker().await;
    let job = worker.run(&Test { act: Act::Rename("new".into()) }).await;
    assert_eq!((job.state.as_str(), job.attempt, name(&worker).await.as_str()), ("done", 1, "new"));
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    let worker = worker().await;
    let before = name(&worker).await;
    let job = worker.run(&Test { act: Act::LoseTheLease }).await;
    assert_eq!(name(&worker).await, before, "the effect must not be committed");
    assert_eq!(job.state, "available", "the job is somebody else's");
}

#[tokio::test]
async fn a_panic_is_a_failure_that_is_tried_again() {
    let worker = worker().await;
    let job = worker.run(&Test { act: Act::Panic }).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 1));
    assert!(job.errors.to_string().contains("panicked: on purpose"), "{}", job.errors);
    let next = worker.run(&Test { act: Act::Nothing }).await;
    assert_eq!(next.state, "done", "the worker lives");
}

#[tokio::test]
async fn a_failure_waits_and_the_last_one_is_a_dead_letter_with_its_history() {
    let worker = worker().await;
    let job = worker.run(&Test { act: Act::Retry }).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 1));
    assert!((3.0..7.0).contains(&job.wait_seconds), "{}", job.wait_seconds);
    let job = worker.run_id(job.id).await;
    assert!((11.0..19.0).contains(&job.wait_seconds), "{}", job.wait_seconds);
    let job = worker.run_id(job.id).await;
    assert_eq!((job.state.as_str(), job.attempt), ("dead", 3));
    assert_eq!(job.errors.as_array().map(Vec::len), Some(3), "{}", job.errors);
}

#[tokio::test]
async fn what_will_never_succeed_is_a_dead_letter_at_once() {
    let worker = worker().await;
    let job = worker.run(&Test { act: Act::Fail }).await;
    assert_eq!((job.state.as_str(), job.attempt), ("dead", 1));
    assert_eq!(job.errors[0]["error"], "never");
}

#[tokio::test]
async fn a_snooze_uses_no_attempt() {
    let worker = worker().await;
    let mut job = worker.run(&Test { act: Act::Snooze }).await;
    for _ in 0..5 {
        assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
        assert!((55.0..61.0).contains(&job.wait_seconds), "{}", job.wait_seconds);
        job = worker.run_id(job.id).await;
    }
}

#[tokio::test]
async fn a_job_that_hangs_is_ended_at_its_limit() {
    let worker = worker().await;
    let job = worker.run(&Test { act: Act::Hang }).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 1));
    assert!(job.errors.to_string().contains("longer than its limit"), "{}", job.errors);
}

#[tokio::test]
async fn a_payload_that_does_not_decode_is_a_dead_letter_with_the_reason() {
    let worker = worker().await;
    for payload in [r#"{"act": "Dance"}"#, "{}", "[]", "null", r#"{"act": 1e400}"#] {
        let id = worker.enqueue(&Test { act: Act::Nothing }).await;
        let Ok(payload) = serde_json::from_str::<serde_json::Value>(payload) else { continue };
        sqlx::query("update jobs set payload = $2 where id = $1")
            .bind(id)
            .bind(&payload)
            .execute(worker.db())
            .await
            .unwrap();
        let job = worker.run_id(id).await;
        assert_eq!(job.state, "dead", "{payload}");
        assert!(job.errors.to_string().contains("does not decode"), "{}", job.errors);
    }
}

#[tokio::test]
async fn unknown_kinds_go_back_untouched_and_are_given_up_after_a_day() {
    let worker = worker().await;
    let id = worker.enqueue(&Test { act: Act::Nothing }).await;
    worker.set("jobs", id.0, "kind = 'of-a-newer-version'").await;
    let kinds = worker.engine.registry.kinds();
    let lease = Duration::from_secs(60);
    assert!(ledger::claim(worker.db(), &[id.0], &kinds, "old", lease).await.unwrap().is_empty());
    assert_eq!(ledger::put_aside_unknown(worker.db(), &[id.0], &kinds).await.unwrap(), 1);
    let job = worker.job(id).await;
    assert_eq!((job.state.as_str(), job.attempt, job.errors.to_string().as_str()), ("available", 0, "[]"));
    assert!(job.wait_seconds > 10.0, "it does not come round at once");

    worker.set("jobs", id.0, "run_at = now(), created_at = now() - interval '25 hours'").await;
    ledger::put_aside_unknown(worker.db(), &[id.0], &kinds).await.unwrap();
    let job = worker.job(id).await;
    assert_eq!(job.state, "dead");
    assert!(job.errors.to_string().contains("no worker knew"), "{}", job.errors);
}

#[tokio::test]
async fn the_third_death_of_a_worker_makes_a_dead_letter_and_no_attempt_is_used() {
    let worker = worker().await;
    let id = worker.enqueue(&Test { act: Act::Nothing }).await;
    for crash in 1..=3 {
        let claimed = worker.claim(id).await;
        assert_eq!((claimed.attempt, claimed.crashes), (1, crash - 1));
        assert!(ledger::rescue(worker.db()).await.unwrap().is_empty(), "its lease still runs");
        worker.set("jobs", id.0, "lease_until = now() - interval '1 ms'").await;
        let rescued = ledger::rescue(worker.db()).await.unwrap();
        assert_eq!((rescued.len(), rescued[0].crashes), (1, crash));
    }
    let job = worker.job(id).await;
    assert_eq!((job.state.as_str(), job.attempt), ("dead", 0));
    assert!(job.errors.to_string().contains("crashed"), "{}", job.errors);
}

#[tokio::test]
async fn claimed_by_many_at_once_each_job_runs_once() {
    let worker = worker().await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(worker.enqueue(&Test { act: Act::Nothing }).await.0);
    }
    let (db, kinds) = (worker.db().clone(), Arc::new(worker.engine.registry.kinds()));
    let mut claims = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (db, kinds, mut ids) = (db.clone(), kinds.clone(), ids.clone());
        ids.rotate_left(n * 6);
        claims.spawn(
            async move { ledger::claim(&db, &ids, &kinds, "one of many", Duration::from_secs(60)).await.unwrap() },
        );
    }
    let mut claimed: Vec<_> = claims.join_all().await.into_iter().flatten().map(|job| job.id.0).collect();
    claimed.sort_unstable();
    ids.sort_unstable();
    assert_eq!(claimed, ids);
}

#[tokio::test]
async fn an_old_lease_can_write_no_outcome_at_all() {
    let worker = worker().await;
    let id = worker.enqueue(&Test { act: Act::Nothing }).await;
    let old = worker.claim(id).await.lease();
    worker.set("jobs", id.0, "lease_until = now() - interval '1 ms'").await;
    ledger::rescue(worker.db()).await.unwrap();
    let new = worker.claim(id).await.lease();
    assert!(new.token > old.token);

    assert!(ledger::complete(worker.db(), &[old]).await.unwrap().is_empty());
    assert!(ledger::renew(worker.db(), &[old], Duration::from_secs(60)).await.unwrap().is_empty());
    assert_eq!(ledger::release(worker.db(), &[old]).await.unwrap(), 0);
    let retry = Unfinished::Retry { error: "late".into(), wait: Duration::ZERO };
    for outcome in [retry, Unfinished::Fail { error: "late".into() }, Unfinished::Cancelled] {
        assert_eq!(ledger::unfinished(worker.db(), old, &outcome).await.unwrap(), None);
    }
    assert_eq!(ledger::complete(worker.db(), &[old, new]).await.unwrap(), [id]);
}

#[tokio::test]
async fn a_job_that_is_given_back_runs_again_as_if_never_started() {
    let worker = worker().await;
    let id = worker.enqueue(&Test { act: Act::Nothing }).await;
    let lease = worker.claim(id).await.lease();
    assert_eq!(ledger::release(worker.db(), &[lease]).await.unwrap(), 1);
    let job = worker.job(id).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
    assert!(job.wait_seconds <= 0.0, "at once");
}

#[tokio::test]
async fn a_payload_with_fields_of_a_newer_version_runs() {
    let worker = worker().await;
    let id = worker.enqueue(&Test { act: Act::Nothing }).await;
    worker.set("jobs", id.0, "payload = payload || '{\"new_field\": {\"a\": 1}}'").await;
    assert_eq!(worker.run_id(id).await.state, "done");
}

#[tokio::test]
async fn a_job_before_its_last_crash_runs_alone_and_the_waiting_one_is_not_blamed() {
    let worker = worker().await;
    let hanging = worker.enqueue(&Test { act: Act::Hang }).await;
    let other = worker.enqueue(&Test { act: Act::Nothing }).await;
    worker.set("jobs", hanging.0, "crashes = 2").await;
    let (first, second) = (worker.claim(hanging).await, worker.claim(other).await);
    let engine = worker.engine.clone();
    let running = tokio::spawn(async move { engine.run(first).await });
    crate::support::eventually("the first to run", || async { !worker.engine.running.is_empty() }).await;
    worker.engine.run(second).await;
    let job = worker.job(other).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0), "given back while the first one runs");
    running.await.unwrap();
    assert_eq!(worker.run_id(other).await.state, "done");
}

/// Has a unique key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unique {
    key: String,
}

impl Job for Unique {
    const NAME: &'static str = "unique";
    const QUEUE: Queue = Queue::Default;
    fn unique_key(&self) -> Option<String> {
        Some(self.key.clone())
    }
}

#[tokio::test]
async fn a_duplicate_is_told_which_job_it_duplicates_until_that_one_has_ended() {
    let worker = worker().await;
    let job = Unique { key: "k".into() };
    let mut tx = worker.begin().await;
    let Enqueued::Created(first) = tx.enqueue(&job).await.unwrap() else { panic!("the first is no duplicate") };
    assert_eq!(tx.enqueue(&job).await.unwrap(), Enqueued::DuplicateOf(first));
    assert!(matches!(tx.enqueue(&Unique { key: "other".into() }).await.unwrap(), Enqueued::Created(_)));
    assert_eq!(tx.enqueue_all(&[job.clone(), Unique { key: "third".into() }]).await.unwrap(), 1);
    tx.commit().await.unwrap();

    worker.set("jobs", first.0, "state = 'done', finished_at = now()").await;
    let mut tx = worker.begin().await;
    assert!(matches!(tx.enqueue(&job).await.unwrap(), Enqueued::Created(id) if id != first));
}

#[tokio::test]
async fn nothing_is_enqueued_by_a_transaction_that_is_not_committed() {
    let worker = worker().await;
    let mut tx = worker.begin().await;
    tx.enqueue(&Test { act: Act::Nothing }).await.unwrap();
    drop(tx);
    assert!(worker.waiting::<Test>().await.is_empty());
}

#[tokio::test]
async fn the_head_of_a_queue_is_by_priority_then_by_due_time_and_never_the_future() {
    let worker = worker().await;
    let mut ids = Vec::new();
    for (priority, due) in [(2, "-10 s"), (1, "-1 s"), (1, "-5 s"), (0, "+1 hour"), (3, "-1 hour")] {
        let id = worker.enqueue(&Test { act: Act::Nothing }).await;
        worker.set("jobs", id.0, &format!("priority = {priority}, run_at = now() + interval '{due}'")).await;
        ids.push(id.0);
    }
    let head = ledger::due_head(worker.db(), Queue::Default, 10).await.unwrap();
    let found: Vec<_> = head.iter().map(|entry| entry.id).collect();
    assert_eq!(found, [ids[2], ids[1], ids[0], ids[4]]);
    assert_eq!(ledger::due_head(worker.db(), Queue::Default, 2).await.unwrap().len(), 2);
}
