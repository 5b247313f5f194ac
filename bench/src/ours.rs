//! What our engine is asked to do: push, drain, idle. How soon it begins is in `latency`.

use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use sandbox::services::Supervised;
use shared::{clock::Clock, jobs::Noop, queue::Tx};

use crate::{
    meter::{Meter, Roles, Used},
    rig::{Frozen, Rig, USUAL_LOG, problems_only},
    usage,
};

/// A number of jobs and what they took.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Batch {
    pub jobs: usize,
    pub used: Used,
    /// Peak resident memory of the workers, in bytes.
    pub worker_memory: u64,
    /// Peak of what Redis used, in bytes.
    pub redis_memory: u64,
    /// Transactions that wrote, in Postgres.
    pub commits: u64,
}

impl Batch {
    pub fn per_second(&self) -> f64 {
        self.jobs as f64 / self.used.seconds
    }

    /// CPU of all processes that worked for it, in microseconds per job.
    pub fn cpu_per_job(&self) -> f64 {
        self.used.total() * 1e6 / self.jobs as f64
    }

    /// The same of one role.
    pub fn role_per_job(&self, role: &str) -> f64 {
        self.used.of(role) * 1e6 / self.jobs as f64
    }

    /// CPU of the one who pushes, in microseconds per job.
    pub fn own_per_job(&self) -> f64 {
        self.used.own_cpu * 1e6 / self.jobs as f64
    }
}

fn servers(rig: &Rig) -> Roles {
    vec![("redis", rig.redis_pid()), ("postgres", rig.postgres_pid())]
}

/// Single pushes, one transaction each, by `pushers` tasks at once. Nobody takes them out.
pub async fn push_single(rig: &Rig, jobs: usize, pushers: usize) -> anyhow::Result<Batch> {
    rig.clear().await?;
    let meter = Meter::start(servers(rig));
    let pushing = (0..pushers).map(|_| async {
        for _ in 0..jobs / pushers {
            let mut tx = Tx::begin(&rig.pool, &rig.dispatcher).await?;
            tx.enqueue(&Noop::default()).await?;
            tx.commit().await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(pushing).await?;
    let used = meter.stop();
    Ok(Batch { jobs: jobs / pushers * pushers, used, worker_memory: 0, redis_memory: 0, commits: 0 })
}

/// Pushes of many in one transaction.
pub async fn push_bulk(rig: &Rig, jobs: usize) -> anyhow::Result<Batch> {
    rig.clear().await?;
    let meter = Meter::start(servers(rig));
    rig.enqueue_bulk(jobs, 0).await?;
    Ok(Batch { jobs, used: meter.stop(), worker_memory: 0, redis_memory: 0, commits: 0 })
}

/// Fills the queue while the worker stands still, then lets it go and measures until the last job is done.
/// `look` is called when everything is in place.
pub async fn drain(
    rig: &Rig,
    jobs: usize,
    sleep_ms: u64,
    look: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Batch> {
    rig.clear().await?;
    drain_beside(rig, jobs, sleep_ms, look).await
}

/// The same beside what is in the ledger.
pub async fn drain_beside(
    rig: &Rig,
    jobs: usize,
    sleep_ms: u64,
    look: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Batch> {
    let worker = rig.service("worker", USUAL_LOG, problems_only()).await?;
    let scheduler = rig.service("scheduler", USUAL_LOG, problems_only()).await?;
    let batch = drain_with(rig, &worker, &scheduler, jobs, sleep_ms, look).await;
    tokio::join!(worker.stop(), scheduler.stop());
    batch
}

async fn drain_with(
    rig: &Rig,
    worker: &Supervised,
    scheduler: &Supervised,
    jobs: usize,
    sleep_ms: u64,
    look: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Batch> {
    let (worker, scheduler) = (worker.process().pid(), scheduler.process().pid());
    let frozen = Frozen::new(worker);
    rig.enqueue_bulk(jobs, sleep_ms).await?;
    // The standing worker's blocked pop gets some ids as well, and the set holds only so many.
    rig.wait_for_pushes(jobs.saturating_sub(1_000).min(9_000)).await?;
    // As it is after a while of normal service, where autovacuum has come by.
    sqlx::query("vacuum (analyze) jobs").execute(&rig.owner).await?;
    look().await?;
    usage::forget_peak(worker);
    let mut roles = servers(rig);
    roles.extend([("worker", worker), ("scheduler", scheduler)]);
    let transactions = transactions(rig).await?;
    let started = Clock::System.now();
    let meter = Meter::start(roles);
    frozen.thaw();
    let redis_memory = rig.wait_until_drained().await?;
    let mut used = meter.stop();
    let commits = self::transactions(rig).await? - transactions;
    let (done, last): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
        "select count(*), max(finished_at) from jobs where kind = 'noop' and state = 'done' and attempt = 1 and crashes = 0",
    )
    .fetch_one(&rig.pool)
    .await?;
    ensure!(done as usize == jobs, "{done} of {jobs} jobs were done at their first attempt");
    used.seconds = (last.context("no job was done")? - started).as_seconds_f64();
    Ok(Batch { jobs, used, worker_memory: usage::peak_memory(worker), redis_memory, commits })
}

/// The number of the next transaction that writes.
async fn transactions(rig: &Rig) -> anyhow::Result<u64> {
    let next: String = sqlx::query_scalar("select pg_current_xact_id()::text").fetch_one(&rig.pool).await?;
    Ok(next.parse()?)
}

/// What worker and scheduler use while there is nothing to do.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Idle {
    pub used: Used,
    pub worker_memory: u64,
    pub scheduler_memory: u64,
}

/// Both, with nothing in any queue but what the schedules start.
pub async fn idle(rig: &Rig, time: Duration) -> anyhow::Result<Idle> {
    rig.clear().await?;
    let worker = rig.service("worker", USUAL_LOG, problems_only()).await?;
    let scheduler = rig.service("scheduler", USUAL_LOG, problems_only()).await?;
    // The start is not idleness.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (w, s) = (worker.process().pid(), scheduler.process().pid());
    let mut roles = servers(rig);
    roles.extend([("worker", w), ("scheduler", s)]);
    let meter = Meter::start(roles);
    tokio::time::sleep(time).await;
    let idle = Idle { used: meter.stop(), worker_memory: usage::memory(w), scheduler_memory: usage::memory(s) };
    tokio::join!(worker.stop(), scheduler.stop());
    Ok(idle)
}
