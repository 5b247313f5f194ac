//! Whether a configuration works, as the service found by itself.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    db::{
        provider_configs,
        provider_health::{self, HealthState},
    },
    domain::ids::ProviderConfigId,
};
use utoipa::ToSchema;

use super::test::ProviderCheck;
use crate::{
    error::{Result, not_found},
    extract::Id,
    permissions::Admin,
    schema,
    state::AppState,
};

/// Whether a configuration works.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderHealth)]
pub struct ProviderHealthBody {
    /// `up`: no check found a fault. Null: it was not tried out yet; a disabled one never is.
    #[schema(schema_with = schema::health_state_or_null)]
    state: Option<HealthState>,
    /// Since when it is so.
    since: Option<DateTime<Utc>>,
    /// When it was last tried out: every 5 minutes, every minute while it is down.
    checked_at: Option<DateTime<Utc>>,
    checks: Vec<ProviderCheck>,
}

/// Whether the configuration works, as the service found when it last tried it out.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/provider-configs/{id}/health/", tag = "provider-configs",
    params(("id" = uuid::Uuid, Path, description = "The configuration")),
    responses((status = 200, body = ProviderHealthBody)),
)]
pub async fn get_provider_health(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ProviderConfigId>,
) -> Result<Json<ProviderHealthBody>> {
    let mut tx = state.begin_for(&caller).await?;
    let config = provider_configs::find_in(&mut *tx, caller.tenant.id, id).await?;
    config.ok_or_else(|| not_found("provider configuration"))?;
    let found = provider_health::find(&mut *tx, caller.tenant.id, id).await?;
    Ok(Json(ProviderHealthBody {
        state: found.as_ref().map(|found| found.state),
        since: found.as_ref().map(|found| found.since),
        checked_at: found.as_ref().map(|found| found.checked_at),
        checks: found.into_iter().flat_map(|found| found.checks.0).map(ProviderCheck::from).collect(),
    }))
}
