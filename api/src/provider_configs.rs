//! Providers as tenants have configured them: their secrets opened, and remembered for a few seconds, because every join
//! and every webhook needs one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use shared::{
    db::{
        provider_configs::{self, ProviderConfig},
        provider_secrets,
    },
    domain::{
        ids::{ProviderConfigId, TenantId},
        provider::ProviderKind,
    },
    providers::{
        Providers,
        settings::{Configuration, OpenError},
    },
    secrets::{Keyring, Sealed, SecretsError},
};
use sqlx::PgConnection;

use crate::{
    error::{Error, Problem, RETRY_AFTER},
    middleware::current_request_id,
};

/// A change is seen by other replicas after this time.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Configurations remembered at most; unknown ones are not remembered, so callers cannot fill it.
const MOST: usize = 1_000;

type Known = HashMap<ProviderConfigId, (Instant, Arc<Opened>)>;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Opened {
    pub id: ProviderConfigId,
    pub tenant: TenantId,
    pub kind: ProviderKind,
    pub enabled: bool,
    pub providers: Providers,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct ProviderConfigs {
    keys: Keyring,
    known: Arc<Mutex<Known>>,
}

impl ProviderConfigs {
    pub fn new(keys: Keyring) -> Self {
        Self { keys, known: Arc::default() }
    }

    /// Seals and opens secrets.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// A configuration whatever its tenant, see [`provider_configs::find`].
    pub async fn find(
        &self,
        connection: &mut PgConnection,
        id: ProviderConfigId,
    ) -> Result<Option<Arc<Opened>>, Error> {
        if let Some((at, opened)) = self.lock().get(&id)
            && at.elapsed() < REMEMBERED
        {
            return Ok(Some(opened.clone()));
        }
        let Some(row) = provider_configs::find(&mut *connection, id).await? else { return Ok(None) };
        let sealed = provider_secrets::list(connection, row.tenant_id, &[id]).await?.remove(&id).unwrap_or_default();
        let opened = Arc::new(Opened {
            id,
            tenant: row.tenant_id,
            kind: row.provider,
            enabled: row.enabled,
            providers: Providers::of(&self.open(&row, &sealed)?),
        });
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(id, (Instant::now(), opened.clone()));
        Ok(Some(opened))
    }

    /// A configuration in the clear.
    pub fn open(&self, row: &ProviderConfig, sealed: &BTreeMap<String, Sealed>) -> Result<Configuration, Error> {
        let opened = Configuration::open(&self.keys, (row.tenant_id, row.id), (row.provider, &row.settings), sealed);
        opened.map_err(|error| match error {
            OpenError::Secrets(error) => unavailable(&error, Some(row.id)).into(),
            OpenError::Settings(_) => anyhow::Error::new(error).into(),
        })
    }

    /// This process has changed it.
    pub fn forget(&self, id: ProviderConfigId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 503: the operator has to mend the keys. Who, is told to the caller; what, to the log as well.
pub fn unavailable(error: &SecretsError, config: Option<ProviderConfigId>) -> Problem {
    tracing::error!(
        request.id = current_request_id(),
        provider_config.id = config.map(tracing::field::display),
        error = %error,
        "a provider secret cannot be used"
    );
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "secrets-unavailable",
        "Provider secrets cannot be used",
        format!("The operator has to see to the keys of the service: {error}."),
    )
    .header(axum::http::header::RETRY_AFTER, RETRY_AFTER)
}
