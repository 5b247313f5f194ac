//! Deleting a session that nobody has heard of.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use shared::{
    db::{reminders, sessions},
    domain::{ids::SessionId, session::SessionStatus},
};

use super::{body::etag, lifecycle::end_meeting};
use crate::{
    auth::Caller,
    error::{Result, conflict},
    extract::Id,
    permissions::{self, Right},
    state::AppState,
};

/// Delete a session that has not started and of which nobody was told by mail. Else cancel it: that
/// tells the invitees, and keeps the record.
#[utoipa::path(
    delete, path = "/api/v1/live-sessions/sessions/{id}/", tag = "sessions",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("if-match" = Option<String>, Header, description = "Only if the session still has this ETag"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-started`, or `cancel-instead` where invitees were told already"),
        (status = 412, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn delete_session(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    headers: HeaderMap,
) -> Result<StatusCode> {
    let mut tx = state.begin_for(&caller).await?;
    let session = permissions::lock(&mut tx, &caller, id, Right::Manage).await?.session;
    etag(&session).allows_write(&headers)?;
    if session.status != SessionStatus::Scheduled {
        let problem = conflict(
            "session-started",
            "Only sessions that have not started are deleted",
            "The session has started, has ended or was cancelled; its record is kept.",
        );
        return Err(problem.session_status(session.status).into());
    }
    if reminders::anybody_told(&mut tx, id).await? {
        let problem = conflict(
            "cancel-instead",
            "Invitees were told of the session",
            "Cancel the session instead: its invitees are told, and their calendars are cleared.",
        );
        return Err(problem.session_status(session.status).into());
    }
    sessions::delete(&mut *tx, id).await?;
    // A host may have been there to set up the room.
    end_meeting(&state, &mut tx, &session).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
