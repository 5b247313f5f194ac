//! What every handler can use; built once per process.

use std::sync::Arc;

use shared::{clock::Clock, providers::Providers, queue::Dispatcher};
use sqlx::PgPool;

use crate::{config::Config, fetch::Fetcher, mail::Mailer, storage::Storage};

/// Cheap to clone.
#[derive(Clone)]
pub struct State {
    pub db: PgPool,
    pub dispatcher: Dispatcher,
    pub storage: Storage,
    pub mailer: Mailer,
    /// Reads stored webhooks.
    pub providers: Providers,
    /// Fetches recordings, from allowed hosts only.
    pub fetcher: Fetcher,
    pub clock: Clock,
    pub config: Arc<Config>,
}

impl State {
    pub async fn new(config: Config, db: PgPool, dispatcher: Dispatcher) -> anyhow::Result<Self> {
        Ok(Self {
            db,
            dispatcher,
            storage: Storage::new(&config.storage).await,
            mailer: Mailer::new(&config.mail)?,
            providers: Providers::new(&config.providers),
            fetcher: Fetcher::new(&config.providers, config.outbound)?,
            clock: Clock::System,
            config: Arc::new(config),
        })
    }
}
