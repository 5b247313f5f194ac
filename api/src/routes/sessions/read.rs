//! One session.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use shared::domain::ids::SessionId;

use super::body::{SessionBody, etag, respond};
use crate::{
    auth::Caller,
    error::Result,
    extract::Id,
    permissions::{Right, see},
    state::AppState,
};

/// One session.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/", tag = "sessions",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("if-none-match" = Option<String>, Header, description = "ETag that the caller has"),
    ),
    responses(
        (status = 200, body = SessionBody, headers(("etag" = String, description = "Version of the session"))),
        (status = 304, description = "The caller has this version"),
    ),
)]
pub async fn get_session(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    headers: HeaderMap,
) -> Result<Response> {
    let (_, seen) = see(&state, &caller, id, Right::View).await?;
    let tag = etag(&seen.session);
    if tag.is_known(&headers) {
        let value = HeaderValue::try_from(tag.as_str()).map_err(anyhow::Error::from)?;
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, value)]).into_response());
    }
    Ok(respond(StatusCode::OK, seen.session))
}
