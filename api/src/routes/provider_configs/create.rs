//! A new configuration.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shared::{
    db::provider_configs,
    domain::{ids::ProviderConfigId, provider::ProviderKind},
    providers::{generate_jitsi_key, settings::Settings},
};

use super::{
    body::{NewProviderConfig, ProviderConfigBody, location, name_taken, respond, write_secrets},
    meaning,
};
use crate::{
    body::Json,
    error::{Fault, Problem, Result, invalid},
    permissions::Admin,
    state::AppState,
};

/// Configure a server or an account at a provider.
///
/// Secrets are stored sealed and never shown again. It becomes the tenant's default by `make-default/`.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/provider-configs/", tag = "provider-configs",
    request_body = NewProviderConfig,
    responses(
        (status = 201, body = ProviderConfigBody, headers(
            ("location" = String, description = "Address of the configuration"),
            ("etag" = String, description = "Version of the configuration"),
        )),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`name-taken`"),
    ),
)]
pub async fn create_provider_config(
    State(state): State<AppState>,
    Admin(caller): Admin,
    body: Json<NewProviderConfig>,
) -> Result<Response> {
    let new = check(body)?;
    let settings = Settings::read(new.provider, &new.settings).map_err(anyhow::Error::from)?;
    // As it is understood: with its defaults, which may change later.
    let settings = serde_json::to_value(settings).map_err(anyhow::Error::from)?;
    let secrets = complete(new.provider, &settings, new.secrets, &[]).await?;
    let key = (ProviderConfigId::new(), caller.tenant.id);

    let mut tx = state.begin_for(&caller).await?;
    let words = (new.name.as_str(), new.enabled.unwrap_or(true));
    let made = provider_configs::insert(&mut *tx, key, words, (new.provider, &settings)).await;
    let made = made.map_err(name_taken)?;
    write_secrets(&state.provider_configs, &mut tx, (caller.tenant.id, made.id), &secrets).await?;
    let address = location(&state, made.id);
    let mut response = respond(&state, &mut tx, StatusCode::CREATED, made).await?;
    tx.commit().await?;
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(address).map_err(anyhow::Error::from)?);
    Ok(response)
}

/// The secrets with the key that the settings need and that is made here, if none is given. `there` are those that are stored.
pub(super) async fn complete(
    kind: ProviderKind,
    settings: &Value,
    secrets: Map<String, Value>,
    there: &[&str],
) -> Result<Map<String, Value>> {
    let mut secrets = Value::from(secrets);
    if meaning::missing_key(kind, settings, &secrets, there) == Some(meaning::MADE_HERE) {
        let made = tokio::task::spawn_blocking(generate_jitsi_key).await.map_err(anyhow::Error::from)?;
        secrets[meaning::MADE_HERE] = made.ok_or_else(|| anyhow::anyhow!("no RSA key could be made"))?.into();
    }
    Ok(secrets.as_object().cloned().unwrap_or_default())
}

fn check(body: Json<NewProviderConfig>) -> Result<NewProviderConfig, Problem> {
    let (value, own) = body.into_parts();
    let kind: Option<ProviderKind> = serde_json::from_value(value["provider"].clone()).ok();
    let mut faults = if value.is_object() { meaning::of(&value, own, kind, meaning::of_secrets) } else { own };
    if let Some(kind) = kind.filter(|_| value["secrets"].is_object()) {
        faults.extend(meaning::of_missing_key(kind, &value["settings"], &value["secrets"], &[]));
    }
    read(value, faults)
}

/// The body, if it has no fault.
pub(super) fn read<T: DeserializeOwned>(value: Value, faults: Vec<Fault>) -> Result<T, Problem> {
    if !faults.is_empty() {
        return Err(invalid(faults));
    }
    serde_json::from_value(value).map_err(|e| invalid(vec![Fault::at("", e.to_string())]))
}
