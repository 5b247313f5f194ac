//! Configurations, one and many.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::{
    db::{provider_configs, provider_secrets},
    domain::ids::ProviderConfigId,
};
use utoipa::IntoParams;
use uuid::Uuid;

use super::body::{ProviderConfigBody, etag, respond, show};
use crate::{
    error::{Result, not_found},
    extract::{Id, Query},
    page::{Address, Page, Wanted},
    permissions::Admin,
    router::BASE,
    state::AppState,
};

/// How many at once.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListProviderConfigs {
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// The tenant's configurations, oldest first.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/provider-configs/", tag = "provider-configs", params(ListProviderConfigs),
    responses((status = 200, body = Page<ProviderConfigBody>)),
)]
pub async fn list_provider_configs(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Query(query): Query<ListProviderConfigs>,
) -> Result<Json<Page<ProviderConfigBody>>> {
    let wanted = Wanted::<Uuid>::parse(query.cursor.as_deref(), query.page_size)?;
    let beside = (wanted.after.map(ProviderConfigId), wanted.backwards);
    let mut tx = state.begin_for(&caller).await?;
    let rows = provider_configs::list(&mut *tx, caller.tenant.id, beside, wanted.limit()).await?;
    let ids: Vec<ProviderConfigId> = rows.iter().map(|config| config.id).collect();
    let mut secrets = provider_secrets::list(&mut *tx, caller.tenant.id, &ids).await?;
    let path = format!("{}{BASE}/provider-configs/", state.config.public_url.trim_end_matches('/'));
    let address = Address { path, parameters: Vec::new() };
    let show = |config: provider_configs::ProviderConfig| {
        let sealed = secrets.remove(&config.id).unwrap_or_default();
        show(&state, config, &sealed)
    };
    Ok(Json(wanted.page(rows, &address, |config| config.id.0, show)))
}

/// One configuration.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/provider-configs/{id}/", tag = "provider-configs",
    params(
        ("id" = Uuid, Path, description = "The configuration"),
        ("if-none-match" = Option<String>, Header, description = "ETag that the caller has"),
    ),
    responses(
        (status = 200, body = ProviderConfigBody, headers(("etag" = String, description = "Version of the configuration"))),
        (status = 304, description = "The caller has this version"),
    ),
)]
pub async fn get_provider_config(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ProviderConfigId>,
    headers: HeaderMap,
) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let config = provider_configs::find_in(&mut *tx, caller.tenant.id, id).await?;
    let config = config.ok_or_else(|| not_found("provider configuration"))?;
    let tag = etag(&config);
    if tag.is_known(&headers) {
        let value = HeaderValue::try_from(tag.as_str()).map_err(anyhow::Error::from)?;
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, value)]).into_response());
    }
    respond(&state, &mut tx, StatusCode::OK, config).await
}
