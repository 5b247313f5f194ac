//! What every handler can use; built once per process.

use std::sync::Arc;

use metrics_handle::MetricsHandle;
use shared::{
    clock::Clock,
    providers::Providers,
    queue::{Dispatcher, Tx, redis::RedisQueues},
};
use sqlx::PgPool;

use crate::{auth::TokenJudge, config::Config, idempotency, rates::Rates, storage::Storage, tenants::Tenants};

pub mod metrics_handle {
    //! The process's metrics, ready to be rendered.

    /// Renders the Prometheus text.
    pub type MetricsHandle = std::sync::Arc<dyn Fn() -> String + Send + Sync>;
}

/// Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub db: PgPool,
    pub dispatcher: Dispatcher,
    pub redis: RedisQueues,
    pub providers: Providers,
    pub storage: Storage,
    pub tenants: Tenants,
    pub tokens: Arc<TokenJudge>,
    pub rates: Rates,
    pub clock: Clock,
    pub metrics: MetricsHandle,
    pub config: Arc<Config>,
}

impl AppState {
    /// A transaction that can enqueue jobs. Every POST of a caller answers a success after the commit of one, also where
    /// nothing was to be changed, and asks nothing of the database but through it: with an `Idempotency-Key` its answer is
    /// kept by that commit ([`crate::idempotency`]).
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        match idempotency::joint() {
            Some(joint) => joint.begin(),
            None => Tx::begin(&self.db, &self.dispatcher).await,
        }
    }
}
