//! Webhooks of providers: verified on the raw body, stored, queued, answered; nothing else happens in
//! that request. What an event means is decided by the worker.
//!
//! The short addresses are the environment's; where its secret does not fit, the room tells whose secret is to be tried.
//! Those with an id are a provider configuration's.

pub mod callbacks;

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, RawPathParams, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
};
use serde::Serialize;
use shared::{
    db::{provider_configs, sessions, webhook_events::NewEvent},
    domain::ids::{ProviderConfigId, TenantId},
    providers::{Delivery, Providers, Received, Verified, WebhookError, WebhookSource, zoom},
};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    body::{MEBIBYTE, read},
    error::{Error, Problem, Result, bad_request, conflict, not_found, unauthorized},
    extract::Id,
    provider_configs::Opened,
    router::WEBHOOKS,
    schema,
    state::AppState,
};

/// Configurations whose secrets are tried for one webhook.
const TRIED: i64 = 20;
const CHALLENGE: &str = "Bearer realm=\"live-sessions\"";

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

/// Webhooks of a provider that the environment configures.
///
/// - `jitsi`: of our Prosody module, signed as Standard Webhooks has it (`webhook-id`, `webhook-timestamp`,
///   `webhook-signature`), or of event_sync, with the secret as the bearer token.
/// - `jaas`: with its `X-Jaas-Signature`.
/// - `bbb`: of bbb-webhooks, a form with `checksum` in the query, or the shared secret as the bearer token.
/// - `zoom`: with its `x-zm-signature`; the question `endpoint.url_validation` is answered as Zoom wants it.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/{provider}/", tag = "webhooks",
    params(("provider" = inline(Source), Path, description = "Who sends"), ChecksumParam),
    request_body(content(
        (serde_json::Value = "application/json"),
        (WebhookForm = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`: rightly signed, but too long ago or in the future"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_webhook(
    State(state): State<AppState>,
    Source(source): Source,
    request: Request,
) -> Result<Json<serde_json::Value>> {
    receive(state, source, request).await
}

/// Webhooks for a provider configuration: as for the environment's provider, by the secrets of the configuration.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/{provider}/{id}/", tag = "webhooks",
    params(("provider" = inline(Source), Path, description = "Who sends"), ChecksumParam, ("id" = uuid::Uuid, Path, description = "The provider configuration")),
    request_body(content(
        (serde_json::Value = "application/json"),
        (WebhookForm = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`: rightly signed, but too long ago or in the future"),
    ),
    security(("webhook" = [])),
)]
pub async fn receive_webhook_of_config(
    State(state): State<AppState>,
    Source(source): Source,
    Id(id): Id<ProviderConfigId>,
    request: Request,
) -> Result<Json<serde_json::Value>> {
    receive_for(state, source, id, request).await
}

/// What event_sync sends to the paths that it appends to its `api_prefix`: `events/room/created` and the like. The event
/// is told by the body.
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
pub async fn receive_jitsi_event(State(state): State<AppState>, request: Request) -> Result<Json<serde_json::Value>> {
    receive(state, WebhookSource::Jitsi, request).await
}

/// The same for the Jitsi of a provider configuration.
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
) -> Result<Json<serde_json::Value>> {
    receive_for(state, WebhookSource::Jitsi, id, request).await
}

/// The `{provider}` of a webhook's address.
#[derive(Debug, Clone, Copy)]
pub struct Source(WebhookSource);

impl PartialSchema for Source {
    fn schema() -> RefOr<Schema> {
        schema::provider().into()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Source {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| not_found("provider"))?;
        let text = params.iter().find(|(name, _)| *name == "provider").map(|(_, value)| value);
        text.and_then(|text| text.parse().ok()).map(Self).ok_or_else(|| not_found("provider").into())
    }
}

/// What a BigBlueButton adds to the address.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone")]
pub struct ChecksumParam {
    /// Of a `bbb`: the hash of address, body and shared secret.
    #[param(example = "db08b118e838e02522ddf4a120e2dfab993912e34f7a1c3becd4f4a9400ef34b")]
    checksum: Option<String>,
}

/// What bbb-webhooks sends.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "for the document alone")]
pub struct WebhookForm {
    #[schema(example = "bbb.example.org")]
    domain: String,
    /// An array of events, as JSON.
    event: String,
    /// Of the first attempt, in milliseconds.
    #[schema(example = "1708381155800")]
    timestamp: String,
}

/// A webhook as it came.
struct Raw {
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    callback_url: Option<String>,
}

impl Raw {
    /// `callback` is what follows `webhooks/` in the address.
    async fn read(state: &AppState, callback: &str, request: Request) -> Result<Self> {
        let header = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
        let headers = request.headers().iter().map(header).collect();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let public_url = state.config.public_url.trim_end_matches('/');
        let callback_url = (!public_url.is_empty()).then(|| format!("{public_url}{WEBHOOKS}{callback}"));
        Ok(Self { query, headers, body: read(request, MEBIBYTE).await?, callback_url })
    }

    fn verify(&self, source: WebhookSource, providers: &Providers, state: &AppState) -> Result<Verified, WebhookError> {
        providers.verify_webhook(&Delivery {
            source,
            callback_url: self.callback_url.as_deref(),
            query: &self.query,
            headers: &self.headers,
            body: &self.body,
            now: state.clock.now(),
        })
    }
}

async fn receive(state: AppState, source: WebhookSource, request: Request) -> Result<Json<serde_json::Value>> {
    let raw = Raw::read(&state, &format!("{source}/"), request).await?;
    let error = match raw.verify(source, &state.providers, &state) {
        Ok(verified) => return answer(&state, source, None, verified).await,
        Err(error) => error,
    };
    // Not the environment's: perhaps that of the configuration by which the session in this room is held.
    if !matches!(error, WebhookError::NotConfigured | WebhookError::BadSignature) {
        return Err(refused(source, &error).into());
    }
    match of_room(&state, source, &raw).await? {
        Whose::Configuration(opened) => {
            let verified = raw.verify(source, &opened.providers, &state).map_err(|error| refused(source, &error))?;
            answer(&state, source, Some(&opened), verified).await
        }
        _ if source == WebhookSource::Zoom => {
            for opened in of_account(&state, source, &raw).await? {
                match raw.verify(source, &opened.providers, &state) {
                    Err(WebhookError::NotConfigured | WebhookError::BadSignature) => {}
                    verified => {
                        let verified = verified.map_err(|error| refused(source, &error))?;
                        return answer(&state, source, Some(&opened), verified).await;
                    }
                }
            }
            Err(refused(source, &error).into())
        }
        Whose::Environment => Err(refused(source, &error).into()),
        // Our Prosody module alone knows what to make of it.
        Whose::Nobodys if !raw.headers.iter().any(|(name, _)| name == "webhook-signature") => {
            Err(refused(source, &error).into())
        }
        Whose::Nobodys => {
            count(source, "refused");
            let detail = "No session meets in this room, so that nobody can tell whose signature it would have to be.";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "webhook-room-unknown", "Nobody's room", detail)
                .header(header::WWW_AUTHENTICATE, CHALLENGE)
                .into())
        }
    }
}

async fn receive_for(
    state: AppState,
    source: WebhookSource,
    id: ProviderConfigId,
    request: Request,
) -> Result<Json<serde_json::Value>> {
    let raw = Raw::read(&state, &format!("{source}/{id}/"), request).await?;
    let mut connection = state.db.acquire().await?;
    let opened = state.provider_configs.find(&mut connection, id).await?;
    drop(connection);
    let opened = opened.filter(|opened| opened.kind == source.kind());
    let opened = opened.ok_or_else(|| not_found("provider configuration"))?;
    let verified = raw.verify(source, &opened.providers, &state).map_err(|error| refused(source, &error))?;
    answer(&state, source, Some(&opened), verified).await
}

/// The configuration of the session that meets in the room which the body names. Nothing of the body is believed yet: this
/// only tells by which secret to judge it.
async fn of_room(state: &AppState, source: WebhookSource, raw: &Raw) -> Result<Whose> {
    let Some(room) = state.providers.unverified_room(source, &raw.body) else { return Ok(Whose::Environment) };
    let mut connection = state.db.acquire().await?;
    let Some(session) = sessions::find_by_room(&mut *connection, &room).await? else { return Ok(Whose::Nobodys) };
    let Some(id) = session.provider_config_id else { return Ok(Whose::Environment) };
    let opened = state.provider_configs.find(&mut connection, id).await?;
    Ok(opened.filter(|opened| opened.kind == source.kind()).map_or(Whose::Environment, Whose::Configuration))
}

/// By whose secret an event is judged.
enum Whose {
    Configuration(Arc<Opened>),
    Environment,
    /// There is no session in its room: no repeat will change that, which our Prosody module has to know.
    Nobodys,
}

/// Configurations of the account that a body of Zoom's says it is of, first those that have its meeting; the newest of all, where
/// it is the question that proves an address, which names none. Nothing of it is believed yet either.
async fn of_account(state: &AppState, source: WebhookSource, raw: &Raw) -> Result<Vec<Arc<Opened>>> {
    if source != WebhookSource::Zoom {
        return Ok(Vec::new());
    }
    let Some(claim) = zoom::webhook::claim(&raw.body) else { return Ok(Vec::new()) };
    let account = (claim.account_id.as_deref(), claim.meeting.as_deref());
    let mut connection = state.db.acquire().await?;
    let ids = provider_configs::list_of_account(&mut *connection, source.kind(), account, TRIED).await?;
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        // One whose secrets cannot be opened does not stand in the way of others.
        if let Ok(Some(opened)) = state.provider_configs.find(&mut connection, id).await {
            all.push(opened);
        }
    }
    Ok(all)
}

/// `opened` is the configuration by whose secret it was verified, where it was not the environment's.
async fn answer(
    state: &AppState,
    source: WebhookSource,
    opened: Option<&Opened>,
    verified: Verified,
) -> Result<Json<serde_json::Value>> {
    let received = match verified {
        Verified::Events(received) => received,
        Verified::Answer(answer) => {
            count(source, "answered");
            return Ok(Json(answer));
        }
    };
    let config = opened.map(|opened| (opened.id, opened.tenant));
    let status = store(state, source, config, &received).await?;
    count(source, if status == WebhookStatus::Stored { "stored" } else { "duplicate" });
    Ok(Json(serde_json::to_value(WebhookAnswer { status }).map_err(anyhow::Error::from)?))
}

async fn store(
    state: &AppState,
    source: WebhookSource,
    config: Option<(ProviderConfigId, TenantId)>,
    received: &[Received],
) -> Result<WebhookStatus> {
    let events = received.iter().map(|Received { event, body }| NewEvent {
        provider: source.as_str(),
        config,
        key: event.key.clone(),
        event_type: event.event_type.clone(),
        occurred_at: event.occurred_at,
        room: event.room.clone(),
        body: body.clone(),
    });
    let is_new = state.inbox.store(events.collect()).await?;
    Ok(if is_new { WebhookStatus::Stored } else { WebhookStatus::Duplicate })
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
            unauthorized("The webhook's signature is missing or wrong.", CHALLENGE)
        }
        WebhookError::Stale => conflict(
            "webhook-stale",
            "Signed at another time",
            "The signature is right, but its time is out of tolerance; check the clocks.",
        ),
        WebhookError::Malformed(why) => bad_request("malformed-webhook", format!("The body cannot be read: {why}.")),
    }
}

fn count(source: WebhookSource, outcome: &'static str) {
    metrics::counter!("live_webhook_events_total", "provider" => source.as_str(), "outcome" => outcome).increment(1);
}
