//! How soon a job begins and ends on a worker that has nothing else to do. All times are of the machine's one
//! clock, which Postgres and the worker's log read too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use sandbox::services::OnServiceLine;
use shared::{clock::Clock, domain::ids::JobId, jobs::Noop, queue::Tx};

use crate::rig::{Rig, USUAL_LOG, problems_only};

/// Over which delayed jobs are spread.
const LATER: Duration = Duration::from_secs(10);

/// Milliseconds, sorted.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// From the call to enqueue until the job starts: what a peer can be compared with.
    pub call_to_start: Vec<f64>,
    /// From the commit of the enqueue until a worker has the job and claims its row.
    pub commit_to_claim: Vec<f64>,
    /// From the commit of the enqueue until the job starts; the claim is committed by then.
    pub commit_to_start: Vec<f64>,
    /// From the commit of the enqueue until the commit of the outcome.
    pub commit_to_done: Vec<f64>,
}

/// What the worker's log tells of a job.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    started: Option<DateTime<Utc>>,
    /// Its outcome was committed before this line.
    ended: Option<DateTime<Utc>>,
}

type Log = Arc<Mutex<HashMap<JobId, Told>>>;

/// Jobs one by one, `rate` per second.
pub async fn measure(rig: &Rig, rate: u32, time: Duration) -> anyhow::Result<Latencies> {
    rig.clear().await?;
    let log = Log::default();
    let worker = rig.service("worker", "info,sqlx=warn,worker::run=debug", listen(log.clone())).await?;
    let scheduler = rig.service("scheduler", USUAL_LOG, problems_only()).await?;
    let mut pushed = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    for _ in 0..u64::from(rate) * time.as_secs() {
        tick.tick().await;
        let called = Clock::System.now();
        let mut tx = Tx::begin(&rig.pool, &rig.dispatcher).await?;
        let id = tx.enqueue(&Noop::default()).await?.job_id();
        tx.commit().await?;
        pushed.push((id, called, Clock::System.now()));
    }
    rig.wait_until_drained().await?;
    let told = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let deadline = Instant::now() + Duration::from_secs(10);
    while pushed.iter().any(|(id, ..)| told().get(id).is_none_or(|told| told.ended.is_none())) {
        ensure!(Instant::now() < deadline, "the worker's log does not tell of all jobs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::join!(worker.stop(), scheduler.stop());

    let claims: HashMap<JobId, DateTime<Utc>> = sqlx::query_as("select id, started_at from jobs where kind = 'noop'")
        .fetch_all(&rig.pool)
        .await?
        .into_iter()
        .collect();
    let told = told();
    let mut latencies = Latencies::default();
    let ms = |from: DateTime<Utc>, to: DateTime<Utc>| (to - from).as_seconds_f64() * 1e3;
    for (id, called, committed) in pushed {
        let told = told.get(&id).copied().unwrap_or_default();
        let started = told.started.context("a job ended and never started")?;
        latencies.call_to_start.push(ms(called, started));
        latencies.commit_to_claim.push(ms(committed, *claims.get(&id).context("a job is gone")?));
        latencies.commit_to_start.push(ms(committed, started));
        latencies.commit_to_done.push(ms(committed, told.ended.context("a job did not end")?));
    }
    let Latencies { call_to_start, commit_to_claim, commit_to_start, commit_to_done } = &mut latencies;
    for values in [call_to_start, commit_to_claim, commit_to_start, commit_to_done] {
        values.sort_by(f64::total_cmp);
    }
    Ok(latencies)
}

/// Jobs that are due later, at times of their own: by how much they start late, in milliseconds, sorted.
///
/// # Errors
/// Also when one of them starts before its time.
pub async fn lateness(rig: &Rig, jobs: u32) -> anyhow::Result<Vec<f64>> {
    rig.clear().await?;
    let worker = rig.service("worker", USUAL_LOG, problems_only()).await?;
    let scheduler = rig.service("scheduler", USUAL_LOG, problems_only()).await?;
    let mut tx = Tx::begin(&rig.pool, &rig.dispatcher).await?;
    for n in 0..jobs {
        tx.enqueue_in(&Noop::default(), Duration::from_millis(1_000) + LATER.mul_f64(f64::from(n) / f64::from(jobs)))
            .await?;
    }
    tx.commit().await?;
    let deadline = Instant::now() + LATER + Duration::from_secs(60);
    let late = loop {
        let late: Vec<f64> = sqlx::query_scalar(
            "select extract(epoch from started_at - run_at)::float8 * 1000 from jobs where state = 'done' order by 1",
        )
        .fetch_all(&rig.pool)
        .await?;
        if late.len() >= jobs as usize {
            break late;
        }
        ensure!(Instant::now() < deadline, "{} of {jobs} delayed jobs were done", late.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::join!(worker.stop(), scheduler.stop());
    ensure!(late.first().is_some_and(|first| *first >= 0.0), "a job started {:?} ms late: too early", late.first());
    Ok(late)
}

/// The worker writes a line when a job starts and one when its outcome is committed; each bears the time.
fn listen(log: Log) -> OnServiceLine {
    let problems = problems_only();
    Arc::new(move |name, line| {
        let ended = line.contains("job ended");
        if !ended && !line.contains("job starts") {
            return problems(name, line);
        }
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let id = value["span"]["job.id"].as_str().and_then(|id| id.parse().ok());
        let at = value["timestamp"].as_str().and_then(|at| at.parse().ok());
        if let (Some(id), Some(at)) = (id, at) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let told = log.entry(JobId(id)).or_default();
            *(if ended { &mut told.ended } else { &mut told.started }) = Some(at);
        }
    })
}
