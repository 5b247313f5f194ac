//! The worker's own small HTTP server: /livez, /readyz, /metrics.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::run::Engine;

/// A worker that neither polled nor was busy for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// When a queue's fetcher last came round.
pub struct Pulse {
    started: Instant,
    last_ms: AtomicU64,
    /// What is wrong with Redis, while something is.
    redis_problem: Mutex<Option<&'static str>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { started: Instant::now(), last_ms: AtomicU64::new(0), redis_problem: Mutex::new(None) }
    }
}

impl Pulse {
    pub fn beat(&self) {
        self.last_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }

    fn redis_problem(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.redis_problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an outage; whether it is a new one.
    pub fn redis_is_down(&self, problem: &'static str) -> bool {
        self.beat();
        self.redis_problem().replace(problem) != Some(problem)
    }

    /// Notes the end of an outage; whether there was one.
    pub fn redis_is_up(&self) -> bool {
        self.redis_problem().take().is_some()
    }
}

#[derive(Clone)]
pub struct Health {
    pub engine: Arc<Engine>,
    pub pulses: Vec<Arc<Pulse>>,
    pub metrics: PrometheusHandle,
}

pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

/// Alive: every queue was polled lately, or its slots are all busy with jobs whose leases are kept.
async fn livez(extract::State(health): extract::State<Health>) -> (StatusCode, &'static str) {
    let stuck = health.pulses.iter().any(|pulse| pulse.age() > STUCK_AFTER) && health.engine.running.is_empty();
    match stuck {
        false => (StatusCode::OK, "alive\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "no queue was polled for 30 s\n"),
    }
}

/// Ready: both stores answer.
async fn readyz(extract::State(health): extract::State<Health>) -> (StatusCode, &'static str) {
    if let Some(problem) = health.pulses.iter().find_map(|pulse| *pulse.redis_problem()) {
        return (StatusCode::SERVICE_UNAVAILABLE, problem);
    }
    match sqlx::query("select 1").execute(&health.engine.state.db).await {
        Ok(_) => (StatusCode::OK, "ready\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "Postgres does not answer\n"),
    }
}

async fn metrics(extract::State(health): extract::State<Health>) -> String {
    metrics::gauge!("jobs_running").set(health.engine.running.len() as f64);
    health.metrics.render()
}
