//! Jitsi's reservation API, as its Prosody module `mod_reservations` calls it before a room is made: only rooms of sessions that
//! are open are granted, for as long as a link into them may be good. Nothing is kept here: a room is asked for again each time
//! it opens, and the same answer is right again.

use axum::{
    Json,
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use shared::{
    db::sessions,
    domain::{
        ids::{ProviderConfigId, SessionId},
        provider::ProviderKind,
        session::{Session, SessionStatus},
    },
    providers::{Providers, WebhookError},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    body::read,
    error::{Result, not_found, unauthorized},
    extract::Id,
    routes::presence::{HOST_EARLY, way_in_until},
    state::AppState,
};

/// A room's name and two more fields.
const MOST_BYTES: usize = 16 * 1024;

/// What Prosody asks.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "for the document alone")]
pub struct ReservationForm {
    /// The room.
    #[schema(example = "matematik-5a-1f2e3d-abcdefghijklmnop")]
    name: String,
    #[schema(example = "2026-11-25T09:00:00.000Z")]
    start_time: Option<String>,
    /// The JID of who came first.
    #[schema(example = "b1c4@meet.example.org")]
    mail_owner: Option<String>,
}

/// A room that may be made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reservation {
    /// The session's.
    id: Uuid,
    /// The room.
    name: String,
    mail_owner: String,
    #[schema(example = "2026-11-25T09:00:00Z")]
    start_time: String,
    /// Seconds from then on; Prosody closes the room when they are over.
    #[schema(example = 5400)]
    duration: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_occupants: Option<i32>,
}

/// Why a room may not be made. People see the message.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReservationRefusal {
    #[schema(example = "There is no class in this room at the moment.")]
    message: &'static str,
}

/// Whether Prosody may make this room, at the Jitsi that the environment configures. `reservations_api_prefix` is this address
/// without `/conference/`; `JITSI_WEBHOOK_SECRET` is the bearer token in its `reservations_api_headers`.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/conference/", tag = "webhooks",
    request_body(content = ReservationForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Reservation),
        (status = 403, body = ReservationRefusal, description = "No session meets there, or not now"),
    ),
    security(("webhook" = [])),
)]
pub async fn reserve_room(State(state): State<AppState>, request: Request) -> Result<Response> {
    authorize(&state.providers, request.headers())?;
    reserve(&state, None, request).await
}

/// The same at the Jitsi of a provider configuration; the bearer token is its `webhook_secret`.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/{id}/conference/", tag = "webhooks",
    params(("id" = Uuid, Path, description = "The provider configuration")),
    request_body(content = ReservationForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Reservation),
        (status = 403, body = ReservationRefusal, description = "No session meets there, or not now"),
    ),
    security(("webhook" = [])),
)]
pub async fn reserve_room_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    request: Request,
) -> Result<Response> {
    authorize_for(&state, id, request.headers()).await?;
    reserve(&state, Some(id), request).await
}

/// A reservation again, by the id that it was answered with.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/webhooks/jitsi/conference/{conference_id}/", tag = "webhooks",
    params(("conference_id" = Uuid, Path, description = "The reservation's id")),
    responses(
        (status = 200, body = Reservation),
        (status = 403, body = ReservationRefusal, description = "The session is not open any more"),
        (status = 404, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
    security(("webhook" = [])),
)]
pub async fn get_reservation(
    State(state): State<AppState>,
    params: RawPathParams,
    headers: HeaderMap,
) -> Result<Response> {
    authorize(&state.providers, &headers)?;
    Ok(answer(&state, reserved(&state, None, &params).await?, String::new()))
}

/// The same of a provider configuration.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/webhooks/jitsi/{id}/conference/{conference_id}/", tag = "webhooks",
    params(
        ("id" = Uuid, Path, description = "The provider configuration"),
        ("conference_id" = Uuid, Path, description = "The reservation's id"),
    ),
    responses(
        (status = 200, body = Reservation),
        (status = 403, body = ReservationRefusal, description = "The session is not open any more"),
    ),
    security(("webhook" = [])),
)]
pub async fn get_reservation_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    params: RawPathParams,
    headers: HeaderMap,
) -> Result<Response> {
    authorize_for(&state, id, &headers).await?;
    Ok(answer(&state, reserved(&state, Some(id), &params).await?, String::new()))
}

/// The room is gone. Nothing is to be done: it may open again.
#[utoipa::path(
    delete, path = "/api/v1/live-sessions/webhooks/jitsi/conference/{conference_id}/", tag = "webhooks",
    params(("conference_id" = Uuid, Path, description = "The reservation's id")),
    responses(
        (status = 204, description = "It is known"),
        (status = 404, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
    security(("webhook" = [])),
)]
pub async fn delete_reservation(
    State(state): State<AppState>,
    params: RawPathParams,
    headers: HeaderMap,
) -> Result<StatusCode> {
    authorize(&state.providers, &headers)?;
    reserved(&state, None, &params).await.map(|_| StatusCode::NO_CONTENT)
}

/// The same of a provider configuration.
#[utoipa::path(
    delete, path = "/api/v1/live-sessions/webhooks/jitsi/{id}/conference/{conference_id}/", tag = "webhooks",
    params(
        ("id" = Uuid, Path, description = "The provider configuration"),
        ("conference_id" = Uuid, Path, description = "The reservation's id"),
    ),
    responses((status = 204, description = "It is known")),
    security(("webhook" = [])),
)]
pub async fn delete_reservation_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    params: RawPathParams,
    headers: HeaderMap,
) -> Result<StatusCode> {
    authorize_for(&state, id, &headers).await?;
    reserved(&state, Some(id), &params).await.map(|_| StatusCode::NO_CONTENT)
}

/// The secret is event_sync's: it comes from the same Prosody.
fn authorize(providers: &Providers, headers: &HeaderMap) -> Result<()> {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    providers.verify_reservation(&headers).map_err(|error: WebhookError| {
        tracing::warn!(request.id = crate::middleware::current_request_id(), error = %error, "a reservation was refused");
        unauthorized("The bearer token is missing or wrong.", "Bearer realm=\"live-sessions\"").into()
    })
}

async fn authorize_for(state: &AppState, id: ProviderConfigId, headers: &HeaderMap) -> Result<()> {
    let mut connection = state.db.acquire().await?;
    let opened = state.provider_configs.find(&mut connection, id).await?;
    drop(connection);
    let opened = opened.filter(|opened| opened.kind == ProviderKind::Jitsi);
    authorize(&opened.ok_or_else(|| not_found("provider configuration"))?.providers, headers)
}

async fn reserve(state: &AppState, config: Option<ProviderConfigId>, request: Request) -> Result<Response> {
    let body = read(request, MOST_BYTES).await?;
    let field = |name: &str| url::form_urlencoded::parse(&body).find(|(n, _)| n == name).map(|(_, v)| v.into_owned());
    let name = field("name").filter(|name| !name.contains('\0')).unwrap_or_default();
    // Rooms have one spelling here; Prosody compares the answer with its own.
    let session = sessions::find_by_room(&state.db, &name.to_lowercase()).await?;
    let session = session.filter(|session| is_of(session, config));
    Ok(match session {
        Some(session) => answer(state, session, field("mail_owner").unwrap_or_default()),
        None => refuse("There is no class in this room."),
    })
}

async fn reserved(state: &AppState, config: Option<ProviderConfigId>, params: &RawPathParams) -> Result<Session> {
    let id = params.iter().find(|(name, _)| *name == "conference_id").and_then(|(_, value)| value.parse().ok());
    let session = match id {
        Some(id) => sessions::find(&state.db, SessionId(id)).await?,
        None => None,
    };
    session.filter(|session| is_of(session, config)).ok_or_else(|| not_found("reservation").into())
}

/// A secret is good for the sessions of its configuration alone.
fn is_of(session: &Session, config: Option<ProviderConfigId>) -> bool {
    session.provider == ProviderKind::Jitsi && session.provider_config_id == config
}

fn answer(state: &AppState, session: Session, mail_owner: String) -> Response {
    let now = state.clock.now();
    match session.status {
        SessionStatus::Live => {}
        SessionStatus::Scheduled if now >= session.starts_at - HOST_EARLY => {}
        SessionStatus::Scheduled => return refuse("The class has not begun yet."),
        SessionStatus::Ended | SessionStatus::Cancelled => return refuse("The class is over."),
    }
    Json(Reservation {
        id: session.id.0,
        duration: seconds_until(way_in_until(&session, now), now),
        name: session.room,
        mail_owner: if mail_owner.is_empty() { session.host_id } else { mail_owner },
        start_time: now.to_rfc3339_opts(SecondsFormat::Secs, true),
        max_occupants: session.max_participants,
    })
    .into_response()
}

fn seconds_until(at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (at - now).num_seconds().max(1)
}

fn refuse(message: &'static str) -> Response {
    (StatusCode::FORBIDDEN, Json(ReservationRefusal { message })).into_response()
}
