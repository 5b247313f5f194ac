//! Meetings that have to be made before anybody can join.

use std::time::Duration;

use axum::http::{StatusCode, header};
use shared::{
    db::{
        meetings::{self, Claim, StoredMeeting},
        sessions,
    },
    domain::{
        ids::{MeetingId, SessionId},
        session::Session,
    },
    meetings::{LIMIT, MeetingError, NamedBy, NewMeeting},
    providers::{Meeting, Providers},
    queue::Tx,
    secrets::Secret,
};
use tokio::time::{Instant, sleep};

use super::{
    Connection, has_place,
    links::{LinkError, link},
    may_enter, no_person, presence,
    way_in::configured,
};
use crate::{
    auth::Caller,
    error::{Problem, Result, not_found},
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

/// What somebody joins.
pub struct Made {
    pub meeting: Meeting,
    /// This person's own link, where the provider makes one for each.
    pub link: Option<Secret>,
}

/// Makes the session's meeting, or finds it, for somebody who may join; and their own link into it. While the provider is asked nothing is held, not
/// even a connection to the database. So the caller judges again afterwards, in the transaction that is handed back.
///
/// What is made for a session that ends meanwhile has no link that leads to it, and its server removes it.
pub async fn make(state: &AppState, mut tx: Tx, caller: &Caller, id: SessionId) -> Result<(Made, Tx)> {
    let Seen { session, part, .. } = permissions::see_on(&mut tx, caller, id, Right::View).await?;
    let part = part.ok_or_else(no_person)?;
    may_enter(&session, part, state.clock.now(), session.opens_at(caller.tenant.join_opens_before_s))?;
    has_place(&mut tx, &session, part, &presence(caller, id, Connection::default())).await?;
    let configured = configured(state, &mut tx, &session).await?;

    let server = match &configured {
        Some(opened) => (&opened.providers, NamedBy::Tenant(opened.id)),
        None => (&state.providers, NamedBy::Operator),
    };
    let making = async {
        let deadline = Instant::now() + LIMIT;
        let (id, meeting) = find_or_make(state, caller, (&session, server), deadline).await?;
        let Some(opened) = &configured else { return Ok(Made { meeting, link: None }) };
        match link(state, caller, (&session, part, opened), (id, &meeting), deadline).await {
            // Somebody has deleted it there.
            Err(LinkError::Provider(MeetingError::Gone)) => {
                forget(state, caller, &session, id).await?;
                let (id, meeting) = find_or_make(state, caller, (&session, server), deadline).await?;
                let link = link(state, caller, (&session, part, opened), (id, &meeting), deadline).await;
                Ok(Made { link: link.map_err(|error| error.told(&session))?, meeting })
            }
            link => Ok(Made { link: link.map_err(|error| error.told(&session))?, meeting }),
        }
    };
    idempotency::without_transaction(state, caller, tx, making).await
}

/// The session's meeting, and the row that has it.
async fn find_or_make(
    state: &AppState,
    caller: &Caller,
    (session, server): (&Session, (&Providers, NamedBy)),
    deadline: Instant,
) -> Result<(MeetingId, Meeting)> {
    let (claimed, tried_before) = match claim(state, caller, session, deadline).await? {
        Claimed::ToMake { meeting, tried_before } => (meeting, tried_before),
        Claimed::Known(id, meeting) => return Ok((id, meeting)),
    };
    let (session, host) = &anew(state, caller, (session, claimed.id), server.0).await?;
    let new = NewMeeting { server: host.as_deref(), ..NewMeeting::of(session, tried_before) };
    match state.meetings.make(server, &new, deadline).await {
        Ok(meeting) => {
            keep(state, caller, &claimed, (&session.room, &meeting)).await?;
            Ok((claimed.id, meeting))
        }
        Err(error) => {
            release(state, caller, &claimed).await?;
            Err(not_made(session, &error).into())
        }
    }
}

/// The session as it is after the claim, where the meeting will not be asked for again: what is changed from here on is told
/// by a job, which waits until the meeting is there. And which of several hosts is to have it.
async fn anew(
    state: &AppState,
    caller: &Caller,
    (session, claimed): (&Session, MeetingId),
    providers: &Providers,
) -> Result<(Session, Option<String>)> {
    if !session.provider.makes_meetings_once() {
        return Ok((session.clone(), None));
    }
    let hosts = providers.zoom().map(|zoom| zoom.user_ids.clone()).unwrap_or_default();
    let mut tx = state.begin_alone(caller, Some(session.tenant_id)).await?;
    let found = sessions::find(&mut *tx, session.id).await?.ok_or_else(|| not_found("session"))?;
    let host = meetings::share_out(&mut tx, claimed, &found, &hosts).await?;
    tx.commit().await?;
    Ok((found, host))
}

enum Claimed {
    /// To be made, or to be found again: it may be over meanwhile.
    ToMake { meeting: StoredMeeting, tried_before: bool },
    /// Somebody else has just made it; or it was made once and for all.
    Known(MeetingId, Meeting),
}

/// The row of the session's meeting, for whoever may make it. Waits for another who does.
async fn claim(state: &AppState, caller: &Caller, session: &Session, deadline: Instant) -> Result<Claimed> {
    let mut waited = false;
    loop {
        let mut tx = state.begin_alone(caller, Some(session.tenant_id)).await?;
        let claim = meetings::claim(&mut tx, session, LEASE).await?;
        tx.commit().await?;
        match claim {
            Claim::Made(StoredMeeting { id, details: Some(details), .. })
                if waited || session.provider.makes_meetings_once() =>
            {
                return Ok(Claimed::Known(id, details.0));
            }
            Claim::Made(meeting) => return Ok(Claimed::ToMake { meeting, tried_before: false }),
            Claim::Mine { meeting, tried_before } => return Ok(Claimed::ToMake { meeting, tried_before }),
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
    (room, meeting): (&str, &Meeting),
) -> Result<()> {
    if claimed.details.as_ref().is_some_and(|known| known.0 == *meeting) {
        return Ok(());
    }
    let mut tx = state.begin_alone(caller, Some(claimed.tenant_id)).await?;
    meetings::made(&mut *tx, claimed.id, &meeting.external_id(room), meeting).await?;
    Ok(tx.commit().await?)
}

/// Another one takes its place; what is stored of it stays.
async fn forget(state: &AppState, caller: &Caller, session: &Session, id: MeetingId) -> Result<()> {
    tracing::warn!(session.id = %session.id, "the meeting was deleted at the provider: another one is made");
    let mut tx = state.begin_alone(caller, Some(session.tenant_id)).await?;
    meetings::end(&mut *tx, id).await?;
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
pub fn not_made(session: &Session, error: &MeetingError) -> Problem {
    tracing::warn!(
        request.id = current_request_id(),
        session.id = %session.id,
        provider = session.provider.as_str(),
        provider_config.id = session.provider_config_id.map(tracing::field::display),
        error = %error,
        "no meeting could be made for a join"
    );
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
        MeetingError::Busy(wait) => {
            let detail = "The meeting provider takes no more calls for a while. Nothing was changed; try again then.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "provider-busy", "The meeting provider is busy", detail)
                .header(header::RETRY_AFTER, wait.as_secs().max(1).to_string())
        }
        MeetingError::Refused(_) | MeetingError::Gone => {
            let detail = "The meeting server does not take what it is asked. An administrator has to see to the provider \
                          configuration; its test tells more.";
            Problem::new(StatusCode::BAD_GATEWAY, "provider-refused", "The meeting server refuses", detail)
        }
    }
}
