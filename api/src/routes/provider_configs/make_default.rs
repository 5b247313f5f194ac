//! The tenant's default.

use axum::{extract::State, http::StatusCode, response::Response};
use shared::{db::provider_configs, domain::ids::ProviderConfigId};

use super::body::{ProviderConfigBody, respond};
use crate::{
    error::{Result, conflict, not_found},
    extract::Id,
    permissions::Admin,
    state::AppState,
};

/// Hold sessions that name no provider here. Another default ceases to be it; idempotent.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/provider-configs/{id}/make-default/", tag = "provider-configs",
    params(("id" = uuid::Uuid, Path, description = "The configuration")),
    responses(
        (status = 200, body = ProviderConfigBody, headers(("etag" = String, description = "Version of the configuration"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`provider-config-disabled`"),
    ),
)]
pub async fn make_provider_config_default(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ProviderConfigId>,
) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let Some(config) = provider_configs::make_default(&mut tx, caller.tenant.id, id).await? else {
        let there = provider_configs::find_in(&mut *tx, caller.tenant.id, id).await?;
        let problem = match there {
            None => not_found("provider configuration"),
            Some(_) => conflict(
                "provider-config-disabled",
                "The configuration is disabled",
                "A disabled configuration holds no sessions, so it cannot be the default. Enable it first.",
            ),
        };
        return Err(problem.into());
    };
    let response = respond(&state, &mut tx, StatusCode::OK, config).await?;
    tx.commit().await?;
    Ok(response)
}
