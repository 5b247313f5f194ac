//! Webhooks of providers: verified on the raw body, stored, queued, answered; nothing else happens in
//! that request. What an event means is decided by the worker.
//!
//! The short addresses are the environment's; where its secret does not fit, the room tells whose secret is to be tried.
//! Those with an id are a provider configuration's.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
};
use serde::Serialize;
use shared::{
    db::{
        sessions,
        webhook_events::{self, NewEvent},
    },
    domain::ids::ProviderConfigId,
    jobs::ProcessWebhook,
    providers::{ProviderEvent, WebhookError, WebhookSource},
    queue::Tx,
};
use utoipa::ToSchema;

use crate::{
    body::{MEBIBYTE, read},
    error::{Problem, Result, bad_request, conflict, not_found, unauthorized},
    extract::Id,
    provider_configs::Opened,
    state::AppState,
};

/// What became of a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookAnswer {
    #[schema(example = "stored")]
    status: WebhookStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WebhookStatus {
    /// It will be processed.
    Stored,
    /// It was known already; nothing was changed.
    Duplicate,
}

/// Webhooks of a self-hosted Jitsi: of our Prosody module, signed as Standard Webhooks has it (`webhook-id`,
/// `webhook-timestamp`, `webhook-signature`), or of event_sync, with the secret as the bearer token.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/", tag = "webhooks",
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`: rightly signed, but too long ago"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_jitsi_webhook(State(state): State<AppState>, request: Request) -> Result<Json<WebhookAnswer>> {
    receive(state, WebhookSource::Jitsi, request).await
}

/// The same under the paths that event_sync appends to its `api_prefix`: `events/room/created` and
/// the like. The event is told by the body.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/events/{*event}", tag = "webhooks",
    params(("event" = String, Path, description = "Path of the event, such as room/created")),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_jitsi_event(State(state): State<AppState>, request: Request) -> Result<Json<WebhookAnswer>> {
    receive(state, WebhookSource::Jitsi, request).await
}

/// Webhooks of JaaS, with its `X-Jaas-Signature`.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jaas/", tag = "webhooks",
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`: rightly signed, but too long ago"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_jaas_webhook(State(state): State<AppState>, request: Request) -> Result<Json<WebhookAnswer>> {
    receive(state, WebhookSource::Jaas, request).await
}

/// Webhooks of the self-hosted Jitsi of a provider configuration: signed with its `webhook_secret`, or with that as the
/// bearer token.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/{id}/", tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The provider configuration")),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_jitsi_webhook_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    request: Request,
) -> Result<Json<WebhookAnswer>> {
    receive_for(state, WebhookSource::Jitsi, id, request).await
}

/// The same under the paths that event_sync appends to its `api_prefix`.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/{id}/events/{*event}", tag = "webhooks",
    params(
        ("id" = uuid::Uuid, Path, description = "The provider configuration"),
        ("event" = String, Path, description = "Path of the event, such as room/created"),
    ),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_jitsi_event_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    request: Request,
) -> Result<Json<WebhookAnswer>> {
    receive_for(state, WebhookSource::Jitsi, id, request).await
}

/// Webhooks of the JaaS account of a provider configuration, signed with its `webhook_secret`.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jaas/{id}/", tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The provider configuration")),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`: rightly signed, but too long ago"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_jaas_webhook_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    request: Request,
) -> Result<Json<WebhookAnswer>> {
    receive_for(state, WebhookSource::Jaas, id, request).await
}

/// A webhook as it came.
struct Raw {
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Raw {
    async fn read(request: Request) -> Result<Self> {
        let header = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
        let headers = request.headers().iter().map(header).collect();
        Ok(Self { headers, body: read(request, MEBIBYTE).await? })
    }
}

async fn receive(state: AppState, source: WebhookSource, request: Request) -> Result<Json<WebhookAnswer>> {
    let raw = Raw::read(request).await?;
    let now = state.clock.now();
    let error = match state.providers.verify_webhook(source, &raw.headers, &raw.body, now) {
        Ok(events) => return store(&state, source, &raw, None, &events).await,
        Err(error) => error,
    };
    // Not the environment's: perhaps that of the configuration by which the session in this room is held.
    if matches!(error, WebhookError::NotConfigured | WebhookError::BadSignature)
        && let Some(opened) = of_room(&state, source, &raw).await?
    {
        let verified = opened.providers.verify_webhook(source, &raw.headers, &raw.body, now);
        let events = verified.map_err(|error| refused(source, &error))?;
        return store(&state, source, &raw, Some(&opened), &events).await;
    }
    Err(refused(source, &error).into())
}

async fn receive_for(
    state: AppState,
    source: WebhookSource,
    id: ProviderConfigId,
    request: Request,
) -> Result<Json<WebhookAnswer>> {
    let raw = Raw::read(request).await?;
    let mut connection = state.db.acquire().await?;
    let opened = state.provider_configs.find(&mut connection, id).await?;
    drop(connection);
    let opened = opened.filter(|opened| opened.kind == source.kind());
    let opened = opened.ok_or_else(|| not_found("provider configuration"))?;
    let verified = opened.providers.verify_webhook(source, &raw.headers, &raw.body, state.clock.now());
    let events = verified.map_err(|error| refused(source, &error))?;
    store(&state, source, &raw, Some(&opened), &events).await
}

/// The configuration of the session that meets in the room which the body names. Nothing of the body is believed yet: this
/// only tells by which secret to judge it.
async fn of_room(state: &AppState, source: WebhookSource, raw: &Raw) -> Result<Option<Arc<Opened>>> {
    let Some(room) = state.providers.unverified_room(source, &raw.body) else { return Ok(None) };
    let mut connection = state.db.acquire().await?;
    let session = sessions::find_by_room(&mut *connection, &room).await?;
    let Some(id) = session.and_then(|session| session.provider_config_id) else { return Ok(None) };
    let opened = state.provider_configs.find(&mut connection, id).await?;
    Ok(opened.filter(|opened| opened.kind == source.kind()))
}

/// `opened` is the configuration by whose secret it was verified, where it was not the environment's.
async fn store(
    state: &AppState,
    source: WebhookSource,
    raw: &Raw,
    opened: Option<&Opened>,
    events: &[ProviderEvent],
) -> Result<Json<WebhookAnswer>> {
    let json: serde_json::Value = serde_json::from_slice(&raw.body).map_err(anyhow::Error::from)?;
    let mut status = WebhookStatus::Duplicate;
    let mut tx = Tx::begin(&state.db, &state.dispatcher).await?;
    for event in events {
        let new = NewEvent {
            provider: source.as_str(),
            config: opened.map(|opened| (opened.id, opened.tenant)),
            key: &event.key,
            event_type: &event.event_type,
            occurred_at: event.occurred_at,
            room: &event.room,
            body: &json,
        };
        if let Some(id) = webhook_events::insert(&mut *tx, &new).await? {
            tx.enqueue(&ProcessWebhook { webhook_event_id: id }).await?;
            status = WebhookStatus::Stored;
        }
    }
    tx.commit().await?;
    count(source, if status == WebhookStatus::Stored { "stored" } else { "duplicate" });
    Ok(Json(WebhookAnswer { status }))
}

fn refused(source: WebhookSource, error: &WebhookError) -> Problem {
    count(source, "refused");
    tracing::warn!(
        request.id = crate::middleware::current_request_id(),
        provider = source.as_str(),
        error = %error,
        "a webhook was refused"
    );
    match error {
        WebhookError::NotConfigured | WebhookError::BadSignature => {
            unauthorized("The webhook's signature is missing or wrong.", "Bearer realm=\"live-sessions\"")
        }
        WebhookError::Stale => conflict(
            "webhook-stale",
            "Signed too long ago",
            "The signature is right, but its time is out of tolerance; check the clocks.",
        ),
        WebhookError::Malformed(why) => bad_request("malformed-webhook", format!("The body cannot be read: {why}.")),
    }
}

fn count(source: WebhookSource, outcome: &'static str) {
    metrics::counter!("live_webhook_events_total", "provider" => source.as_str(), "outcome" => outcome).increment(1);
}
