//! Makes and ends meetings at servers where they do not come and go with the people in them
//! ([`ProviderKind::makes_meetings`](crate::domain::provider::ProviderKind::makes_meetings)): a BigBlueButton. At a Jitsi,
//! where they do, it ends them and removes people.
//!
//! Whatever the server does, an answer comes within [`LIMIT`]. No call holds anything in the database; all of them may be
//! repeated, and made by two processes at once: the server knows a meeting by its room.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    domain::{ids::ProviderConfigId, provider::ProviderKind},
    outbound::{Breakers, Outbound, Rule},
    providers::{Meeting, ProviderError, Providers},
};

mod bbb;
mod jitsi;

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
    /// Whether moderators may record.
    pub recording: bool,
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
    /// It will not work until somebody changes something.
    #[error("{0}")]
    Refused(String),
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
}

impl Meetings {
    /// `tenants` says what is reached of what tenants name; the operator knows their own network.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tenants: Rule) -> reqwest::Result<Self> {
        let operators = Rule { allow_private: true, setting: "BBB_SERVER_URL" };
        Ok(Self {
            operators: Outbound::new(operators, CONNECT_LIMIT, LIMIT)?,
            tenants: Outbound::new(tenants, CONNECT_LIMIT, LIMIT)?,
            breakers: Breakers::default(),
        })
    }

    /// Makes the meeting of a room, or finds the one that is there; by the deadline, which is no further than [`LIMIT`].
    pub async fn make(
        &self,
        (providers, by): (&Providers, NamedBy),
        new: &NewMeeting<'_>,
        deadline: Instant,
    ) -> Result<Meeting, MeetingError> {
        let outbound = self.outbound(by);
        self.guarded((new.kind, by), deadline, async {
            match new.kind {
                ProviderKind::Bbb => bbb::make(outbound, providers.bbb()?, new).await.map(Meeting::Bbb),
                kind => Err(unsupported(kind, "making meetings")),
            }
        })
        .await
    }

    /// Ends the meeting of a room, if there is one.
    pub async fn end(
        &self,
        (providers, by): (&Providers, NamedBy),
        (kind, room): (ProviderKind, &str),
    ) -> Result<End, MeetingError> {
        let outbound = self.outbound(by);
        self.guarded((kind, by), Instant::now() + LIMIT, async {
            match kind {
                ProviderKind::Bbb => bbb::end(outbound, providers.bbb()?, room).await,
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
        self.guarded((kind, by), Instant::now() + LIMIT, async {
            match kind {
                ProviderKind::Jitsi => jitsi::remove(outbound, providers.jitsi_control()?, room, person_id).await,
                kind => Err(unsupported(kind, "removing people")),
            }
        })
        .await
    }

    fn outbound(&self, by: NamedBy) -> &Outbound {
        match by {
            NamedBy::Operator => &self.operators,
            NamedBy::Tenant(_) => &self.tenants,
        }
    }

    /// Within the time, and not at all while the server is left alone.
    async fn guarded<T>(
        &self,
        (kind, by): (ProviderKind, NamedBy),
        deadline: Instant,
        asking: impl Future<Output = Result<T, MeetingError>>,
    ) -> Result<T, MeetingError> {
        let server = match by {
            NamedBy::Operator => format!("{} of the environment", kind.as_str()),
            NamedBy::Tenant(id) => id.to_string(),
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
