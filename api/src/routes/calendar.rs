//! A session as a calendar entry.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono_tz::Tz;
use shared::{
    calendar::{CalendarAddress, CalendarEvent, Method},
    db::tenants::Tenant,
    domain::{
        ids::SessionId,
        session::{Session, SessionStatus},
    },
};

use crate::{
    auth::Caller,
    error::Result,
    extract::Id,
    permissions::{Right, see},
    routes::sessions::body::etag,
    state::AppState,
};

/// The session as iCalendar (RFC 5545), with the same UID as in its mails.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/calendar/", tag = "sessions",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("if-none-match" = Option<String>, Header, description = "ETag that the caller has"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/calendar",
            headers(("etag" = String, description = "Version of the session"))),
        (status = 304, description = "The caller has this version"),
    ),
)]
pub async fn get_calendar(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    headers: HeaderMap,
) -> Result<Response> {
    let session = see(&state, &caller, id, Right::View).await?.1.session;
    let tag = etag(&session);
    let tag_value = HeaderValue::try_from(tag.as_str()).map_err(anyhow::Error::from)?;
    if tag.is_known(&headers) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag_value)]).into_response());
    }
    let event = event(&state, &session, &caller.tenant);
    let kind = format!("text/calendar; charset=utf-8; method={}", event.method_name());
    let name = format!("attachment; filename=\"{id}.ics\"");
    let headers = [
        (header::ETAG, tag_value),
        (header::CONTENT_TYPE, HeaderValue::try_from(kind).map_err(anyhow::Error::from)?),
        (header::CONTENT_DISPOSITION, HeaderValue::try_from(name).map_err(anyhow::Error::from)?),
    ];
    Ok((headers, event.to_ics()).into_response())
}

fn event(state: &AppState, session: &Session, tenant: &Tenant) -> CalendarEvent {
    let cancelled = session.status == SessionStatus::Cancelled;
    CalendarEvent {
        uid: format!("{}@live-sessions", session.id),
        sequence: u32::try_from(session.sequence).unwrap_or_default(),
        method: if cancelled { Method::Cancel } else { Method::Publish },
        title: session.title.clone(),
        description: session.description.clone(),
        url: Some(state.config.session_url.replace("{id}", &session.id.to_string())),
        starts_at: session.starts_at,
        ends_at: session.ends_at,
        timezone: session.timezone.parse().unwrap_or(Tz::UTC),
        organizer: CalendarAddress::organizer(&session.host_name, &tenant.name, &state.config.mail_from),
        attendees: Vec::new(),
        created_at: session.created_at,
        updated_at: session.updated_at,
        reminder_minutes: tenant.reminder_steps(),
    }
}
