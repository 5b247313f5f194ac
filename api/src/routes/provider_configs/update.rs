//! Changes of a configuration.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Map, Value};
use shared::{
    db::{
        provider_configs::{self, ProviderConfig},
        provider_secrets,
    },
    domain::ids::ProviderConfigId,
    providers::settings::Settings,
};

use super::{
    body::{ProviderConfigBody, ProviderConfigPatch, etag, name_taken, respond, write_secrets},
    create::{complete, read},
    meaning,
};
use crate::{
    body::Json,
    error::{Result, not_found},
    extract::Id,
    permissions::Admin,
    state::AppState,
};

/// Change some fields (JSON merge patch). The provider stays: other software is another configuration.
#[utoipa::path(
    patch, path = "/api/v1/live-sessions/provider-configs/{id}/", tag = "provider-configs",
    params(
        ("id" = uuid::Uuid, Path, description = "The configuration"),
        ("if-match" = Option<String>, Header, description = "Only if the configuration still has this ETag"),
    ),
    request_body(
        content((ProviderConfigPatch = "application/json"), (ProviderConfigPatch = "application/merge-patch+json")),
    ),
    responses(
        (status = 200, body = ProviderConfigBody, headers(("etag" = String, description = "New version"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`name-taken`"),
        (status = 412, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn patch_provider_config(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ProviderConfigId>,
    headers: HeaderMap,
    body: Json<ProviderConfigPatch>,
) -> Result<Response> {
    let tenant = caller.tenant.id;
    let mut tx = state.begin_for(&caller).await?;
    let config = provider_configs::lock_in(&mut tx, tenant, id).await?;
    let config = config.ok_or_else(|| not_found("provider configuration"))?;
    etag(&config).allows_write(&headers)?;
    let there = provider_secrets::list(&mut *tx, tenant, &[id]).await?.remove(&id).unwrap_or_default();
    let there: Vec<&str> = there.keys().map(String::as_str).collect();
    let (changed, secrets) = merged(&config, &there, body)?;
    let secrets = complete(changed.provider, &changed.settings, secrets, &there).await?;
    let same = (&changed.name, changed.enabled, &changed.settings) == (&config.name, config.enabled, &config.settings);
    if same && secrets.is_empty() {
        return respond(&state, &mut tx, StatusCode::OK, config).await;
    }
    let changed = provider_configs::update(&mut *tx, &changed).await.map_err(name_taken)?;
    write_secrets(&state.provider_configs, &mut tx, (tenant, id), &secrets).await?;
    let response = respond(&state, &mut tx, StatusCode::OK, changed).await?;
    tx.commit().await?;
    state.provider_configs.forget(id);
    Ok(response)
}

/// The configuration with its changes, and those of its secrets.
fn merged(
    config: &ProviderConfig,
    there: &[&str],
    body: Json<ProviderConfigPatch>,
) -> Result<(ProviderConfig, Map<String, Value>)> {
    let (patch, own) = body.into_parts();
    let mut whole = patch.clone();
    if let (Value::Object(_), Value::Object(change)) = (&patch, &patch["settings"]) {
        whole["settings"] = merge(&config.settings, change);
    }
    let mut faults = match whole.is_object() {
        true => meaning::of(&whole, own, Some(config.provider), meaning::of_changed_secrets),
        false => own,
    };
    if whole.is_object() {
        let settings = if whole["settings"].is_object() { &whole["settings"] } else { &config.settings };
        faults.extend(meaning::of_missing_key(config.provider, settings, &whole["secrets"], there));
    }
    let change: ProviderConfigPatch = read(whole, faults)?;
    let settings = match change.settings {
        Some(whole) => {
            let settings = Settings::read(config.provider, &whole.into()).map_err(anyhow::Error::from)?;
            serde_json::to_value(settings).map_err(anyhow::Error::from)?
        }
        None => config.settings.clone(),
    };
    let changed = ProviderConfig {
        name: change.name.unwrap_or_else(|| config.name.clone()),
        enabled: change.enabled.unwrap_or(config.enabled),
        settings,
        ..config.clone()
    };
    Ok((changed, change.secrets.unwrap_or_default()))
}

/// RFC 7396 for an object without nested ones.
fn merge(whole: &Value, change: &Map<String, Value>) -> Value {
    let mut merged = whole.as_object().cloned().unwrap_or_default();
    for (name, value) in change {
        if value.is_null() {
            merged.remove(name);
        } else {
            merged.insert(name.clone(), value.clone());
        }
    }
    merged.into()
}
