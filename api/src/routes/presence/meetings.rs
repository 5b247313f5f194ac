//! Meetings that have to be made before anybody can join.

use std::time::Duration;

use axum::http::{StatusCode, header};
use shared::{
    db::{
        meetings::{self, Claim, StoredMeeting},
        sessions, sightings,
    },
    domain::{
        ids::{MeetingId, SessionId},
        session::Session,
    },
    jobs::EndMeeting,
    meetings::{LIMIT, MeetingError, NamedBy, NewMeeting, Place},
    providers::{Meeting, Providers, bbb::webhook::connections_of},
    queue::Tx,
    secrets::Secret,
};
use tokio::time::{Instant, sleep};

use super::{Connection, has_place, links::link, may_enter, no_person, presence, way_in::configured};
use crate::{
    auth::Caller,
    error::{Error, Problem, Result, not_found},
    idempotency,
    middleware::current_request_id,
    permissions::{self, Right, Seen},
    routes::webhooks::callbacks,
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

/// Makes the session's meeting, or finds it, for somebody who may join; and their own link into it. While the provider is
/// asked nothing is held, not even a connection to the database. So the caller judges again afterwards, in the transaction
/// that is handed back.
///
/// What is made for a session that ends meanwhile has no link that leads to it, and its server removes it.
pub async fn make(state: &AppState, mut tx: Tx, caller: &Caller, id: SessionId) -> Result<(Made, Tx)> {
    let Seen { session, part, .. } = permissions::see_on(&mut tx, caller, id, Right::View).await?;
    let part = part.ok_or_else(no_person)?;
    may_enter(&session, part, state.clock.now(), session.opens_at(caller.tenant.join_opens_before_s))?;
    has_place(&mut tx, &session, part, &presence(caller, id, Connection::default())).await?;
    let configured = configured(state, &mut tx, &session).await?;

    let providers = match &configured {
        Some(opened) => (&opened.providers, NamedBy::Tenant(opened.id)),
        None => (&state.providers, NamedBy::Operator),
    };
    let public_url = state.config.public_url.trim_end_matches('/');
    let callbacks = (!public_url.is_empty()).then(|| format!("{public_url}{}", callbacks::base(session.id)));
    let making = async {
        let deadline = Instant::now() + LIMIT;
        let making = Making { state, caller, providers, session: &session, callbacks: callbacks.as_deref(), deadline };
        let (id, meeting) = making.run().await?;
        let Some(opened) = &configured else { return Ok(Made { meeting, link: None }) };
        match link(state, caller, (&session, part, opened), (id, &meeting), deadline).await {
            // Somebody has deleted it there.
            Err(NotMade::Provider(MeetingError::Gone)) => {
                making.forget(id).await?;
                let (id, meeting) = making.run().await?;
                let link = link(state, caller, (&session, part, opened), (id, &meeting), deadline).await?;
                Ok(Made { meeting, link })
            }
            link => Ok(Made { link: link?, meeting }),
        }
    };
    let making = async { making.await.map_err(|error: NotMade| error.told(&session)) };
    idempotency::without_transaction(state, caller, tx, making).await
}

/// Why there is no meeting, or no link into it.
pub enum NotMade {
    Provider(MeetingError),
    Ours(Error),
}

impl From<MeetingError> for NotMade {
    fn from(error: MeetingError) -> Self {
        Self::Provider(error)
    }
}

impl From<sqlx::Error> for NotMade {
    fn from(error: sqlx::Error) -> Self {
        Self::Ours(error.into())
    }
}

impl NotMade {
    /// As the caller hears of it.
    fn told(self, session: &Session) -> Error {
        match self {
            Self::Provider(error) => not_made(session, &error).into(),
            Self::Ours(error) => error,
        }
    }
}

/// The making of one session's meeting. Of those who join at once one makes it, or has it moved to another server; the others
/// wait for that.
struct Making<'a> {
    state: &'a AppState,
    caller: &'a Caller,
    providers: (&'a Providers, NamedBy),
    session: &'a Session,
    callbacks: Option<&'a str>,
    deadline: Instant,
}

impl Making<'_> {
    /// The meeting, and the row that has it.
    async fn run(&self) -> Result<(MeetingId, Meeting), NotMade> {
        let mut waited = false;
        let mut moving = None;
        loop {
            let claim = {
                let mut tx = self.begin().await?;
                let claim = meetings::claim(&mut tx, self.session, LEASE).await?;
                tx.commit().await?;
                claim
            };
            match claim {
                Claim::Mine { meeting, tried_before } => {
                    let made = self.make(&meeting, tried_before).await?;
                    return Ok((meeting.id, made));
                }
                Claim::Anothers => waited = true,
                Claim::Made(known) if moving == Some(known.id) => {}
                Claim::Made(StoredMeeting { id, details: Some(details), .. })
                    if waited || self.session.provider.makes_meetings_once() =>
                {
                    return Ok((id, details.0));
                }
                Claim::Made(known) => match self.find(&known).await? {
                    Some(found) => return Ok(found),
                    // Somebody else has it moved.
                    None => (waited, moving) = (true, Some(known.id)),
                },
            }
            if Instant::now() >= self.deadline {
                return Err(NotMade::Provider(MeetingError::NotNow("somebody else is making it".to_owned())));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// For the first time, or after somebody died of it.
    async fn make(&self, claimed: &StoredMeeting, tried_before: bool) -> Result<Meeting, NotMade> {
        let asked = if self.session.provider.makes_meetings_once() {
            let (session, host) = self.anew(claimed.id).await?;
            let place = host.as_deref().map_or(Place::Any, Place::At);
            let new = NewMeeting { place, ..NewMeeting::of(&session, tried_before) };
            self.state.meetings.make(self.providers, &new, self.deadline).await
        } else {
            self.ask(Place::Any).await
        };
        match asked {
            Ok(meeting) => {
                let mut tx = self.begin().await?;
                meetings::made(&mut *tx, claimed.id, &meeting).await?;
                tx.commit().await?;
                Ok(meeting)
            }
            Err(error) => {
                let mut tx = self.begin().await?;
                meetings::release(&mut *tx, claimed.id).await?;
                tx.commit().await?;
                Err(NotMade::Provider(error))
            }
        }
    }

    /// The meeting where it is, or another one at the same server where it is over; at another server, if that one is down.
    /// `None` when somebody else is having it moved.
    async fn find(&self, known: &StoredMeeting) -> Result<Option<(MeetingId, Meeting)>, NotMade> {
        let server = known.server.as_deref().unwrap_or_default();
        let error = match self.ask(Place::At(server)).await {
            Ok(meeting) => {
                let is_known = known.external_id.as_ref() == Some(&meeting.external_id());
                let id = if is_known { known.id } else { self.replace(known, &meeting).await? };
                return Ok(Some((id, meeting)));
            }
            Err(error) => error,
        };
        let is_elsewhere = match error {
            MeetingError::Elsewhere(_) => true,
            MeetingError::Unavailable(_) | MeetingError::LeftAlone(_) => {
                self.state.meetings.can_move(self.providers.0, (self.session.provider, server))
            }
            MeetingError::NotNow(_)
            | MeetingError::Refused(_)
            | MeetingError::Busy(_)
            | MeetingError::Gone
            | MeetingError::Unsupported(_) => false,
        };
        if !is_elsewhere {
            return Err(NotMade::Provider(error));
        }
        let mut tx = self.begin().await?;
        let mine = meetings::claim_move(&mut *tx, known.id, LEASE).await?;
        tx.commit().await?;
        if !mine {
            return Ok(None);
        }
        tracing::warn!(
            request.id = current_request_id(), session.id = %self.session.id, server, error = %error,
            "the meeting's server is given up for another one"
        );
        match self.ask(Place::NotAt(server)).await {
            Ok(meeting) => {
                let id = self.replace(known, &meeting).await?;
                Ok(Some((id, meeting)))
            }
            Err(error) => {
                let mut tx = self.begin().await?;
                meetings::release(&mut *tx, known.id).await?;
                tx.commit().await?;
                Err(NotMade::Provider(error))
            }
        }
    }

    async fn ask(&self, place: Place<'_>) -> Result<Meeting, MeetingError> {
        let new = NewMeeting { callbacks: self.callbacks, place, ..NewMeeting::of(self.session, false) };
        self.state.meetings.make(self.providers, &new, self.deadline).await
    }

    /// A meeting of another name than the last join had: whoever was in that one is there no more, whether its server says so
    /// or not. Where it was given up, and goes on after all, it is ended: a class is in one place.
    async fn replace(&self, old: &StoredMeeting, meeting: &Meeting) -> Result<MeetingId, NotMade> {
        let mut tx = self.begin().await?;
        sightings::lock_session(&mut tx, self.session.id, true).await?;
        let id = meetings::replace(&mut tx, old, meeting).await?;
        if let (Some(life), Some(seen_at)) = (&old.external_id, old.seen_at.or(old.made_at)) {
            let whose = (self.session.id, self.session.tenant_id);
            sightings::end_silent_life(&mut tx, whose, &connections_of(life), seen_at).await?;
        }
        if let Some(server) = old.server.clone().filter(|server| meeting.server() != Some(server))
            && let Some(end) = EndMeeting::of(self.session, false)
        {
            tx.enqueue(&EndMeeting { server: Some(server), ..end }).await?;
        }
        tx.commit().await?;
        Ok(id)
    }

    /// The session as it is after the claim, where the meeting will not be asked for again: what is changed from here on is
    /// told by a job, which waits until the meeting is there. And which of several hosts is to have it.
    async fn anew(&self, claimed: MeetingId) -> Result<(Session, Option<String>), NotMade> {
        let hosts = self.providers.0.zoom().map(|zoom| zoom.user_ids.clone()).unwrap_or_default();
        let mut tx = self.begin().await?;
        let found = sessions::find(&mut *tx, self.session.id).await?;
        let found = found.ok_or_else(|| NotMade::Ours(not_found("session").into()))?;
        let host = meetings::share_out(&mut tx, claimed, &found, &hosts).await?;
        tx.commit().await?;
        Ok((found, host))
    }

    /// Another one takes its place; what is stored of it stays.
    async fn forget(&self, id: MeetingId) -> Result<(), NotMade> {
        tracing::warn!(session.id = %self.session.id, "the meeting was deleted at the provider: another one is made");
        let mut tx = self.begin().await?;
        meetings::end(&mut *tx, id).await?;
        Ok(tx.commit().await?)
    }

    async fn begin(&self) -> Result<Tx, NotMade> {
        Ok(self.state.begin_alone(self.caller, Some(self.session.tenant_id)).await?)
    }
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
    no_answer(error)
}

/// What callers are told of a meeting server that did not do as it was asked.
pub fn no_answer(error: &MeetingError) -> Problem {
    match error {
        MeetingError::Unavailable(_)
        | MeetingError::NotNow(_)
        | MeetingError::LeftAlone(_)
        | MeetingError::Elsewhere(_) => {
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
        MeetingError::Refused(_) | MeetingError::Gone | MeetingError::Unsupported(_) => {
            let detail = "The meeting server does not take what it is asked. An administrator has to see to the provider \
                          configuration; its test tells more.";
            Problem::new(StatusCode::BAD_GATEWAY, "provider-refused", "The meeting server refuses", detail)
        }
    }
}
