//! Meetings that have to be made before anybody can join.

use std::time::Duration;

use axum::http::{StatusCode, header};
use shared::{
    db::{
        meetings::{self, Claim, StoredMeeting},
        sightings,
    },
    domain::{ids::SessionId, session::Session},
    jobs::EndMeeting,
    meetings::{LIMIT, MeetingError, NamedBy, NewMeeting, Place},
    providers::{Meeting, Providers, bbb::webhook::connections_of},
    queue::Tx,
};
use tokio::time::{Instant, sleep};

use super::{Connection, has_place, may_enter, no_person, presence, way_in::configured};
use crate::{
    auth::Caller,
    error::{Error, Problem, Result},
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

    let providers = match &configured {
        Some(opened) => (&opened.providers, NamedBy::Tenant(opened.id)),
        None => (&state.providers, NamedBy::Operator),
    };
    let public_url = state.config.public_url.trim_end_matches('/');
    let callbacks = (!public_url.is_empty()).then(|| format!("{public_url}{}", callbacks::base(session.id)));
    let making = Making {
        state,
        caller,
        providers,
        session: &session,
        callbacks: callbacks.as_deref(),
        deadline: Instant::now() + LIMIT,
    };
    let making = async { making.run().await.map_err(|error| error.into_answer(&session)) };
    idempotency::without_transaction(state, caller, tx, making).await
}

/// Why there is no meeting.
enum NotMade {
    Provider(MeetingError),
    Ours(Error),
}

impl<E: Into<Error>> From<E> for NotMade {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

impl NotMade {
    fn into_answer(self, session: &Session) -> Error {
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
    async fn run(&self) -> Result<Meeting, NotMade> {
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
                Claim::Mine(claimed) => return self.make(&claimed).await,
                Claim::Anothers => waited = true,
                Claim::Made(known) if moving == Some(known.id) => {}
                Claim::Made(StoredMeeting { details: Some(details), .. }) if waited => return Ok(details.0),
                Claim::Made(known) => match self.find(&known).await? {
                    Some(meeting) => return Ok(meeting),
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
    async fn make(&self, claimed: &StoredMeeting) -> Result<Meeting, NotMade> {
        match self.ask(Place::Any).await {
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
    async fn find(&self, known: &StoredMeeting) -> Result<Option<Meeting>, NotMade> {
        let server = known.server.as_deref().unwrap_or_default();
        let error = match self.ask(Place::At(server)).await {
            Ok(meeting) => {
                if known.external_id.as_deref() != Some(meeting.external_id()) {
                    self.replace(known, &meeting).await?;
                }
                return Ok(Some(meeting));
            }
            Err(error) => error,
        };
        let is_elsewhere = match error {
            MeetingError::Elsewhere(_) => true,
            MeetingError::Unavailable(_) | MeetingError::LeftAlone(_) => {
                self.state.meetings.can_move(self.providers.0, (self.session.provider, server))
            }
            MeetingError::NotNow(_) | MeetingError::Refused(_) => false,
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
                self.replace(known, &meeting).await?;
                Ok(Some(meeting))
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
        let new = NewMeeting {
            kind: self.session.provider,
            room: &self.session.room,
            title: &self.session.title,
            recording: self.session.recording_enabled,
            session: self.session.id,
            callbacks: self.callbacks,
            place,
        };
        self.state.meetings.make(self.providers, &new, self.deadline).await
    }

    /// A meeting of another name than the last join had: whoever was in that one is there no more, whether its server says so
    /// or not. Where it was given up, and goes on after all, it is ended: a class is in one place.
    async fn replace(&self, old: &StoredMeeting, meeting: &Meeting) -> Result<(), NotMade> {
        let mut tx = self.begin().await?;
        sightings::lock_session(&mut tx, self.session.id, true).await?;
        meetings::replace(&mut tx, old, meeting).await?;
        if let (Some(life), Some(seen_at)) = (&old.external_id, old.seen_at.or(old.made_at)) {
            let whose = (self.session.id, self.session.tenant_id);
            sightings::end_silent_life(&mut tx, whose, &connections_of(life), seen_at).await?;
        }
        if let Some(server) = old.server.clone().filter(|server| meeting.server() != Some(server))
            && let Some(end) = EndMeeting::of(self.session)
        {
            tx.enqueue(&EndMeeting { server: Some(server), ..end }).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn begin(&self) -> Result<Tx, NotMade> {
        Ok(self.state.begin_alone(self.caller, Some(self.session.tenant_id)).await?)
    }
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
        MeetingError::Refused(_) => {
            let detail = "The meeting server does not take what it is asked. An administrator has to see to the provider \
                          configuration; its test tells more.";
            Problem::new(StatusCode::BAD_GATEWAY, "provider-refused", "The meeting server refuses", detail)
        }
    }
}
