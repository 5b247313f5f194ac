//! The end of a configuration.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use shared::{db::provider_configs, domain::ids::ProviderConfigId};

use super::body::etag;
use crate::{
    error::{Result, conflict, not_found},
    extract::Id,
    permissions::Admin,
    state::AppState,
};

/// Delete a configuration with its secrets, if neither a planned or live session nor a recording that is still to come
/// needs it. Else disable it: that takes it out of use.
#[utoipa::path(
    delete, path = "/api/v1/live-sessions/provider-configs/{id}/", tag = "provider-configs",
    params(
        ("id" = uuid::Uuid, Path, description = "The configuration"),
        ("if-match" = Option<String>, Header, description = "Only if the configuration still has this ETag"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`provider-config-in-use`"),
        (status = 412, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn delete_provider_config(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ProviderConfigId>,
    headers: HeaderMap,
) -> Result<StatusCode> {
    let tenant = caller.tenant.id;
    let mut tx = state.begin_for(&caller).await?;
    let config = provider_configs::lock_in(&mut tx, tenant, id).await?;
    etag(&config.ok_or_else(|| not_found("provider configuration"))?).allows_write(&headers)?;
    if provider_configs::is_in_use(&mut *tx, tenant, id).await? {
        let problem = conflict(
            "provider-config-in-use",
            "The configuration is in use",
            "Planned or live sessions, or recordings that are still to come, need it. Disable it to take it out of use.",
        );
        return Err(problem.into());
    }
    provider_configs::delete(&mut *tx, tenant, id).await?;
    tx.commit().await?;
    state.provider_configs.forget(id);
    Ok(StatusCode::NO_CONTENT)
}
