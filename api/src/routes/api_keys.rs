//! Keys with which a tenant's machines call, for its administrators.

use std::collections::BTreeSet;

use axum::{
    Json as Answer,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    db::api_keys::{self, ApiKey},
    domain::{
        api_key::{ApiKeySecret, visible},
        ids::ApiKeyId,
        person::Role,
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    body::Json,
    error::{Fault, Result, not_found},
    extract::{Id, Query},
    page::{Address, Page, Wanted},
    permissions::Admin,
    router::BASE,
    schema,
    state::AppState,
};

/// A new key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// What it is for.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        example = "Nightly import of courses"
    )]
    pub name: String,
    /// `service` plans and runs sessions; `admin` makes keys as well.
    #[schema(schema_with = schema::api_key_roles, example = json!(["service"]))]
    pub roles: Vec<Role>,
    /// Until when it is good; without an end when left out. A key that makes a key gives it no longer life than its own.
    #[schema(example = "2030-09-02T09:00:00+03:00")]
    pub expires_at: Option<DateTime<Utc>>,
}

crate::input!(NewApiKey);

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyBody {
    pub id: Uuid,
    pub name: String,
    /// How the key begins; the rest is known to its owner alone.
    #[schema(example = "lsk_019abcde00007000800000000000abcd")]
    pub prefix: String,
    /// The whole key. Only in the answer to its making: keep it, nobody can show it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub key: Option<String>,
    #[schema(schema_with = schema::api_key_roles)]
    pub roles: Vec<String>,
    /// Who made it.
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// Within a minute; null as long as nobody has called with it.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl From<ApiKey> for ApiKeyBody {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name,
            prefix: visible(key.id),
            key: None,
            roles: key.roles,
            created_by: key.created_by,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
        }
    }
}

/// Which page of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListApiKeys {
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// Keys of the tenant, newest first; revoked and expired ones too.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/api-keys/", tag = "api-keys", params(ListApiKeys),
    responses((status = 200, body = Page<ApiKeyBody>)),
)]
pub async fn list_api_keys(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Query(query): Query<ListApiKeys>,
) -> Result<Answer<Page<ApiKeyBody>>> {
    let wanted = Wanted::<Uuid>::parse(query.cursor.as_deref(), query.page_size)?;
    let after = wanted.after.map(ApiKeyId);
    let mut tx = state.begin_for(&caller).await?;
    let rows = api_keys::page(&mut *tx, caller.tenant.id, after, wanted.backwards, wanted.limit()).await?;
    let address = Address { path: address(&state), parameters: Vec::new() };
    Ok(Answer(wanted.page(rows, &address, |key| key.id.0, ApiKeyBody::from)))
}

/// Make a key. The answer holds it, this once. Where the answer got lost, make another and revoke this one.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/api-keys/", tag = "api-keys",
    request_body = NewApiKey,
    responses((status = 201, body = ApiKeyBody, headers(("location" = String, description = "Address of the key")))),
)]
pub async fn create_api_key(
    State(state): State<AppState>,
    Admin(caller): Admin,
    body: Json<NewApiKey>,
) -> Result<Response> {
    let now = state.clock.now();
    let new = body.check(|value| end(value, &caller, now).into_iter().collect())?;
    let roles: BTreeSet<&str> = new.roles.iter().map(|role| role.as_str()).collect();
    let secret = ApiKeySecret::new();
    let key = api_keys::NewApiKey {
        id: secret.id,
        tenant_id: caller.tenant.id,
        name: &new.name,
        hash: secret.hash(),
        roles: &roles.into_iter().collect::<Vec<_>>(),
        created_by: &caller.id,
        expires_at: new.expires_at.or(caller.key_expires_at),
    };
    let mut tx = state.begin_for(&caller).await?;
    let made = api_keys::insert(&mut *tx, &key).await?;
    tx.commit().await?;
    tracing::info!(api_key.id = %made.id, tenant.id = %made.tenant_id, roles = ?made.roles, "an API key was made");
    let location = format!("{}{}/", address(&state), made.id);
    let body = ApiKeyBody { key: Some(secret.reveal()), ..made.into() };
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Answer(body)).into_response())
}

/// What is wrong with the key's end.
fn end(body: &Value, caller: &Caller, now: DateTime<Utc>) -> Option<Fault> {
    let at: DateTime<Utc> = serde_json::from_value(body["expires_at"].clone()).ok()?;
    let detail = if at <= now {
        "must be in the future"
    } else if caller.key_expires_at.is_some_and(|own| at > own) {
        "must not be after the end of the key that makes it"
    } else {
        return None;
    };
    Some(Fault::at("/expires_at", detail))
}

/// One key.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/api-keys/{id}/", tag = "api-keys",
    params(("id" = Uuid, Path, description = "The key")),
    responses((status = 200, body = ApiKeyBody)),
)]
pub async fn get_api_key(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ApiKeyId>,
) -> Result<Answer<ApiKeyBody>> {
    let mut tx = state.begin_for(&caller).await?;
    let key = api_keys::find_in(&mut *tx, caller.tenant.id, id).await?;
    Ok(Answer(key.ok_or_else(|| not_found("API key"))?.into()))
}

/// Revoke a key: within 5 seconds no process takes it. May be repeated. Its row is kept.
#[utoipa::path(
    delete, path = "/api/v1/live-sessions/api-keys/{id}/", tag = "api-keys",
    params(("id" = Uuid, Path, description = "The key")),
    responses((status = 204, description = "It is revoked")),
)]
pub async fn revoke_api_key(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ApiKeyId>,
) -> Result<StatusCode> {
    let mut tx = state.begin_for(&caller).await?;
    if !api_keys::revoke(&mut *tx, caller.tenant.id, id, &caller.id).await? {
        return Err(not_found("API key").into());
    }
    tx.commit().await?;
    state.api_keys.forget(id);
    tracing::info!(api_key.id = %id, tenant.id = %caller.tenant.id, "an API key was revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// The list's.
fn address(state: &AppState) -> String {
    format!("{}{BASE}/api-keys/", state.config.public_url.trim_end_matches('/'))
}
