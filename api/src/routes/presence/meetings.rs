//! Meetings that have to be made before anybody can join.

use std::time::Duration;

use axum::http::{StatusCode, header};
use shared::{
    db::meetings::{self, Claim, StoredMeeting},
    domain::{ids::SessionId, session::Session},
    meetings::{LIMIT, MeetingError, NamedBy, NewMeeting},
    providers::Meeting,
    queue::Tx,
};
use tokio::time::{Instant, sleep};

use super::{Connection, has_place, may_enter, no_person, presence, way_in::configured};
use crate::{
    auth::Caller,
    error::{Problem, Result},
    idempotency,
    middleware::current_request_id,
    permissions::{self, Right, Seen},
    state::AppState,
};

/// Whoever makes a meeting has this long, then somebody else may: the making itself and a slow database around it.
const LEASE: Duration = Duration::from_secs(LIMIT.as_secs() + 2);
/// While another makes it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Seconds after which a server that did not answer may be asked again.
const RETRY_AFTER: u64 = 5;

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
        Some(opened) => (&opened.providers, NamedBy::Tenant(opened.id)),
        None => (&state.providers, NamedBy::Operator),
    };
    let new = NewMeeting {
        kind: session.provider,
        room: &session.room,
        title: &session.title,
        recording: session.recording_enabled,
    };
    let making = async {
        let deadline = Instant::now() + LIMIT;
        let claimed = match claim(state, caller, &session, deadline).await? {
            Claimed::ToMake(claimed) => claimed,
            Claimed::JustMade(meeting) => return Ok(meeting),
        };
        match state.meetings.make(server, &new, deadline).await {
            Ok(meeting) => {
                keep(state, caller, &claimed, (&session.room, &meeting)).await?;
                Ok(meeting)
            }
            Err(error) => {
                release(state, caller, &claimed).await?;
                Err(not_made(&session, &error).into())
            }
        }
    };
    idempotency::without_transaction(state, caller, tx, making).await
}

enum Claimed {
    /// To be made, or to be found again: it may be over meanwhile.
    ToMake(StoredMeeting),
    /// Somebody else has just made it.
    JustMade(Meeting),
}

/// The row of the session's meeting, for whoever may make it. Waits for another who does.
async fn claim(state: &AppState, caller: &Caller, session: &Session, deadline: Instant) -> Result<Claimed> {
    let mut waited = false;
    loop {
        let mut tx = state.begin_alone(caller, Some(session.tenant_id)).await?;
        let claim = meetings::claim(&mut tx, session, LEASE).await?;
        tx.commit().await?;
        match claim {
            Claim::Made(StoredMeeting { details: Some(details), .. }) if waited => {
                return Ok(Claimed::JustMade(details.0));
            }
            Claim::Made(meeting) | Claim::Mine(meeting) => return Ok(Claimed::ToMake(meeting)),
            Claim::Anothers if Instant::now() < deadline => {
                waited = true;
                sleep(LOOK_AGAIN).await;
            }
            Claim::Anothers => {
                return Err(not_made(session, &MeetingError::NotNow("somebody else is making it".to_owned())).into());
            }
        }
    }
}

/// A meeting may be another one than the last join had, or the same.
async fn keep(
    state: &AppState,
    caller: &Caller,
    claimed: &StoredMeeting,
    (external_id, meeting): (&str, &Meeting),
) -> Result<()> {
    if claimed.details.as_ref().is_some_and(|known| known.0 == *meeting) {
        return Ok(());
    }
    let mut tx = state.begin_alone(caller, Some(claimed.tenant_id)).await?;
    meetings::made(&mut *tx, claimed.id, external_id, meeting).await?;
    Ok(tx.commit().await?)
}

async fn release(state: &AppState, caller: &Caller, claimed: &StoredMeeting) -> Result<()> {
    if claimed.made_at.is_some() {
        return Ok(());
    }
    let mut tx = state.begin_alone(caller, Some(claimed.tenant_id)).await?;
    meetings::release(&mut *tx, claimed.id).await?;
    Ok(tx.commit().await?)
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
    no_answer(error)
}

/// What callers are told of a meeting server that did not do as it was asked.
pub fn no_answer(error: &MeetingError) -> Problem {
    match error {
        MeetingError::Unavailable(_) | MeetingError::NotNow(_) | MeetingError::LeftAlone(_) => {
            let retry_after = match error {
                MeetingError::LeftAlone(left) => left.as_secs() + 1,
                _ => RETRY_AFTER,
            };
            let detail = "The meeting server does not answer at the moment. Nothing was changed; try again.";
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "provider-unavailable",
                "The meeting server is not there",
                detail,
            )
            .header(header::RETRY_AFTER, retry_after)
        }
        MeetingError::Refused(_) | MeetingError::Unsupported(_) => {
            let detail = "The meeting server does not take what it is asked. An administrator has to see to the provider \
                          configuration; its test tells more.";
            Problem::new(StatusCode::BAD_GATEWAY, "provider-refused", "The meeting server refuses", detail)
        }
    }
}
