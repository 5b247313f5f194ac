//! Where a new session is held.

use serde_json::Value;
use shared::{
    db::provider_configs,
    domain::{
        ids::{ProviderConfigId, TenantId},
        provider::ProviderKind,
    },
    queue::Tx,
};

use crate::{error::Fault, state::AppState};

/// A provider, and the tenant's configuration of it; without one it is the environment's.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    pub provider: ProviderKind,
    pub config: Option<ProviderConfigId>,
}

/// The configuration that the body names, else the default, else the environment's provider; or why a session could never
/// be joined there. Reads what it can of a body with other faults.
pub async fn choose(
    state: &AppState,
    tx: &mut Tx,
    tenant: TenantId,
    body: &Value,
) -> sqlx::Result<Result<Choice, Fault>> {
    let named = body["provider_config_id"].as_str().and_then(|id| id.parse::<ProviderConfigId>().ok());
    let kind: Option<ProviderKind> = serde_json::from_value(body["provider"].clone()).ok();
    let found = provider_configs::choose(&mut **tx, tenant, named, kind).await?;
    let pointer = if named.is_some() { "/provider_config_id" } else { "/provider" };
    Ok(match found {
        Some(config) => Ok(Choice { provider: config.provider, config: Some(config.id) }),
        None if named.is_some() => Err(gone()),
        None => {
            let provider = kind.unwrap_or_else(|| state.providers.default_kind());
            match state.providers.configured(provider) {
                true => Ok(Choice { provider, config: None }),
                false => Err(Fault::at(pointer, format!("no {} server is configured", provider.as_str()))),
            }
        }
    })
}

/// There is no such configuration, or not any more.
pub fn gone() -> Fault {
    Fault::at("/provider_config_id", "is no enabled configuration of this tenant and provider")
}
