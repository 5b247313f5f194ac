//! Webhooks of providers: verified on the raw body, stored, queued, answered; nothing else happens in
//! that request. What an event means is decided by the worker.

use axum::{
    Json,
    extract::{Request, State},
};
use serde::Serialize;
use shared::{
    db::webhook_events::{self, NewEvent},
    jobs::ProcessWebhook,
    providers::{WebhookError, WebhookSource},
};
use utoipa::ToSchema;

use crate::{
    body::{MEBIBYTE, read},
    error::{Problem, Result, bad_request, conflict, unauthorized},
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

/// Webhooks of a self-hosted Jitsi (Prosody's event_sync), with its secret as the bearer token.
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

async fn receive(state: AppState, source: WebhookSource, request: Request) -> Result<Json<WebhookAnswer>> {
    let headers: Vec<(String, Vec<u8>)> =
        request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let body = read(request, MEBIBYTE).await?;
    let events = state
        .providers
        .verify_webhook(source, &headers, &body, state.clock.now())
        .map_err(|error| refused(source, &error))?;
    let json: serde_json::Value = serde_json::from_slice(&body).map_err(anyhow::Error::from)?;

    let mut status = WebhookStatus::Duplicate;
    let mut tx = state.begin().await?;
    for event in &events {
        let new = NewEvent {
            provider: source.as_str(),
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
