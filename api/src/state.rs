//! What every handler can use; built once per process.

use std::sync::Arc;

use metrics_handle::MetricsHandle;
use shared::{
    clock::Clock,
    probes::Prober,
    providers::Providers,
    queue::{Dispatcher, Tx, redis::RedisQueues},
};
use sqlx::PgPool;

use crate::{
    auth::{ApiKeys, TokenJudge},
    config::Config,
    provider_configs::ProviderConfigs,
    storage::Storage,
    tenants::Tenants,
};

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
    /// What the environment configures …
    pub providers: Providers,
    /// … and what tenants do.
    pub provider_configs: ProviderConfigs,
    pub prober: Prober,
    pub storage: Storage,
    pub tenants: Tenants,
    pub tokens: Arc<TokenJudge>,
    pub api_keys: ApiKeys,
    pub clock: Clock,
    pub metrics: MetricsHandle,
    pub config: Arc<Config>,
}

impl AppState {
    /// A transaction that can enqueue jobs.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        Tx::begin(&self.db, &self.dispatcher).await
    }
}
