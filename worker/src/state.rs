//! What every handler can use; built once per process.

use std::sync::Arc;

use shared::{
    clock::Clock, meetings::Meetings, outbound::Rule, probes::Prober, providers::Providers, queue::Dispatcher,
    secrets::Keyring,
};
use sqlx::PgPool;

use crate::{config::Config, fetch::Fetcher, mail::Mailer, storage::Storage};

const ZOOM_OAUTH: &str = "https://zoom.us/oauth/token";

/// Cheap to clone.
#[derive(Clone)]
pub struct State {
    pub db: PgPool,
    pub dispatcher: Dispatcher,
    pub storage: Storage,
    pub mailer: Mailer,
    /// What the environment configures; reads stored webhooks.
    pub providers: Providers,
    /// Opens the secrets of what tenants configure.
    pub keys: Keyring,
    /// Tries out what tenants configure.
    pub prober: Prober,
    /// Ends meetings at providers.
    pub meetings: Meetings,
    /// Fetches recordings, from allowed hosts only.
    pub fetcher: Fetcher,
    pub clock: Clock,
    pub config: Arc<Config>,
}

impl State {
    pub async fn new(config: Config, db: PgPool, dispatcher: Dispatcher) -> anyhow::Result<Self> {
        let allow_private = config.outbound.provider_configs_allow_private;
        let rule = Rule { allow_private, setting: "PROVIDER_CONFIGS_ALLOW_PRIVATE" };
        Ok(Self {
            db,
            dispatcher,
            storage: Storage::new(&config.storage).await,
            mailer: Mailer::new(&config.mail)?,
            providers: Providers::new(&config.providers),
            keys: Keyring::load(&config.secrets)?,
            prober: Prober::new(rule, ZOOM_OAUTH.parse()?)?,
            meetings: Meetings::new(rule)?,
            fetcher: Fetcher::new(&config.providers, config.outbound)?,
            clock: Clock::System,
            config: Arc::new(config),
        })
    }
}
