//! How a configuration looks on the wire, in and out.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::{
    db::{provider_configs::ProviderConfig, provider_secrets},
    domain::{
        ids::{ProviderConfigId, TenantId},
        provider::ProviderKind,
    },
    providers::{
        Capabilities, Providers,
        settings::{MASK, RS256, mask, secret_fields},
    },
    secrets::{Place, Sealed, Secret},
};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::forms::{ProviderSecrets, ProviderSettings};
use crate::{
    error::{Error, Problem, Result, conflict},
    extract::Etag,
    provider_configs::{ProviderConfigs, unavailable},
    router::BASE,
    routes::providers::CapabilitiesBody,
    schema,
    state::AppState,
};

/// A server or an account at a meeting provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderConfig)]
pub struct ProviderConfigBody {
    pub id: Uuid,
    #[schema(example = "Main campus")]
    pub name: String,
    #[schema(schema_with = schema::provider)]
    pub provider: ProviderKind,
    #[schema(value_type = ProviderSettings)]
    pub settings: Value,
    /// What stands for each secret: `••••` and its last four characters, where these give nothing away; null where there is
    /// none.
    #[schema(example = json!({"jwt_secret": "••••x7k2", "webhook_secret": null}))]
    pub secrets: BTreeMap<&'static str, Option<String>>,
    /// Whether sessions that name no provider are held here.
    pub is_default: bool,
    /// Whether sessions can be planned and joined here.
    pub enabled: bool,
    /// Where the provider sends its webhooks.
    #[schema(
        example = "https://live.example.org/api/v1/live-sessions/webhooks/jitsi/0195f0c2-7a3b-7000-8000-000000000000/"
    )]
    pub webhook_url: String,
    /// What can be done with sessions that are held here; null while its secrets cannot be used.
    #[schema(value_type = Option<CapabilitiesBody>)]
    pub capabilities: Option<Capabilities>,
    /// Where a Jitsi finds the public key of its tokens (`asap_key_server` of Prosody), where they are signed with RS256; else
    /// null.
    pub key_server_url: Option<String>,
    /// The ETag without its quotes.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A new configuration. `settings` and `secrets` are those of its provider.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProviderConfig {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        example = "Main campus"
    )]
    pub name: String,
    #[schema(schema_with = schema::provider)]
    pub provider: ProviderKind,
    /// True when left out.
    pub enabled: Option<bool>,
    #[schema(value_type = ProviderSettings)]
    pub settings: Value,
    #[schema(value_type = ProviderSecrets)]
    pub secrets: Map<String, Value>,
}

crate::input!(NewProviderConfig);

/// A change of some fields (JSON merge patch, RFC 7396), also within `settings` and `secrets`: what is left out stays,
/// `null` clears. What stands for a secret (`••••`) is none, and is refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfigPatch {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        nullable = false
    )]
    pub name: Option<String>,
    /// A configuration that is disabled is no default any more.
    #[schema(nullable = false)]
    pub enabled: Option<bool>,
    #[schema(value_type = Option<Object>, nullable = false)]
    pub settings: Option<Map<String, Value>>,
    #[schema(value_type = Option<Object>, nullable = false)]
    pub secrets: Option<Map<String, Value>>,
}

crate::input!(ProviderConfigPatch);

/// The tag of a configuration's present version.
pub fn etag(config: &ProviderConfig) -> Etag {
    Etag::of(config.version)
}

/// The address of a configuration.
pub fn location(state: &AppState, id: ProviderConfigId) -> String {
    format!("{}{BASE}/provider-configs/{id}/", state.config.public_url.trim_end_matches('/'))
}

/// What of a configuration is shown.
pub fn show(state: &AppState, config: ProviderConfig, sealed: &BTreeMap<String, Sealed>) -> ProviderConfigBody {
    let shown = |field: &str| {
        let place = Place { tenant: config.tenant_id, config: config.id, field };
        // That there is one, can be told without the key.
        let open = |sealed| state.provider_configs.keys().open(sealed, place);
        sealed.get(field).map(|sealed| open(sealed).map_or_else(|_| MASK.to_owned(), |secret| mask(&secret)))
    };
    let capabilities = state.provider_configs.open(&config, sealed).ok();
    let capabilities = capabilities.map(|opened| Providers::of(&opened).capabilities(config.provider));
    let base = state.config.public_url.trim_end_matches('/');
    ProviderConfigBody {
        secrets: secret_fields(config.provider).iter().map(|field| (field.name, shown(field.name))).collect(),
        webhook_url: format!("{base}{BASE}/webhooks/{}/{}/", config.provider.as_str(), config.id),
        capabilities,
        key_server_url: (config.settings["algorithm"] == RS256).then(|| format!("{base}/asap/{}", config.id)),
        id: config.id.0,
        name: config.name,
        provider: config.provider,
        settings: config.settings,
        is_default: config.is_default,
        enabled: config.enabled,
        version: config.version,
        created_at: config.created_at,
        updated_at: config.updated_at,
    }
}

/// A configuration as an answer, with its ETag.
pub async fn respond(
    state: &AppState,
    connection: &mut PgConnection,
    status: StatusCode,
    config: ProviderConfig,
) -> Result<Response> {
    let sealed = provider_secrets::list(connection, config.tenant_id, &[config.id]).await?;
    let tag = HeaderValue::try_from(etag(&config).as_str()).map_err(anyhow::Error::from)?;
    let sealed = sealed.get(&config.id).cloned().unwrap_or_default();
    Ok((status, [(header::ETAG, tag)], Json(show(state, config, &sealed))).into_response())
}

/// Writes what a body says of secrets, which has been checked.
pub async fn write_secrets(
    configs: &ProviderConfigs,
    connection: &mut PgConnection,
    (tenant, config): (TenantId, ProviderConfigId),
    secrets: &Map<String, Value>,
) -> Result<()> {
    for (field, value) in secrets {
        match value {
            Value::String(text) => {
                let place = Place { tenant, config, field };
                let sealed = configs.keys().seal(&Secret::new(text), place);
                let sealed = sealed.map_err(|e| unavailable(&e, Some(config)))?;
                provider_secrets::put(&mut *connection, (tenant, config), field, &sealed).await?;
            }
            _ => provider_secrets::delete(&mut *connection, (tenant, config), field).await?,
        }
    }
    Ok(())
}

/// What a write that the database refuses means.
pub fn name_taken(error: sqlx::Error) -> Error {
    if shared::db::is_violation(&error, "provider_configs_name_key") {
        let problem: Problem =
            conflict("name-taken", "The name is taken", "Another configuration of the tenant has this name.");
        return problem.into();
    }
    error.into()
}
