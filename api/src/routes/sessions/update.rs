//! Changes of a session. Who was told of it hears of a new time, zone or title.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::Value;
use shared::{
    db::{reminders, sessions},
    domain::{
        ids::SessionId,
        session::{Session, SessionStatus},
    },
    jobs::UpdateMeeting,
};

use super::{
    body::{SessionBody, SessionPatch, SessionUpdate, etag, respond},
    meaning,
};
use crate::{
    auth::Caller,
    body::Json,
    error::{Problem, Result, conflict, precondition_failed},
    extract::Id,
    permissions::{self, Right},
    state::AppState,
};

/// Replace all that can be changed.
#[utoipa::path(
    put, path = "/api/v1/live-sessions/sessions/{id}/", tag = "sessions",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("if-match" = Option<String>, Header, description = "Only if the session still has this ETag"),
    ),
    request_body = SessionUpdate,
    responses(
        (status = 200, body = SessionBody, headers(("etag" = String, description = "New version"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json"),
        (status = 412, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn replace_session(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    headers: HeaderMap,
    body: Json<SessionUpdate>,
) -> Result<Response> {
    change(&state, &caller, id, &headers, |_| Ok(body)).await
}

/// Change some fields (JSON merge patch).
#[utoipa::path(
    patch, path = "/api/v1/live-sessions/sessions/{id}/", tag = "sessions",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("if-match" = Option<String>, Header, description = "Only if the session still has this ETag"),
    ),
    request_body(
        content((SessionPatch = "application/json"), (SessionPatch = "application/merge-patch+json")),
    ),
    responses(
        (status = 200, body = SessionBody, headers(("etag" = String, description = "New version"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json"),
        (status = 412, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn patch_session(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    headers: HeaderMap,
    body: Json<SessionPatch>,
) -> Result<Response> {
    change(&state, &caller, id, &headers, |session| {
        let (patch, faults) = body.into_parts();
        let mut whole = serde_json::to_value(SessionUpdate::from(session)).map_err(anyhow::Error::from)?;
        merge(&mut whole, patch);
        Ok(Json::of(whole).with(faults))
    })
    .await
}

/// RFC 7396 for an object without nested ones; anything but an object is a fault of its form already.
fn merge(whole: &mut Value, patch: Value) {
    if let (Value::Object(whole), Value::Object(patch)) = (whole, patch) {
        whole.extend(patch);
    }
}

async fn change(
    state: &AppState,
    caller: &Caller,
    id: SessionId,
    headers: &HeaderMap,
    body: impl FnOnce(&Session) -> Result<Json<SessionUpdate>>,
) -> Result<Response> {
    let now = state.clock.now();
    let mut tx = state.begin_for(caller).await?;
    let session = permissions::lock(&mut tx, caller, id, Right::Manage).await?.session;
    etag(&session).allows_write(headers)?;
    let may_name_host = permissions::may_name_host(caller);
    let mut body = body(&session)?;
    keep_host(&mut body.value, &session);
    let update =
        body.check(|value| meaning::of_update(value, now, session.starts_at, may_name_host, &session.host_id))?;
    let mut changed = apply(session.clone(), update, &caller.tenant.timezone);
    may_change(&session, &changed)?;
    if same(&session, &changed) {
        return Ok(respond(StatusCode::OK, session));
    }
    let moved = (session.starts_at, session.ends_at) != (changed.starts_at, changed.ends_at);
    let renamed = session.title != changed.title || session.timezone != changed.timezone;
    if moved || renamed {
        changed.sequence += 1;
    }
    let changed = sessions::update(&mut *tx, &changed).await?.ok_or_else(precondition_failed)?;
    if session.starts_at != changed.starts_at
        || session.host_email != changed.host_email
        || session.host_id != changed.host_id
    {
        reminders::replan_steps(&mut tx, &changed, &caller.tenant, now).await?;
    }
    if moved || renamed {
        reminders::plan_update(&mut tx, &changed, now).await?;
    }
    if let Some(job) = UpdateMeeting::of(&session, &changed) {
        tx.enqueue(&job).await?;
    }
    tx.commit().await?;
    Ok(respond(StatusCode::OK, changed))
}

/// What a new body does not say of the host stays, unless it names another one: answers do not show the
/// host's address, so a caller could not send it back.
fn keep_host(body: &mut Value, session: &Session) {
    let Value::Object(fields) = body else { return };
    if fields.get("host_id").is_none_or(|id| id.is_null() || *id == session.host_id.as_str()) {
        fields.entry("host_name").or_insert_with(|| session.host_name.clone().into());
        fields.entry("host_email").or_insert_with(|| session.host_email.clone().into());
    }
}

fn apply(session: Session, update: SessionUpdate, tenant_zone: &str) -> Session {
    Session {
        title: update.title,
        description: update.description.unwrap_or_default(),
        course_id: update.course_id,
        host_name: update.host_name.unwrap_or_default(),
        host_email: update.host_email,
        host_id: update.host_id.unwrap_or_else(|| session.host_id.clone()),
        access: update.access.unwrap_or(shared::domain::session::Access::Invitees),
        starts_at: update.starts_at,
        ends_at: update.ends_at,
        timezone: update.timezone.unwrap_or_else(|| tenant_zone.to_owned()),
        max_participants: update.max_participants,
        recording_enabled: update.recording_enabled.unwrap_or(false),
        ..session
    }
}

/// A live session keeps all but its words; one that is over keeps everything.
fn may_change(before: &Session, after: &Session) -> Result<(), Problem> {
    let words_only =
        same(&Session { title: after.title.clone(), description: after.description.clone(), ..before.clone() }, after);
    match before.status {
        SessionStatus::Scheduled => Ok(()),
        SessionStatus::Live if words_only => Ok(()),
        SessionStatus::Live => Err(conflict(
            "session-live",
            "The session is live",
            "While a session is live only its title and description can be changed.",
        )
        .session_status(before.status)),
        SessionStatus::Ended | SessionStatus::Cancelled => Err(conflict(
            "session-over",
            "The session is over",
            "A session that has ended or was cancelled cannot be changed.",
        )
        .session_status(before.status)),
    }
}

fn same(a: &Session, b: &Session) -> bool {
    let all = |s: &Session| {
        (
            (s.title.clone(), s.description.clone(), s.course_id.clone(), s.host_id.clone(), s.host_name.clone()),
            (s.host_email.clone(), s.access, s.starts_at, s.ends_at, s.timezone.clone()),
            (s.max_participants, s.recording_enabled),
        )
    };
    all(a) == all(b)
}
