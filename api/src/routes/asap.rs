//! Public keys of the Jitsi servers whose tokens are signed with a key of their own (RS256), as Prosody asks for them: one PEM
//! file per key (`asap_key_server`), or a JWK set (`cache_keys_url`).
//!
//! A configuration's keys have an address of their own. Were all keys at one, the Prosody of one tenant would believe tokens
//! that another tenant's key has signed.

use axum::{
    Json,
    extract::{RawPathParams, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;
use shared::{
    domain::ids::ProviderConfigId,
    providers::{JitsiPublicKey, Providers},
};

use crate::{
    error::{Result, not_found},
    extract::Id,
    state::AppState,
};

/// The set of all keys.
const JWKS: &str = "jwks.json";

/// The public key of the Jitsi that the environment configures: `<SHA-256 of the kid>.pem`, or `jwks.json`.
#[utoipa::path(
    get, path = "/asap/{key}", tag = "provider-configs",
    params(("key" = String, Path, description = "The file", example = "jwks.json")),
    responses(
        (status = 200, content(
            (String = "application/x-pem-file"),
            (serde_json::Value = "application/json"),
        )),
        (status = 404, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "There is no such key"),
    ),
    security(()),
)]
pub async fn get_asap_key(State(state): State<AppState>, params: RawPathParams) -> Result<Response> {
    key(&state.providers, &params)
}

/// The public key of a provider configuration's Jitsi; `key_server_url` of the configuration is this address without the file.
#[utoipa::path(
    get, path = "/asap/{id}/{key}", tag = "provider-configs",
    params(
        ("id" = uuid::Uuid, Path, description = "The provider configuration"),
        ("key" = String, Path, description = "The file: `<SHA-256 of the kid>.pem`, or `jwks.json`", example = "jwks.json"),
    ),
    responses(
        (status = 200, content(
            (String = "application/x-pem-file"),
            (serde_json::Value = "application/json"),
        )),
        (status = 404, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "There is no such key"),
    ),
    security(()),
)]
pub async fn get_asap_key_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    params: RawPathParams,
) -> Result<Response> {
    let mut connection = state.db.acquire().await?;
    let opened = state.provider_configs.find(&mut connection, id).await?;
    drop(connection);
    let opened = opened.ok_or_else(|| not_found("provider configuration"))?;
    key(&opened.providers, &params)
}

fn key(providers: &Providers, params: &RawPathParams) -> Result<Response> {
    let file = params.iter().find(|(name, _)| *name == "key").map_or("", |(_, value)| value);
    let key = providers.jitsi_public_key();
    // Another key has another kid, so a file never changes; the set does.
    match key.filter(|key| key.file_name() == file) {
        Some(key) => {
            let headers =
                [(header::CONTENT_TYPE, "application/x-pem-file"), (header::CACHE_CONTROL, "public, max-age=86400")];
            Ok((headers, key.pem.clone()).into_response())
        }
        None if file == JWKS => {
            let set = key.map_or_else(|| json!({"keys": []}), JitsiPublicKey::jwks);
            Ok(([(header::CACHE_CONTROL, "public, max-age=300")], Json(set)).into_response())
        }
        None => Err(not_found("key").into()),
    }
}
