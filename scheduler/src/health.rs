//! The scheduler's own small HTTP server: /livez, /readyz, /metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

/// Without a completed round for this long the scheduler is not ready.
const LATE_AFTER: Duration = Duration::from_secs(10);

/// When the relay last came round with both stores answering.
pub struct Health {
    started: Instant,
    last_ms: AtomicU64,
    metrics: PrometheusHandle,
}

impl Health {
    pub fn new(metrics: PrometheusHandle) -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), last_ms: AtomicU64::new(0), metrics })
    }

    pub fn beat(&self) {
        // Zero means "never".
        self.last_ms.store(self.started.elapsed().as_millis().max(1) as u64, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        last > 0 && self.started.elapsed().saturating_sub(Duration::from_millis(last)) < LATE_AFTER
    }
}

pub fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async |extract::State(health): extract::State<Arc<Health>>| health.metrics.render()))
        .with_state(health)
}

async fn readyz(extract::State(health): extract::State<Arc<Health>>) -> (StatusCode, &'static str) {
    match health.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "no round was completed in the last 10 s: Postgres or Redis\n"),
    }
}
