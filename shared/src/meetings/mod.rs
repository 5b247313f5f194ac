//! Makes and ends meetings at servers where they do not come and go with the people in them
//! ([`ProviderKind::makes_meetings`](crate::domain::provider::ProviderKind::makes_meetings)): a BigBlueButton, Zoom. At a
//! Jitsi, where they do, it ends them and removes people.
//!
//! Whatever the server does, an answer comes within [`LIMIT`]. No call holds anything in the database; all of them may be
//! repeated, and made by two processes at once: the server knows a meeting by its room. At Zoom alone a repeat makes another
//! meeting ([`ProviderKind::makes_meetings_once`](crate::domain::provider::ProviderKind::makes_meetings_once)).

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use zoom::ZoomApi;

use crate::{
    domain::{
        ids::{ProviderConfigId, SessionId},
        provider::ProviderKind,
        session::Session,
    },
    outbound::{Breakers, Outbound, Rule},
    providers::{
        Meeting, ProviderError, Providers,
        bbb::{Info, Playback, Server},
    },
};

mod bbb;
mod jitsi;
pub mod zoom;

/// For making a meeting or ending one, with all the calls that it takes.
pub const LIMIT: Duration = Duration::from_secs(4);
/// For a connection: a server that is not there is told sooner than one that is slow.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Who has named a server, and so may have been wrong or mischievous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The environment of this process.
    Operator,
    /// A provider configuration.
    Tenant(ProviderConfigId),
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewMeeting<'a> {
    pub kind: ProviderKind,
    /// The session's room.
    pub room: &'a str,
    pub title: &'a str,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    /// IANA name.
    pub timezone: &'a str,
    /// Whether moderators may record.
    pub recording: bool,
    pub session: SessionId,
    /// With what the addresses begin at which the provider tells what became of the meeting; `None` where the service does
    /// not know its own address.
    pub callbacks: Option<&'a str>,
    pub place: Place<'a>,
    /// Somebody may have made it before, and died before they could say so.
    pub tried_before: bool,
}

/// At which of several servers, or under which of several hosts at Zoom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// Wherever there is most room.
    Any,
    /// It is, or was, at this one.
    At(&'a str),
    /// At any other: this one is down, or takes no new meetings.
    NotAt(&'a str),
}

impl<'a> NewMeeting<'a> {
    /// The meeting of a session.
    pub fn of(session: &'a Session, tried_before: bool) -> Self {
        Self {
            kind: session.provider,
            room: &session.room,
            title: &session.title,
            starts_at: session.starts_at,
            ends_at: session.ends_at,
            timezone: &session.timezone,
            recording: session.recording_enabled,
            session: session.id,
            callbacks: None,
            place: Place::Any,
            tried_before,
        }
    }
}

/// Why a call came to nothing. Tells nothing of the secret, nor the address that was asked: it is signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeetingError {
    /// It does not answer, or has trouble of its own.
    #[error("{0}")]
    Unavailable(String),
    /// It was not asked: it has not answered several times, and is left alone for this long.
    #[error("it has not answered, and is not asked for {} seconds", .0.as_secs())]
    LeftAlone(Duration),
    /// It answers, and may do it in a moment.
    #[error("{0}")]
    NotNow(String),
    /// Its server takes no new meetings, or is not configured any more: another one may.
    #[error("{0}")]
    Elsewhere(String),
    /// It will not work until somebody changes something.
    #[error("{0}")]
    Refused(String),
    /// It has had too many calls, and wants to be left alone for so long.
    #[error("it has had too many calls, and wants to be left alone for {} s", .0.as_secs())]
    Busy(Duration),
    /// What the call was about is not there, or not any more.
    #[error("there is no such thing there")]
    Gone,
    /// It cannot be done there, or not as it is configured.
    #[error("{0}")]
    Unsupported(String),
}

/// How far an end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is no such meeting.
    Over,
    /// The server was told, and is about to.
    Told,
}

/// What became of somebody who is to leave a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// They are out, if they were in, and do not come back before the room is gone.
    Removed,
    /// Nobody is in the meeting.
    NobodyThere,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meetings {
    operators: Outbound,
    tenants: Outbound,
    breakers: Breakers,
    zoom: ZoomApi,
}

impl Meetings {
    /// `tenants` says what is reached of what tenants name; the operator knows their own network.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tenants: Rule, zoom: ZoomApi) -> reqwest::Result<Self> {
        let operators = Rule { allow_private: true, setting: "BBB_SERVER_URL" };
        Ok(Self {
            operators: Outbound::new(operators, CONNECT_LIMIT, LIMIT)?,
            tenants: Outbound::new(tenants, CONNECT_LIMIT, LIMIT)?,
            breakers: Breakers::default(),
            zoom,
        })
    }

    /// Zoom's API, for what it alone can do. Its calls have limits of their own.
    pub fn zoom(&self) -> &ZoomApi {
        &self.zoom
    }

    /// Makes the meeting of a room, or finds the one that is there; by the deadline, which is no further than [`LIMIT`].
    pub async fn make(
        &self,
        (providers, by): (&Providers, NamedBy),
        new: &NewMeeting<'_>,
        deadline: Instant,
    ) -> Result<Meeting, MeetingError> {
        let outbound = self.outbound(by);
        let at = match new.place {
            Place::At(server) if self.can_move(providers, (new.kind, server)) => server,
            _ => "",
        };
        self.guarded((new.kind, by, at), deadline, async {
            match new.kind {
                ProviderKind::Bbb => bbb::make(outbound, providers.bbb()?, new).await.map(Meeting::Bbb),
                ProviderKind::Zoom => self.zoom.make(providers.zoom()?, new).await.map(Meeting::Zoom),
                kind => Err(unsupported(kind, "making meetings")),
            }
        })
        .await
    }

    /// Whether the meeting could be at another server than this one.
    pub fn can_move(&self, providers: &Providers, (kind, from): (ProviderKind, &str)) -> bool {
        kind == ProviderKind::Bbb && providers.bbb().is_ok_and(|bbb| bbb::can_move(bbb, from))
    }

    /// Ends the meeting of a room at this server (or the only one there is), if there is one.
    pub async fn end(
        &self,
        (providers, by): (&Providers, NamedBy),
        (kind, room): (ProviderKind, &str),
        server: &str,
    ) -> Result<End, MeetingError> {
        let outbound = self.outbound(by);
        let at = if self.can_move(providers, (kind, server)) { server } else { "" };
        self.guarded((kind, by, at), Instant::now() + LIMIT, async {
            match kind {
                ProviderKind::Bbb => match providers.bbb()?.server(server) {
                    Some(server) => bbb::end(outbound, server, room).await,
                    // Nobody has the secret any more with which it could be told.
                    None => Ok(End::Over),
                },
                // Whoever knows its number asks Zoom's API at once.
                ProviderKind::Zoom => match self.zoom.find(providers.zoom()?, room).await? {
                    Some(meeting) => self.zoom.end(providers.zoom()?, meeting, false).await,
                    None => Ok(End::Over),
                },
                ProviderKind::Jitsi => jitsi::end(outbound, providers.jitsi_control()?, room).await,
                kind => Err(unsupported(kind, "ending meetings")),
            }
        })
        .await
    }

    /// Removes somebody, by the id that their link carried, from the meeting of a room.
    pub async fn remove(
        &self,
        (providers, by): (&Providers, NamedBy),
        (kind, room): (ProviderKind, &str),
        person_id: &str,
    ) -> Result<Removal, MeetingError> {
        let outbound = self.outbound(by);
        self.guarded((kind, by, ""), Instant::now() + LIMIT, async {
            match kind {
                ProviderKind::Jitsi => jitsi::remove(outbound, providers.jitsi_control()?, room, person_id).await,
                kind => Err(unsupported(kind, "removing people")),
            }
        })
        .await
    }

    /// Who is in the meeting of a room at a server; `None` when there is no such meeting, or not any more.
    pub async fn info(&self, server: &Server, by: NamedBy, room: &str) -> Result<Option<Info>, MeetingError> {
        in_time(bbb::info(self.outbound(by), server, room)).await
    }

    /// What was recorded in a room at a server.
    pub async fn recordings(&self, server: &Server, by: NamedBy, room: &str) -> Result<Vec<Playback>, MeetingError> {
        in_time(bbb::recordings(self.outbound(by), server, room)).await
    }

    /// Deletes a recording in all its forms at a server, if it is there.
    pub async fn delete_recording(&self, server: &Server, by: NamedBy, record: &str) -> Result<(), MeetingError> {
        in_time(bbb::delete_recording(self.outbound(by), server, record)).await
    }

    /// Shows a recording in all its forms at a server, or hides it, if it is there.
    pub async fn publish_recording(
        &self,
        server: &Server,
        by: NamedBy,
        record: &str,
        publish: bool,
    ) -> Result<(), MeetingError> {
        in_time(bbb::publish_recording(self.outbound(by), server, record, publish)).await
    }

    /// Sees to it that a server sends webhooks to this address. Whether that was news to it.
    pub async fn register_webhooks(
        &self,
        server: &Server,
        by: NamedBy,
        callback_url: &str,
    ) -> Result<bool, MeetingError> {
        in_time(bbb::register_webhooks(self.outbound(by), server, callback_url)).await
    }

    fn outbound(&self, by: NamedBy) -> &Outbound {
        match by {
            NamedBy::Operator => &self.operators,
            NamedBy::Tenant(_) => &self.tenants,
        }
    }

    /// Within the time, and not at all while the server is left alone. `at` is one of several; empty for all of them.
    pub async fn guarded<T>(
        &self,
        (kind, by, at): (ProviderKind, NamedBy, &str),
        deadline: Instant,
        asking: impl Future<Output = Result<T, MeetingError>>,
    ) -> Result<T, MeetingError> {
        let server = match by {
            NamedBy::Operator => format!("{} of the environment", kind.as_str()),
            NamedBy::Tenant(id) if at.is_empty() => id.to_string(),
            NamedBy::Tenant(id) => format!("{at} of {id}"),
        };
        let pass = self.breakers.admit(&server, LIMIT).map_err(MeetingError::LeftAlone)?;
        let late = || MeetingError::Unavailable("it does not answer in time".to_owned());
        let result = tokio::time::timeout_at(deadline, asking).await.unwrap_or_else(|_| Err(late()));
        match &result {
            Err(MeetingError::Unavailable(_)) => pass.failed(),
            _ => pass.answered(),
        }
        result
    }
}

/// Of what nobody waits for: it is asked whether or not it answered before, because that is how it is known.
async fn in_time<T>(asking: impl Future<Output = Result<T, MeetingError>>) -> Result<T, MeetingError> {
    let late = || MeetingError::Unavailable("it does not answer in time".to_owned());
    tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| Err(late()))
}

fn unsupported(provider: ProviderKind, what: &'static str) -> MeetingError {
    ProviderError::Unsupported { provider, what }.into()
}

impl From<ProviderError> for MeetingError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unsupported { .. } => Self::Unsupported(error.to_string()),
            ProviderError::NotConfigured(_) | ProviderError::Rejected(_) => Self::Refused(error.to_string()),
        }
    }
}
