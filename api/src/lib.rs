//! The HTTP API of the live-session service. `router.rs` lists what there is; `routes/` has one file
//! per resource. It writes to Postgres and enqueues jobs; it never waits for Redis or mail, and for a
//! provider only where a join needs a meeting that is not there yet.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use shared::{
    checks::{Checks, can_listen},
    clock::Clock,
    db,
    meetings::{Meetings, zoom::ZoomApi},
    outbound::Rule,
    probes::Prober,
    providers::Providers,
    queue::{Dispatcher, redis::RedisQueues},
    secrets::Keyring,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use crate::{
    auth::{ApiKeys, TokenJudge},
    connections::Patience,
    heartbeats::Heartbeats,
    inbox::Inbox,
    places::Places,
    provider_configs::ProviderConfigs,
    rates::Rates,
    state::{AppState, Parts},
    storage::Storage,
    tenants::Tenants,
};

pub mod auth;
pub mod body;
pub mod config;
pub mod connections;
pub mod error;
pub mod extract;
pub mod faults;
pub mod heartbeats;
pub mod idempotency;
pub mod inbox;
pub mod middleware;
pub mod openapi;
pub mod page;
pub mod permissions;
pub mod places;
pub mod provider_configs;
pub mod rates;
pub mod reports;
pub mod router;
pub mod routes;
pub mod schema;
pub mod state;
pub mod storage;
pub mod strict_json;
pub mod tenants;
pub mod unread_bodies;
pub mod uploads;

/// Serves until `shutdown`, then lets running requests finish.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    connections::raise_descriptor_limit(config.api_max_connections);
    let listener = bind(config.api_addr, "API_ADDR").await?;
    serve(config, listener, shutdown).await
}

/// The same on a listener that is there already.
pub async fn serve(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    config.validate()?;
    let grace = Duration::from_secs(config.shutdown_grace);
    let operations = match config.api_metrics_addr {
        Some(address) => Some(bind(address, "API_METRICS_ADDR").await?),
        None => None,
    };
    let state = state(config).await?;
    state.tokens.ready().await;
    tracing::info!(address = %listener.local_addr()?, "serving");

    let (most, patience) = (state.config.api_max_connections, Patience::new(state.config.timeout()));
    let requests = connections::serve(listener, router::router(state.clone()), most, patience, shutdown.clone());
    let operations = async {
        match operations {
            Some(listener) => {
                connections::serve(listener, router::operations(state.clone()), most, patience, shutdown.clone()).await
            }
            None => Ok(()),
        }
    };
    let both = async { tokio::try_join!(requests, operations).map(|_| ()) };
    within_grace(both, shutdown.clone(), grace).await?;
    state.db.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Tests settings and connections, and explains what is wrong.
pub async fn check(config: &Config) -> anyhow::Result<()> {
    let mut checks = Checks::new();
    checks.add("settings", config.validate());
    checks.add_all("providers", &config.providers.faults());
    checks.add("keys for secrets", Keyring::load(&config.secrets));
    checks.add("address", can_listen(config.api_addr, "API_ADDR").await);
    checks.add("Postgres", db::check(&config.database).await);
    let redis = async {
        let redis = RedisQueues::open(&config.redis)?;
        anyhow::Ok(redis.ping().await?)
    };
    checks.add("Redis (REDIS_URL)", redis.await);
    if config.auth.has_jwks() {
        checks.add("public keys of the LMS", auth::check_jwks(&config.auth).await);
    }
    checks.add("object store (settings; `worker --check` asks it)", Storage::new(&config.storage));
    checks.finish()
}

async fn state(config: Config) -> anyhow::Result<AppState> {
    db::migrate(&config.database).await?;
    let db = db::connect(&config.database, "api").await?;
    let redis = RedisQueues::open(&config.redis)?;
    let handle = shared::telemetry::init_metrics();
    let rates = Rates::new(config.rate_limit_tenant, config.rate_limit_person);
    rates.share(redis.buckets());
    let dispatcher = Dispatcher::start(redis.clone());
    Ok(AppState::from(Parts {
        inbox: Inbox::start(db.clone(), dispatcher.clone()),
        dispatcher,
        redis,
        providers: Providers::new(&config.providers),
        provider_configs: ProviderConfigs::new(Keyring::load(&config.secrets)?),
        prober: Prober::new(rule(&config), config.zoom.clone())?,
        meetings: Meetings::new(rule(&config), ZoomApi::new(&config.zoom, db.clone())?)?,
        storage: Storage::new(&config.storage)?,
        heartbeats: Heartbeats::start(db.clone()),
        tenants: Tenants::new(db.clone()),
        tokens: Arc::new(TokenJudge::start(&config.auth)?),
        api_keys: ApiKeys::new(db.clone()),
        places: Places::new(config.api_max_in_flight),
        rates,
        clock: Clock::System,
        metrics: Arc::new(move || handle.render()),
        config: Arc::new(config),
        db,
    }))
}

/// What is reached of the servers that tenants name.
fn rule(config: &Config) -> Rule {
    let allow_private = config.outbound.provider_configs_allow_private;
    Rule { allow_private, setting: "PROVIDER_CONFIGS_ALLOW_PRIVATE" }
}

async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| anyhow::anyhow!("{variable}: cannot listen on {address}: {e}"))
}

/// After the signal running requests have `grace`; what is left is cut off.
async fn within_grace(
    serving: impl Future<Output = std::io::Result<()>>,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        done = serving => Ok(done?),
        () = deadline => {
            tracing::warn!("requests were cut off at the end of SHUTDOWN_GRACE");
            Ok(())
        }
    }
}
