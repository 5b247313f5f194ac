//! Meetings that have to be made before anybody can join.

use axum::http::{StatusCode, header};
use shared::{
    domain::{ids::SessionId, session::Session},
    meetings::{MeetingError, NamedBy, NewMeeting},
    providers::Meeting,
    queue::Tx,
};

use super::{Connection, has_place, may_enter, no_person, presence, way_in::configured};
use crate::{
    auth::Caller,
    error::{Problem, Result},
    idempotency,
    middleware::current_request_id,
    permissions::{self, Right, Seen},
    state::AppState,
};

/// Seconds after which a server that did not answer may be asked again.
const RETRY_AFTER: &str = "5";

/// Makes the session's meeting, or finds it, for somebody who may join. While the provider is asked nothing is held, not
/// even a connection to the database. So the caller judges again afterwards, in the transaction that is handed back.
///
/// What is made for a session that ends meanwhile has no link that leads to it, and its server removes it.
pub async fn make(state: &AppState, mut tx: Tx, caller: &Caller, id: SessionId) -> Result<(Meeting, Tx)> {
    let Seen { session, part, .. } = permissions::see_on(&mut tx, caller, id, Right::View).await?;
    let part = part.ok_or_else(no_person)?;
    may_enter(&session, part, state.clock.now(), session.opens_at(caller.tenant.join_opens_before_s))?;
    has_place(&mut tx, &session, part, &presence(caller, id, Connection::default())).await?;
    let configured = configured(state, &mut tx, &session).await?;

    let server = match &configured {
        Some(opened) => (&opened.providers, NamedBy::Tenant),
        None => (&state.providers, NamedBy::Operator),
    };
    let new = NewMeeting {
        kind: session.provider,
        room: &session.room,
        title: &session.title,
        recording: session.recording_enabled,
    };
    let making = async { state.meetings.make(server, &new).await.map_err(|error| not_made(&session, &error).into()) };
    idempotency::without_transaction(state, caller, tx, making).await
}

/// What happened is told to the log alone: people who join have no business with the network behind.
fn not_made(session: &Session, error: &MeetingError) -> Problem {
    tracing::warn!(
        request.id = current_request_id(),
        session.id = %session.id,
        provider = session.provider.as_str(),
        provider_config.id = session.provider_config_id.map(tracing::field::display),
        error = %error,
        "no meeting could be made for a join"
    );
    match error {
        MeetingError::Unavailable(_) => {
            let detail = "The meeting server does not answer at the moment. Nothing was changed; try again.";
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "provider-unavailable",
                "The meeting server is not there",
                detail,
            )
            .header(header::RETRY_AFTER, RETRY_AFTER)
        }
        MeetingError::Refused(_) => {
            let detail = "The meeting server does not take what it is asked. An administrator has to see to the provider \
                          configuration; its test tells more.";
            Problem::new(StatusCode::BAD_GATEWAY, "provider-refused", "The meeting server refuses", detail)
        }
    }
}
