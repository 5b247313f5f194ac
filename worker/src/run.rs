//! Around every job: own task, timeout, panic, lease, outcome. This is where it is decided whether a
//! job is done, tried again or a dead letter.

use std::{sync::Arc, time::Duration};

use shared::{
    db,
    domain::ids::JobId,
    jobs::Backoff,
    queue::ledger::{self, Claimed, Lease, Unfinished},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    completer::Completer,
    failpoint::{self, Place},
    handler::{Ctx, Done, JobError, SHORTAGE_WAIT, is_shortage},
    quarantine::Quarantine,
    registry::Registry,
    running::{Running, WhyAborted},
    state::State,
};

/// How long an outcome is tried to be written while Postgres is away. After the lease ran out and
/// another worker took the job over, the write is refused anyway.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(60);

/// After leases could not be renewed.
const RENEW_AGAIN: Duration = Duration::from_millis(500);

/// When a job that may not start beside a suspect is looked at again.
const QUARANTINE_WAIT: Duration = Duration::from_secs(1);

/// Runs claimed jobs; one per process.
pub struct Engine {
    pub state: State,
    pub registry: Registry,
    pub running: Running,
    pub(crate) quarantine: Quarantine,
    completer: Completer,
    /// Cancelled when the process stops.
    shutdown: CancellationToken,
}

/// How a run went, before it is written down.
enum Ending {
    Done(Done),
    Unfinished(Unfinished),
    /// Somebody else holds the job now, or it was given back: nothing to write.
    Lost,
}

impl Engine {
    pub fn new(state: State, registry: Registry, shutdown: CancellationToken) -> Arc<Self> {
        let completer = Completer::start(state.db.clone());
        let (running, quarantine) = (Running::default(), Quarantine::default());
        Arc::new(Self { state, registry, running, quarantine, completer, shutdown })
    }

    /// Runs one claimed job to its outcome. Never fails: whatever happens is written to the ledger.
    pub async fn run(&self, job: Claimed) {
        let span = tracing::info_span!("job", job.id = %job.id, job.kind = %job.kind, job.attempt = job.attempt);
        async {
            let Some(admission) = self.quarantine.admit(job.crashes) else {
                // Given back, so that it is not blamed for a death that it did not even run at.
                let wait = Unfinished::Snooze { reason: None, wait: QUARANTINE_WAIT };
                self.write_unfinished(&job, wait).await;
                return;
            };
            let kind = job.kind.clone();
            let started = std::time::Instant::now();
            metrics::counter!("jobs_started_total", "kind" => kind.clone()).increment(1);
            failpoint::here(Place::AfterClaim, &kind);
            tracing::debug!("job starts");
            let ending = self.execute(&job, admission.settle).await;
            let outcome = self.write(&job, ending).await;
            self.running.remove(job.lease());
            drop(admission);
            failpoint::here(Place::BeforeAck, &kind);
            metrics::histogram!("job_duration_seconds", "kind" => kind.clone()).record(started.elapsed());
            metrics::counter!("jobs_finished_total", "kind" => kind, "outcome" => outcome).increment(1);
            tracing::debug!(outcome, duration_ms = started.elapsed().as_millis() as u64, "job ended");
        }
        .instrument(span)
        .await;
    }

    async fn execute(&self, job: &Claimed, settle: Duration) -> Ending {
        let Some(runner) = self.registry.get(&job.kind) else {
            // The claim asks for known kinds only.
            return Ending::Unfinished(Unfinished::Snooze { reason: None, wait: Duration::from_secs(15) });
        };
        let stop = self.shutdown.child_token();
        let ctx = Ctx::new(job, stop.clone());
        let run = (runner.run)(job.payload.clone(), self.state.clone(), ctx);
        failpoint::here(Place::BeforeEffect, &job.kind);
        // A task of its own: a panic stays in it, and it can be aborted.
        let settled = async move {
            if !settle.is_zero() {
                tokio::time::sleep(settle).await;
            }
            run.await
        };
        let task = tokio::spawn(settled.in_current_span());
        self.running.insert(job.lease(), stop, task.abort_handle());
        let abort = task.abort_handle();
        match tokio::time::timeout(runner.timeout, task).await {
            Ok(Ok(Ok(done))) => {
                failpoint::here(Place::AfterEffect, &job.kind);
                Ending::Done(done)
            }
            Ok(Ok(Err(error))) => Ending::Unfinished(decide(job, runner.backoff, error)),
            Ok(Err(join)) => match self.running.why_aborted(job.lease()) {
                _ if join.is_panic() => {
                    let panic = join.into_panic();
                    let message = panic_message(panic.as_ref());
                    let error = anyhow::anyhow!("panicked: {message}");
                    Ending::Unfinished(decide(job, runner.backoff, JobError::Retry(error)))
                }
                Some(WhyAborted::Cancelled) => Ending::Unfinished(Unfinished::Cancelled),
                Some(WhyAborted::LeaseLost | WhyAborted::GivenBack) | None => Ending::Lost,
            },
            Err(_) => {
                abort.abort();
                let error = anyhow::anyhow!("ran longer than its limit of {:?}", runner.timeout);
                Ending::Unfinished(decide(job, runner.backoff, JobError::Retry(error)))
            }
        }
    }

    /// Writes the outcome; its name for the metrics.
    async fn write(&self, job: &Claimed, ending: Ending) -> &'static str {
        match ending {
            Ending::Done(Done(None)) => {
                failpoint::here(Place::BeforeCommit, &job.kind);
                let completed = self.completer.complete(job.lease()).await;
                failpoint::here(Place::AfterCommit, &job.kind);
                if completed { "done" } else { lease_lost() }
            }
            Ending::Done(Done(Some(mut tx))) => {
                let committed = match db::limited(ledger::complete(&mut *tx, &[job.lease()])).await {
                    Ok(completed) if completed.is_empty() => return lease_lost(),
                    Ok(_) => {
                        failpoint::here(Place::BeforeCommit, &job.kind);
                        db::limited(tx.commit()).await
                    }
                    Err(error) => Err(error),
                };
                failpoint::here(Place::AfterCommit, &job.kind);
                match committed {
                    Ok(()) => "done",
                    Err(error) => {
                        let lease = [job.lease()];
                        let done = with_patience(|| ledger::done_under(&self.state.db, &lease)).await;
                        if done.is_some_and(|done| !done.is_empty()) {
                            return "done";
                        }
                        let error = anyhow::Error::new(error).context("the job's effects could not be committed");
                        let backoff = self.registry.get(&job.kind).map_or(Backoff::USUAL, |runner| runner.backoff);
                        self.write_unfinished(job, decide(job, backoff, JobError::Retry(error))).await
                    }
                }
            }
            Ending::Unfinished(outcome) => self.write_unfinished(job, outcome).await,
            Ending::Lost => lease_lost(),
        }
    }

    async fn write_unfinished(&self, job: &Claimed, outcome: Unfinished) -> &'static str {
        let state = with_patience(|| ledger::unfinished(&self.state.db, job.lease(), &outcome)).await;
        let Some(state) = state.flatten() else { return lease_lost() };
        match (&outcome, state.as_str()) {
            (Unfinished::Cancelled, _) | (_, "cancelled") => "cancelled",
            (Unfinished::Retry { error, .. } | Unfinished::Fail { error }, "dead") => {
                tracing::error!(error, attempt = job.attempt, "job is a dead letter");
                "dead"
            }
            (Unfinished::Retry { error, wait }, _) => {
                tracing::warn!(error, wait_s = wait.as_secs_f64(), "job failed; it will be tried again");
                "retry"
            }
            (Unfinished::Snooze { .. }, _) => "snoozed",
            (Unfinished::Fail { .. }, _) => "dead",
        }
    }

    /// Gives back what still runs when the grace time is over; other workers have it at once.
    pub async fn give_back(&self) {
        let leases = self.running.abort_all(WhyAborted::GivenBack);
        if leases.is_empty() {
            return;
        }
        let released = with_patience(|| ledger::release(&self.state.db, &leases)).await;
        tracing::info!(jobs = released.unwrap_or(0), "gave unfinished jobs back");
    }
}

/// The retry decision.
fn decide(job: &Claimed, backoff: Backoff, error: JobError) -> Unfinished {
    match error {
        JobError::Retry(error) => match format!("{error:#}") {
            error if is_shortage(&error) => Unfinished::Snooze { reason: Some(error), wait: SHORTAGE_WAIT },
            error => Unfinished::Retry { error, wait: backoff.after(job.attempt) },
        },
        JobError::Snooze(wait, reason) => Unfinished::Snooze { reason: Some(reason), wait },
        JobError::Fail(error) => Unfinished::Fail { error: format!("{error:#}") },
    }
}

fn lease_lost() -> &'static str {
    tracing::warn!("the lease was lost while the job ran; its outcome was not written");
    "lost"
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Tries a write again while Postgres is away; `None` when patience ended.
pub(crate) async fn with_patience<T, F>(mut write: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = sqlx::Result<T>>,
{
    let deadline = tokio::time::Instant::now() + OUTCOME_PATIENCE;
    let mut wait = Duration::from_millis(50);
    loop {
        match db::limited(write()).await {
            Ok(value) => return Some(value),
            Err(error) if tokio::time::Instant::now() < deadline => {
                tracing::warn!(error = %error, "Postgres does not take a write; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
            Err(error) => {
                tracing::error!(error = %error, "Postgres did not take a write for a minute; the job will run again");
                return None;
            }
        }
    }
}

/// Keeps the leases of running jobs; what lost its lease is aborted, what was cancelled is stopped.
pub async fn renew_leases(engine: Arc<Engine>, lease: Duration) {
    let mut tick = tokio::time::interval(lease / 3);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let held: Vec<Lease> = engine.running.leases();
        if held.is_empty() {
            continue;
        }
        match db::limited(ledger::renew(&engine.state.db, &held, lease)).await {
            Ok(renewed) => {
                let kept: std::collections::HashMap<JobId, bool> = renewed.into_iter().collect();
                for lease in held {
                    match kept.get(&lease.id) {
                        Some(false) => {}
                        Some(true) => engine.running.abort(lease, WhyAborted::Cancelled),
                        None => engine.running.abort(lease, WhyAborted::LeaseLost),
                    }
                }
            }
            // The leases run on. When Postgres is back, the schedulers leave some seconds to renew them.
            Err(error) => {
                tracing::warn!(error = %error, jobs = held.len(), "leases could not be renewed; trying again");
                tick.reset_after(RENEW_AGAIN);
            }
        }
    }
}
