//! What operators do, against real workers.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    db,
    domain::ids::JobId,
    jobs::{self, Job, Noop, Queue},
    queue::{
        Dispatcher, Enqueued, Tx,
        control::{self, Change, DeadFilter, JobState},
        ledger,
        redis::RedisQueues,
        relay,
    },
};
use sqlx::PgPool;
use worker::{
    handler::{Ctx, Done, Handler, JobError},
    registry::Registry,
    run::{Engine, renew_leases},
    state::State,
};

use crate::{control_lists::insert_many, support::*};

/// Runs until somebody ends it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Endless {
    fails_when_told: bool,
}

static STARTED: AtomicUsize = AtomicUsize::new(0);
static ENDED: AtomicUsize = AtomicUsize::new(0);

impl Job for Endless {
    const NAME: &'static str = "endless";
    const QUEUE: Queue = Queue::Default;
}

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler for Endless {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        if self.fails_when_told {
            eventually("the job is cancelled", || async {
                let job = control::find(&state.db, ctx.lease.id).await.unwrap().unwrap();
                job.job.cancel_requested
            })
            .await;
            return Err(anyhow::anyhow!("failed after it was cancelled").into());
        }
        let _counted = Counted;
        STARTED.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

pub fn noop(note: &str) -> Noop {
    serde_json::from_value(json!({ "note": note })).unwrap()
}

pub async fn dead(worker: &TestWorker, note: &str) -> JobId {
    let id = worker.enqueue(&noop(note)).await;
    let columns = r#"state = 'dead', attempt = 10, crashes = 2, finished_at = now(), errors = '[{"error": "broken"}]'"#;
    worker.set("jobs", id.0, columns).await;
    id
}

pub async fn state(pool: &PgPool, id: JobId) -> JobState {
    control::find(pool, id).await.unwrap().unwrap().job.state
}

#[tokio::test]
async fn a_paused_queue_holds_its_jobs_and_drains_when_it_is_resumed() {
    let worker = TestWorker::new().await;
    let (pool, config) = (worker.db().clone(), worker.state().config.clone());
    let redis = RedisQueues::connect(&config.redis.redis_url, &config.redis.redis_prefix).unwrap();
    control::pause(&pool, Queue::Default, "ayse").await.unwrap();
    control::pause(&pool, Queue::Default, "somebody later").await.unwrap();

    let mut running = worker::Config::clone(&config);
    running.health_addr = "127.0.0.1:0".parse().unwrap();
    let process = tokio::spawn(worker::run(running, worker.stop.clone()));
    let mut held = Vec::new();
    for n in 0..25 {
        held.push(worker.enqueue(&noop(&n.to_string())).await);
    }
    // The worker has taken all ids from Redis in vain; a job of another queue ran meanwhile.
    let other =
        worker.enqueue(&shared::jobs::FinalizeSession { session_id: shared::domain::ids::SessionId::new() }).await;
    eventually("the other queue works", || async { state(&pool, other).await == JobState::Done }).await;
    eventually("ids are taken in vain", || async { redis.depth(Queue::Default).await.unwrap() == 0 }).await;
    assert_eq!(relay::refill(&pool, &redis, Queue::Default).await.unwrap(), 0, "nothing is pushed while it is paused");
    let states = control::queue_states(&pool).await.unwrap();
    let default = states.iter().find(|s| s.queue == "default").unwrap();
    assert_eq!((default.due.value(), default.paused_by.as_deref()), (25, Some("ayse")));
    assert!(default.paused_at.is_some() && default.oldest_due_seconds.unwrap() > 0.0);
    for id in &held {
        assert_eq!(state(&pool, *id).await, JobState::Available);
    }

    control::resume(&pool, Queue::Default, "ops").await.unwrap();
    eventually("all jobs are done", || async {
        // As the scheduler does.
        relay::refill(&pool, &redis, Queue::Default).await.unwrap();
        let mut done = 0;
        for id in &held {
            done += usize::from(state(&pool, *id).await == JobState::Done);
        }
        done == held.len()
    })
    .await;
    worker.stop.cancel();
    process.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pause_leaves_running_jobs_alone_and_stops_the_next_claim() {
    let worker = TestWorker::new().await;
    let (first, second) = (worker.enqueue(&noop("1")).await, worker.enqueue(&noop("2")).await);
    let claimed = worker.claim(first).await;
    control::pause(worker.db(), Queue::Default, "ayse").await.unwrap();
    worker.engine.run(claimed).await;
    assert_eq!(worker.job(first).await.state, "done");
    let kinds = worker.engine.registry.kinds();
    let none = ledger::claim(worker.db(), &[second.0], &kinds, "test", Duration::from_secs(9)).await.unwrap();
    assert!(none.is_empty());
    control::resume(worker.db(), Queue::Default, "ops").await.unwrap();
    worker.claim(second).await;
}

#[tokio::test]
async fn a_cancelled_running_job_is_ended_and_never_runs_again() {
    let worker = TestWorker::new().await;
    let pool = worker.db().clone();
    let registry = Registry::new().register::<Endless>();
    let engine = Engine::new(worker.state().clone(), registry, worker.stop.clone());
    let lease = Duration::from_secs(3);
    let renewing = tokio::spawn(renew_leases(engine.clone(), lease));
    let start = async |job: &Endless| {
        let id = worker.enqueue(job).await;
        let claimed = ledger::claim(&pool, &[id.0], &["endless"], "test", lease).await.unwrap().remove(0);
        let engine = engine.clone();
        (id, tokio::spawn(async move { engine.run(claimed).await }))
    };
    let (id, run) = start(&Endless { fails_when_told: false }).await;
    eventually("the handler runs", || async { STARTED.load(Ordering::SeqCst) == 1 }).await;

    let Change::Made(job) = control::cancel(&mut *on(&pool).await, id, "ayse").await.unwrap() else { panic!() };
    assert_eq!((job.job.state, job.job.cancel_requested), (JobState::Running, true));
    // Asking again changes nothing.
    control::cancel(&mut *on(&pool).await, id, "ayse").await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), run)
        .await
        .expect("the run ends within a third of the lease")
        .unwrap();
    assert_eq!(ENDED.load(Ordering::SeqCst), 1);
    let job = control::find(&pool, id).await.unwrap().unwrap();
    assert_eq!(job.job.state, JobState::Cancelled);
    assert_eq!(job.history.as_array().unwrap().len(), 1, "{}", job.history);
    assert_eq!(job.history[0]["note"], "cancelled by ayse");
    assert!(ledger::due_head(&pool, Queue::Default, 10).await.unwrap().is_empty());
    assert_eq!(control::cancel(&mut *on(&pool).await, id, "ayse").await.unwrap(), Change::Refused(JobState::Cancelled));

    // It fails by itself before its worker hears of it: no further attempt.
    let (id, run) = start(&Endless { fails_when_told: true }).await;
    control::cancel(&mut *on(&pool).await, id, "ayse").await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), run).await.unwrap().unwrap();
    assert_eq!(state(&pool, id).await, JobState::Cancelled);

    // Its worker stops in order, or dies.
    for dies in [false, true] {
        let id = worker.enqueue(&Endless { fails_when_told: false }).await;
        let claimed = ledger::claim(&pool, &[id.0], &["endless"], "gone", lease).await.unwrap().remove(0);
        control::cancel(&mut *on(&pool).await, id, "ayse").await.unwrap();
        if dies {
            worker.set("jobs", id.0, "lease_until = now() - interval '1 second'").await;
            assert_eq!(ledger::rescue(&pool).await.unwrap().len(), 1);
        } else {
            assert_eq!(ledger::release(&pool, &[claimed.lease()]).await.unwrap(), 1);
        }
        assert_eq!(state(&pool, id).await, JobState::Cancelled);
    }
    renewing.abort();
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once() {
    let worker = TestWorker::new().await;
    let id = worker.enqueue(&noop("")).await;
    let Change::Made(job) = control::cancel(&mut *on(worker.db()).await, id, "ayse").await.unwrap() else { panic!() };
    assert_eq!((job.job.state, job.job.cancel_requested), (JobState::Cancelled, false));
    assert!(job.job.finished_at.is_some());
    assert_eq!(control::cancel(&mut *on(worker.db()).await, JobId::new(), "ayse").await.unwrap(), Change::NotFound);
    let done = worker.run(&noop("")).await;
    assert_eq!(
        control::cancel(&mut *on(worker.db()).await, done.id, "ayse").await.unwrap(),
        Change::Refused(JobState::Done)
    );
    assert_eq!(
        control::retry(&mut *on(worker.db()).await, done.id, "ayse").await.unwrap(),
        Change::Refused(JobState::Done)
    );
}

#[tokio::test]
async fn a_dead_letter_is_tried_again_with_all_attempts_and_keeps_its_history() {
    let worker = TestWorker::new().await;
    let id = dead(&worker, "").await;
    let Change::Made(job) = control::retry(&mut *on(worker.db()).await, id, "ayse").await.unwrap() else { panic!() };
    assert_eq!((job.job.state, job.job.attempt, job.job.crashes), (JobState::Available, 0, 0));
    assert_eq!((job.job.finished_at, job.job.last_error), (None, None));
    assert_eq!(job.history[0]["error"], "broken");
    assert_eq!((&job.history[1]["note"], &job.history[1]["attempt"]), (&json!("tried again by ayse"), &json!(10)));
    worker.engine.run(worker.claim(id).await).await;
    assert_eq!(state(worker.db(), id).await, JobState::Done);

    // One that waits for its next attempt is due at once.
    let id = worker.enqueue(&noop("")).await;
    worker.set("jobs", id.0, "run_at = now() + interval '6 hours', attempt = 7").await;
    control::retry(&mut *on(worker.db()).await, id, "ayse").await.unwrap();
    assert_eq!(worker.claim(id).await.attempt, 1);
    assert_eq!(
        control::retry(&mut *on(worker.db()).await, id, "ayse").await.unwrap(),
        Change::Refused(JobState::Running)
    );
}

#[tokio::test]
async fn a_retry_does_not_double_what_is_unique() {
    let worker = TestWorker::new().await;
    let old = worker.enqueue(&jobs::Cleanup {}).await;
    worker.set("jobs", old.0, "state = 'dead', finished_at = now()").await;
    let new = worker.enqueue(&jobs::Cleanup {}).await;
    assert_eq!(control::retry(&mut *on(worker.db()).await, old, "ayse").await.unwrap(), Change::DuplicateOf(new));
    assert_eq!(state(worker.db(), old).await, JobState::Dead);
    let step = control::retry_dead(&mut *on(worker.db()).await, &DeadFilter::default(), None, "ayse").await.unwrap();
    assert_eq!((step.retried, step.skipped, step.next), (0, 1, None));
    let Change::Made(job) = control::discard(&mut *on(worker.db()).await, old, "ayse").await.unwrap() else { panic!() };
    assert_eq!((job.job.state, &job.history[0]["note"]), (JobState::Cancelled, &json!("discarded by ayse")));
    assert_eq!(
        control::discard(&mut *on(worker.db()).await, new, "ayse").await.unwrap(),
        Change::Refused(JobState::Available)
    );
}

#[tokio::test]
async fn dead_letters_are_tried_again_in_steps_each_once() {
    let worker = TestWorker::new().await;
    let pool = worker.db();
    insert_many(pool, "noop", "dead", 1_200).await;
    insert_many(pool, "finalize-session", "dead", 7).await;
    let filter = DeadFilter { queue: None, kind: Some("noop".into()) };
    let (mut after, mut steps) = (None, Vec::new());
    loop {
        let step = control::retry_dead(&mut *on(pool).await, &filter, after, "ayse").await.unwrap();
        steps.push(step.retried);
        after = step.next;
        if after.is_none() {
            break;
        }
        // All of them die again at once: they have had their turn.
        sqlx::query("update jobs set state = 'dead' where state = 'available'").execute(pool).await.unwrap();
    }
    assert_eq!(steps, [500, 500, 200]);
    let left =
        control::retry_dead(&mut *on(pool).await, &DeadFilter { queue: Some(Queue::Live), kind: None }, None, "ayse")
            .await
            .unwrap();
    assert_eq!((left.retried, left.skipped), (7, 0));
}

#[tokio::test]
async fn jobs_enqueued_by_name_are_those_of_the_table_only() {
    let worker = TestWorker::new().await;
    assert!(jobs::find("rm-rf").is_none());
    let kind = jobs::find("cleanup").unwrap();
    assert!((kind.read)(json!({ "hours": 3 })).is_err());
    let job = (kind.read)(json!({})).unwrap();
    let enqueue = async || {
        let mut tx = Tx::begin(worker.db(), &Dispatcher::to_relay()).await.unwrap();
        let enqueued = tx.enqueue_named(kind, &job, Duration::ZERO).await.unwrap();
        tx.commit().await.unwrap();
        enqueued
    };
    let Enqueued::Created(id) = enqueue().await else { panic!() };
    assert_eq!(enqueue().await, Enqueued::DuplicateOf(id));
    let row = control::find(worker.db(), id).await.unwrap().unwrap();
    assert_eq!((row.job.priority, row.job.queue.as_str(), row.unique_key.as_deref()), (3, "default", Some("")));
    worker.engine.run(worker.claim(id).await).await;
    assert_eq!(state(worker.db(), id).await, JobState::Done);
}

#[tokio::test]
async fn a_schedule_is_run_by_hand_without_touching_its_ticks() {
    let worker = TestWorker::new().await;
    let pool = worker.db();
    let known = db::schedules::Known {
        name: "cleanup",
        cron: "0 3 * * *".into(),
        zone: "Europe/Istanbul",
        enabled: false,
        next_run: None,
    };
    db::schedules::write(pool, &[known]).await.unwrap();
    let run = async |name: &str| {
        let mut tx = worker.begin().await;
        let ran = db::schedules::run_now(&mut tx, name, "ayse").await.unwrap();
        tx.commit().await.unwrap();
        ran
    };
    let Some(Enqueued::Created(id)) = run("cleanup").await else { panic!() };
    assert_eq!(run("cleanup").await, Some(Enqueued::DuplicateOf(id)));
    assert_eq!(run("noop").await, None, "a job that is no schedule");
    let rows = db::schedules::list(pool).await.unwrap();
    assert_eq!((rows[0].asked_job, rows[0].asked_by.as_deref(), rows[0].last_tick), (Some(id), Some("ayse"), None));
    assert_eq!(worker.get::<i64>("select count(*) from schedule_ticks").await, 0);
}
