//! What every handler can use; built once per process.

use std::sync::Arc;

use shared::{
    clock::Clock,
    db::{provider_configs, provider_secrets},
    domain::ids::ProviderConfigId,
    meetings::{Meetings, zoom::ZoomApi},
    outbound::Rule,
    probes::Prober,
    providers::{Providers, settings::Configuration},
    queue::Dispatcher,
    secrets::Keyring,
};
use sqlx::{PgConnection, PgPool};

use crate::{config::Config, fetch::Fetcher, mail::Mailer, storage::Storage};

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
    /// What a tenant has configured, opened; `None` when it is gone.
    pub async fn providers_of(
        &self,
        connection: &mut PgConnection,
        id: ProviderConfigId,
    ) -> anyhow::Result<Option<Providers>> {
        let Some(row) = provider_configs::find(&mut *connection, id).await? else { return Ok(None) };
        let sealed = provider_secrets::list(connection, row.tenant_id, &[id]).await?.remove(&id).unwrap_or_default();
        let place = (row.tenant_id, id);
        let configuration = Configuration::open(&self.keys, place, (row.provider, &row.settings), &sealed)?;
        Ok(Some(Providers::of(&configuration)))
    }

    pub async fn new(config: Config, db: PgPool, dispatcher: Dispatcher) -> anyhow::Result<Self> {
        let allow_private = config.outbound.provider_configs_allow_private;
        let rule = Rule { allow_private, setting: "PROVIDER_CONFIGS_ALLOW_PRIVATE" };
        let zoom = ZoomApi::new(&config.zoom, db.clone())?;
        Ok(Self {
            db,
            dispatcher,
            storage: Storage::new(&config.storage).await,
            mailer: Mailer::new(&config.mail)?,
            providers: Providers::new(&config.providers),
            keys: Keyring::load(&config.secrets)?,
            prober: Prober::new(rule, config.zoom.clone())?,
            meetings: Meetings::new(rule, zoom.clone())?,
            fetcher: Fetcher::new(&config.providers, config.outbound, zoom)?,
            clock: Clock::System,
            config: Arc::new(config),
        })
    }
}
