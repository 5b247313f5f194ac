//! What every handler can use; built once per process.

use std::{ops::Deref, sync::Arc};

use metrics_handle::MetricsHandle;
use shared::{
    clock::Clock,
    domain::ids::TenantId,
    meetings::Meetings,
    probes::Prober,
    providers::Providers,
    queue::{Cause, Dispatcher, Tx, redis::RedisQueues},
};
use sqlx::PgPool;

use crate::{
    auth::{ApiKeys, Caller, TokenJudge},
    config::Config,
    heartbeats::Heartbeats,
    idempotency,
    inbox::Inbox,
    middleware::current_request_id,
    places::Places,
    provider_configs::ProviderConfigs,
    rates::Rates,
    storage::Storage,
    tenants::Tenants,
};

pub mod metrics_handle {
    //! The process's metrics, ready to be rendered.

    /// Renders the Prometheus text.
    pub type MetricsHandle = std::sync::Arc<dyn Fn() -> String + Send + Sync>;
}

/// One pointer: every layer of the router clones it for every request.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl From<Parts> for AppState {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

/// What it is made of.
pub struct Parts {
    pub db: PgPool,
    pub dispatcher: Dispatcher,
    pub redis: RedisQueues,
    /// What the environment configures …
    pub providers: Providers,
    /// … and what tenants do.
    pub provider_configs: ProviderConfigs,
    pub prober: Prober,
    /// Makes meetings at providers.
    pub meetings: Meetings,
    pub storage: Storage,
    pub heartbeats: Heartbeats,
    pub inbox: Inbox,
    pub tenants: Tenants,
    pub tokens: Arc<TokenJudge>,
    pub api_keys: ApiKeys,
    pub places: Places,
    pub rates: Rates,
    pub clock: Clock,
    pub metrics: MetricsHandle,
    pub config: Arc<Config>,
}

impl AppState {
    /// A transaction of a caller, which sees their tenant alone and can enqueue jobs. Every POST of a caller answers a
    /// success after the commit of one, also where nothing was to be changed, and asks nothing of the database but through
    /// it: with an `Idempotency-Key` its answer is kept by that commit ([`crate::idempotency`]).
    pub async fn begin_for(&self, caller: &Caller) -> sqlx::Result<Tx> {
        self.begin_by(caller, Some(caller.tenant.id)).await
    }

    /// The same for operators, who see all tenants.
    pub async fn begin_for_all(&self, operator: &Caller) -> sqlx::Result<Tx> {
        self.begin_by(operator, None).await
    }

    async fn begin_by(&self, caller: &Caller, tenant: Option<TenantId>) -> sqlx::Result<Tx> {
        if let Some(joint) = idempotency::joint() {
            let mut part = joint.begin()?;
            part.see(tenant).await?;
            return Ok(part);
        }
        self.begin_alone(caller, tenant).await
    }

    /// One that is part of nothing.
    pub async fn begin_alone(&self, caller: &Caller, tenant: Option<TenantId>) -> sqlx::Result<Tx> {
        let (actor, request_id) = (caller.actor(), current_request_id());
        let cause = Cause { actor: &actor, request_id: &request_id };
        Tx::begin_for(&self.db, &self.dispatcher, tenant, cause).await
    }
}
