//! The demo school's configuration of the stand-in.

use std::collections::BTreeMap;

use serde_json::json;
use shared::{
    config::SecretsConfig,
    db::{provider_configs, provider_secrets, tenants},
    domain::{ids::ProviderConfigId, provider::ProviderKind},
    secrets::{Keyring, Place, Secret},
};
use sqlx::PgPool;

use super::Zoom;

const NAME: &str = "Zoom (stand-in)";

/// Writes it, for this tenant; the port is another one after each start. `keys` is `SECRETS_KEYS`.
///
/// # Errors
/// When the database refuses, or the keys are none.
pub async fn configure(pool: &PgPool, tenant: &str, keys: &str, zoom: &Zoom) -> anyhow::Result<ProviderConfigId> {
    let keys = Keyring::load(&SecretsConfig { secrets_keys: keys.to_owned(), secrets_keys_file: None })?;
    let tenant = tenants::find_by_claim(pool, tenant).await?.map(|tenant| tenant.id);
    let tenant = tenant.ok_or_else(|| anyhow::anyhow!("the demo tenant is missing"))?;
    let account = zoom.account();
    let settings = json!({
        "account_id": account.account_id, "client_id": account.client_id, "user_id": account.user_email,
        "registration": "on", "recording_hosts": [format!("localhost:{}", zoom.server.port)],
    });
    let mut tx = pool.begin().await?;
    let known = provider_configs::list(&mut *tx, tenant, (None, false), 1_000).await?;
    let config = match known.into_iter().find(|config| config.name == NAME) {
        Some(config) => {
            provider_configs::update(&mut *tx, &provider_configs::ProviderConfig { settings, ..config }).await?
        }
        None => {
            let new = (ProviderConfigId::new(), tenant);
            provider_configs::insert(&mut *tx, new, (NAME, true), (ProviderKind::Zoom, &settings)).await?
        }
    };
    for (field, secret) in [("client_secret", &account.client_secret), ("webhook_secret", &account.webhook_secret)] {
        let place = Place { tenant, config: config.id, field };
        let sealed = keys.seal(&Secret::new(secret.as_str()), place)?;
        provider_secrets::put(&mut *tx, (tenant, config.id), field, &sealed).await?;
    }
    tx.commit().await?;
    Ok(config.id)
}

/// What scripts need to use the stand-in.
#[must_use]
pub fn environment(zoom: &Zoom) -> BTreeMap<String, String> {
    let account = zoom.account();
    [
        ("ZOOM_URL", zoom.url()),
        ("ZOOM_API_URL", zoom.api_url()),
        ("ZOOM_OAUTH_URL", zoom.oauth_url()),
        ("ZOOM_ACCOUNT_ID", account.account_id.clone()),
        ("ZOOM_CLIENT_ID", account.client_id.clone()),
        ("ZOOM_CLIENT_SECRET", account.client_secret.clone()),
        ("ZOOM_WEBHOOK_SECRET", account.webhook_secret.clone()),
        ("ZOOM_USER_ID", account.user_email.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
