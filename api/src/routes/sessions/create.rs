//! A new session.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use chrono::{DateTime, Duration, Utc};
use shared::{
    db::{invitees, reminders, sessions},
    domain::{
        ids::SessionId,
        session::{Access, Session, SessionKind, SessionStatus},
    },
    providers::room_name,
};

use super::{
    body::{NewSession, SessionBody, location, respond},
    meaning,
    provider::{self, Choice},
};
use crate::{
    auth::Caller,
    body::Json,
    error::{Result, invalid},
    permissions,
    routes::invitees::row,
    state::AppState,
};

/// Length of an instant session that says nothing of it.
const DEFAULT_MINUTES: i64 = 60;

/// Plan a session, or start one at once (`kind: instant`).
///
/// Invitees get an invitation, and reminders by the tenant's steps.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/", tag = "sessions",
    request_body = NewSession,
    responses((status = 201, body = SessionBody, headers(
        ("location" = String, description = "Address of the session"),
        ("etag" = String, description = "Version of the session"),
    ))),
)]
pub async fn create_session(State(state): State<AppState>, caller: Caller, body: Json<NewSession>) -> Result<Response> {
    permissions::may_create(&caller)?;
    let now = state.clock.now();
    let may_name_host = permissions::may_name_host(&caller);
    let mut tx = state.begin_for(&caller).await?;
    let choice = provider::choose(&state, &mut tx, caller.tenant.id, &body.value).await?;
    let new = body.check(|value| {
        let mut faults = meaning::of_new(value, now, may_name_host, &caller.id);
        faults.extend(choice.clone().err());
        faults
    })?;
    let choice = choice.map_err(|fault| invalid(vec![fault]))?;
    let people: Vec<_> = new.invitees.iter().flatten().map(|person| row(person, now)).collect();
    let session = session_of(new, choice, &caller, now);

    let session = sessions::insert(&mut *tx, &session).await.map_err(|error| {
        // Deleted just now.
        match shared::db::is_violation(&error, "sessions_provider_config_id_fkey") {
            true => invalid(vec![provider::gone()]).into(),
            false => crate::error::Error::from(error),
        }
    })?;
    invitees::replace(&mut tx, session.tenant_id, session.id, &people).await?;
    reminders::plan_for_session(&mut tx, &session, &caller.tenant, reminders::People::All, now).await?;
    tx.commit().await?;

    let address = location(&state.config.public_url, session.id);
    let mut response = respond(StatusCode::CREATED, session);
    if let Ok(value) = HeaderValue::try_from(address) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

fn session_of(new: NewSession, choice: Choice, caller: &Caller, now: DateTime<Utc>) -> Session {
    let kind = new.kind.unwrap_or(SessionKind::Scheduled);
    let instant = kind == SessionKind::Instant;
    let starts_at = new.starts_at.filter(|_| !instant).unwrap_or(now);
    let length = Duration::minutes(new.duration_minutes.unwrap_or(DEFAULT_MINUTES));
    let ends_at = new.ends_at.filter(|_| !instant).unwrap_or(starts_at + length);
    let hosted_by_caller = new.host_id.as_ref().is_none_or(|id| *id == caller.id);
    let own = |value: &str| if hosted_by_caller { value.to_owned() } else { String::new() };
    let id = SessionId::new();
    Session {
        id,
        tenant_id: caller.tenant.id,
        kind,
        status: if instant { SessionStatus::Live } else { SessionStatus::Scheduled },
        room: room_name(&new.title, id),
        title: new.title,
        description: new.description.unwrap_or_default(),
        course_id: new.course_id,
        host_name: new.host_name.unwrap_or_else(|| own(&caller.name)),
        host_email: new.host_email.or_else(|| caller.email.clone().filter(|_| hosted_by_caller)),
        host_id: new.host_id.unwrap_or_else(|| caller.id.clone()),
        access: new.access.unwrap_or(Access::Invitees),
        provider: choice.provider,
        provider_config_id: choice.config,
        starts_at,
        ends_at,
        timezone: new.timezone.unwrap_or_else(|| caller.tenant.timezone.clone()),
        max_participants: new.max_participants,
        recording_enabled: new.recording_enabled.unwrap_or(false),
        started_at: None,
        ended_at: None,
        end_reason: None,
        cancelled_at: None,
        cancel_reason: None,
        attendance_rules: None,
        finalized_at: None,
        sequence: 0,
        version: 1,
        created_by: caller.id.clone(),
        created_at: now,
        updated_at: now,
    }
}
