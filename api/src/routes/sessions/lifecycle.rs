//! The life of a session: start, end, cancel. Each is idempotent; what the state does not allow is 409.

use axum::{extract::State, http::StatusCode, response::Response};
use shared::{
    db::{participants, provider_configs, reminders, sessions},
    domain::{
        ids::SessionId,
        provider::ProviderKind,
        session::{EndReason, Session, SessionStatus},
    },
    jobs::{EndMeeting, FinalizeSession},
    queue::Tx,
};

use super::body::{Cancellation, SessionBody, respond};
use crate::{
    auth::Caller,
    body::OptionalJson,
    error::{Problem, Result, conflict},
    extract::Id,
    permissions::{self, Right},
    state::AppState,
};

/// Start a session, at any time before its end. The host's or a co-host's first join within the time in which participants
/// may join does the same.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/start/", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    responses(
        (status = 200, body = SessionBody, headers(("etag" = String, description = "Version of the session"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn start_session(State(state): State<AppState>, caller: Caller, Id(id): Id<SessionId>) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let session = permissions::lock(&mut tx, &caller, id, Right::Run).await?.session;
    if session.status == SessionStatus::Live {
        tx.commit().await?;
        return Ok(respond(StatusCode::OK, session));
    }
    let started = start(&mut tx, &session).await?;
    tx.commit().await?;
    Ok(respond(StatusCode::OK, started))
}

/// Starts a session whose row the caller holds. Reminders stay: until the planned start they still say something new.
pub async fn start(tx: &mut Tx, session: &Session) -> Result<Session> {
    let started = sessions::start(&mut **tx, session.id).await?;
    started.ok_or_else(|| illegal(session, "started").into())
}

/// End a live session. Open connections are closed, and the attendance report is computed.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/end/", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    responses(
        (status = 200, body = SessionBody, headers(("etag" = String, description = "Version of the session"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn end_session(State(state): State<AppState>, caller: Caller, Id(id): Id<SessionId>) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let session = permissions::lock(&mut tx, &caller, id, Right::Run).await?.session;
    if session.status == SessionStatus::Ended {
        tx.commit().await?;
        return Ok(respond(StatusCode::OK, session));
    }
    let ended = sessions::end(&mut *tx, id, EndReason::Host, None).await?;
    let ended = ended.ok_or_else(|| illegal(&session, "ended"))?;
    participants::close_all(&mut *tx, id, caller.tenant.heartbeat_timeout_s, ended.ended_at).await?;
    tx.enqueue(&FinalizeSession { session_id: id }).await?;
    end_meeting(&state, &mut tx, &ended).await?;
    tx.commit().await?;
    Ok(respond(StatusCode::OK, ended))
}

/// Call a session off before it starts. Who was told of it gets a mail that clears the calendar.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/cancel/", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    request_body = Option<Cancellation>,
    responses(
        (status = 200, body = SessionBody, headers(("etag" = String, description = "Version of the session"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel_session(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    OptionalJson(body): OptionalJson<Cancellation>,
) -> Result<Response> {
    let reason = body.check(|_| Vec::new())?.reason;
    let mut tx = state.begin_for(&caller).await?;
    let session = permissions::lock(&mut tx, &caller, id, Right::Manage).await?.session;
    if session.status == SessionStatus::Cancelled {
        tx.commit().await?;
        return Ok(respond(StatusCode::OK, session));
    }
    let cancelled = sessions::cancel(&mut *tx, id, reason.as_deref()).await?;
    let cancelled = cancelled.ok_or_else(|| illegal(&session, "cancelled"))?;
    participants::close_all(&mut *tx, id, caller.tenant.heartbeat_timeout_s, None).await?;
    reminders::plan_cancellation(&mut tx, &cancelled, state.clock.now()).await?;
    end_meeting(&state, &mut tx, &cancelled).await?;
    tx.commit().await?;
    Ok(respond(StatusCode::OK, cancelled))
}

/// Has the meeting ended at its provider, of a session that nobody can join any more.
pub async fn end_meeting(state: &AppState, tx: &mut Tx, session: &Session) -> Result<()> {
    let takes_commands = match session.provider_config_id {
        Some(id) if session.provider == ProviderKind::Jitsi => provider_configs::takes_commands(&mut **tx, id).await?,
        _ => state.providers.jitsi_control().is_ok(),
    };
    if let Some(job) = EndMeeting::of(session, takes_commands) {
        tx.enqueue(&job).await?;
    }
    Ok(())
}

fn illegal(session: &Session, wanted: &str) -> Problem {
    conflict(
        "illegal-transition",
        "Not in this state",
        format!("The session is {}; it cannot be {wanted}.", session.status.as_str()),
    )
    .session_status(session.status)
}
