//! Trying a configuration out.

use axum::{Json, extract::State};
use serde::Serialize;
use shared::{
    db::{provider_configs, provider_secrets},
    domain::ids::ProviderConfigId,
    probes,
};
use utoipa::ToSchema;

use crate::{
    error::{Result, not_found},
    extract::Id,
    permissions::Admin,
    schema,
    state::AppState,
};

/// What came of trying a configuration out.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderTest {
    /// Whether every check is good.
    pub ok: bool,
    pub checks: Vec<ProviderCheck>,
}

/// One thing that can be wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderCheck {
    /// `address`: the provider's program is there. `tls`: its certificate is good. `secret`: it is the right one.
    /// `version`: the program is new enough.
    #[schema(schema_with = schema::check)]
    pub name: probes::CheckName,
    /// Null where it could not be told, because something else failed before.
    pub ok: Option<bool>,
    /// What was found, or what to do.
    #[schema(example = "the shared secret is wrong, or the server does not take this checksum")]
    pub detail: String,
}

impl From<probes::Check> for ProviderCheck {
    fn from(check: probes::Check) -> Self {
        Self { name: check.name, ok: check.ok, detail: check.detail }
    }
}

/// Try a configuration out: ask its server, within seconds, with its secret. Changes nothing, there and here.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/provider-configs/{id}/test/", tag = "provider-configs",
    params(("id" = uuid::Uuid, Path, description = "The configuration")),
    responses((status = 200, body = ProviderTest, description = "What was found, good or not")),
)]
pub async fn test_provider_config(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ProviderConfigId>,
) -> Result<Json<ProviderTest>> {
    let tenant = caller.tenant.id;
    let mut tx = state.begin_for(&caller).await?;
    let config = provider_configs::find_in(&mut *tx, tenant, id).await?;
    let config = config.ok_or_else(|| not_found("provider configuration"))?;
    let sealed = provider_secrets::list(&mut *tx, tenant, &[id]).await?.remove(&id).unwrap_or_default();
    tx.commit().await?;
    let configuration = state.provider_configs.open(&config, &sealed)?;
    let checks: Vec<ProviderCheck> =
        state.prober.probe(&configuration).await.into_iter().map(ProviderCheck::from).collect();
    Ok(Json(ProviderTest { ok: checks.iter().all(|check| check.ok == Some(true)), checks }))
}
