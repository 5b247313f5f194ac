//! Somebody has to leave the meeting.

use axum::{Json, extract::State};
use serde::Serialize;
use shared::{
    db::audit_log,
    domain::{
        ids::SessionId,
        session::{Session, SessionStatus},
    },
    meetings::{MeetingError, NamedBy, Removal},
};
use utoipa::ToSchema;

use crate::{
    auth::Caller,
    error::{Problem, Result, conflict, forbidden},
    extract::{Id, Person},
    idempotency,
    middleware::current_request_id,
    permissions::{self, Right},
    routes::presence::{meetings::no_answer, over, way_in::configured},
    state::AppState,
};

/// Who is out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Removal)]
pub struct RemovalBody {
    #[schema(example = "student-17")]
    person_id: String,
}

/// Remove somebody from the running meeting, on all their connections. They are kept out until the meeting is over, whatever
/// link they have. Possible at a `jitsi` whose Prosody has our module with a control address.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/participants/{person_id}/remove/", tag = "presence",
    params(
        ("id" = Uuid, Path, description = "The session"),
        ("person_id" = String, Path, description = "The LMS's id of the person", example = "student-17"),
    ),
    responses(
        (status = 200, body = RemovalBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`provider-unsupported`: it cannot be done there, or not as it is configured; `meeting-empty`: \
                nobody is in the meeting; `provider-config-disabled`"),
        (status = 410, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-ended` or `session-cancelled`"),
        (status = 502, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`provider-refused`: the meeting server does not take what it is asked; nothing was changed"),
        (status = 503, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`provider-unavailable`: the meeting server does not answer in time; repeat it. Or one of the \
                service's own reasons"),
    ),
)]
pub async fn remove_participant(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Person(person): Person,
) -> Result<Json<RemovalBody>> {
    let mut tx = state.begin_for(&caller).await?;
    let session = permissions::see_on(&mut tx, &caller, id, Right::Run).await?.session;
    if matches!(session.status, SessionStatus::Ended | SessionStatus::Cancelled) {
        return Err(over(session.status).into());
    }
    if person == session.host_id {
        return Err(forbidden("Its host is not removed from a session.").into());
    }
    let configured = configured(&state, &mut tx, &session).await?;
    let server = match &configured {
        Some(opened) => (&opened.providers, NamedBy::Tenant(opened.id)),
        None => (&state.providers, NamedBy::Operator),
    };
    let asking = async {
        let removal = state.meetings.remove(server, (session.provider, &session.room), &person).await;
        removal.map_err(|error| not_removed(&session, &error).into())
    };
    let (removal, mut tx) = idempotency::without_transaction(&state, &caller, tx, asking).await?;
    if removal == Removal::NobodyThere {
        return Err(conflict("meeting-empty", "Nobody is there", "Nobody is in the meeting at the moment.").into());
    }
    // Lines of the log are written by the service itself.
    tx.see(None).await?;
    audit_log::write_removal(&mut *tx, session.tenant_id, id, &person).await?;
    tx.commit().await?;
    Ok(Json(RemovalBody { person_id: person }))
}

fn not_removed(session: &Session, error: &MeetingError) -> Problem {
    tracing::warn!(
        request.id = current_request_id(),
        session.id = %session.id,
        provider = session.provider.as_str(),
        provider_config.id = session.provider_config_id.map(tracing::field::display),
        error = %error,
        "nobody could be removed from a meeting"
    );
    match error {
        MeetingError::Unsupported(_) => {
            let detail =
                "The service cannot remove people from this session's meeting server; moderators can, in the meeting.";
            conflict("provider-unsupported", "Not possible there", detail)
        }
        other => no_answer(other),
    }
}
