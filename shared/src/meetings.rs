//! Makes and ends meetings at servers where they do not come and go with the people in them
//! ([`ProviderKind::makes_meetings`](crate::domain::provider::ProviderKind::makes_meetings)): a BigBlueButton.
//!
//! Whatever the server does, an answer comes within [`LIMIT`]. No call holds anything in the database; all of them may be
//! repeated, and made by two processes at once: the server knows a meeting by its room.

use std::time::Duration;

use reqwest::StatusCode;
use url::Url;

use crate::{
    domain::provider::ProviderKind,
    outbound::{Outbound, Rule, causes},
    providers::{
        Meeting, ProviderError, Providers,
        bbb::{Answer, Refusal},
    },
};

/// For one call, from resolving the name to the last byte of the answer.
pub const LIMIT: Duration = Duration::from_secs(4);
/// For a connection: a server that is not there is told sooner than one that is slow.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// So much of an answer is read.
const MOST_BYTES: usize = 64 * 1024;

/// Who has named a server, and so may have been wrong or mischievous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The environment of this process.
    Operator,
    /// A provider configuration.
    Tenant,
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
    /// It may work in a moment.
    #[error("{0}")]
    Unavailable(String),
    /// It will not work until somebody changes something.
    #[error("{0}")]
    Refused(String),
}

/// How far an end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is no such meeting.
    Over,
    /// The server was told, and is about to.
    Told,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meetings {
    operators: Outbound,
    tenants: Outbound,
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
        })
    }

    /// Makes the meeting of a room, or finds the one that is there.
    pub async fn make(
        &self,
        (providers, by): (&Providers, NamedBy),
        new: &NewMeeting<'_>,
    ) -> Result<Meeting, MeetingError> {
        let bbb = bbb(providers, new.kind)?;
        let made = self.call(by, bbb.create(new.room, new.title, new.recording)).await?.meeting();
        made.map_err(MeetingError::from)
    }

    /// Ends the meeting of a room, if there is one.
    pub async fn end(
        &self,
        (providers, by): (&Providers, NamedBy),
        (kind, room): (ProviderKind, &str),
    ) -> Result<End, MeetingError> {
        let bbb = bbb(providers, kind)?;
        let over = |refusal: Refusal| match refusal {
            Refusal::NotFound | Refusal::Ending => Ok(End::Over),
            other => Err(MeetingError::from(other)),
        };
        if let Err(refusal) = self.call(by, bbb.end(room)).await?.success() {
            return over(refusal);
        }
        // What was answered is that the wish was heard.
        match self.call(by, bbb.info(room)).await?.meeting() {
            Ok(_) => Ok(End::Told),
            Err(refusal) => over(refusal),
        }
    }

    async fn call(&self, by: NamedBy, url: Option<Url>) -> Result<Answer, MeetingError> {
        let url = url.ok_or_else(|| MeetingError::Refused("its address cannot be signed".to_owned()))?;
        let outbound = match by {
            NamedBy::Operator => &self.operators,
            NamedBy::Tenant => &self.tenants,
        };
        outbound.check(&url).map_err(|e| MeetingError::Refused(e.to_string()))?;
        match tokio::time::timeout(LIMIT, ask(outbound, url)).await {
            Ok(answer) => answer,
            Err(_) => Err(MeetingError::Unavailable(format!("it does not answer within {} seconds", LIMIT.as_secs()))),
        }
    }
}

async fn ask(outbound: &Outbound, url: Url) -> Result<Answer, MeetingError> {
    let mut response = outbound.client().get(url).send().await.map_err(|error| match &error {
        error if crate::outbound::is_private(error) => MeetingError::Refused(causes(error)),
        error if error.is_timeout() => MeetingError::Unavailable("it is not reached in time".to_owned()),
        error => MeetingError::Unavailable(format!("it is not reached: {}", causes(error))),
    })?;
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(MeetingError::Unavailable(format!("it answers with status {}", status.as_u16())));
    }
    let mut body = Vec::new();
    while body.len() < MOST_BYTES {
        match response.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(_) => return Err(MeetingError::Unavailable("its answer breaks off".to_owned())),
        }
    }
    let answer = Answer::read(&body).filter(|_| status.is_success());
    answer.ok_or_else(|| MeetingError::Refused("what answers there is not the API of a BigBlueButton".to_owned()))
}

fn bbb(providers: &Providers, kind: ProviderKind) -> Result<&crate::providers::bbb::Bbb, MeetingError> {
    let found = match kind {
        ProviderKind::Bbb => providers.bbb(),
        ProviderKind::Jitsi | ProviderKind::Jaas | ProviderKind::Zoom => {
            Err(ProviderError::Unsupported { provider: kind, what: "making meetings" })
        }
    };
    found.map_err(|e| MeetingError::Refused(e.to_string()))
}

impl From<Refusal> for MeetingError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ending | Refusal::Trouble => Self::Unavailable(refusal.to_string()),
            Refusal::Checksum | Refusal::NotFound | Refusal::Other(_) => Self::Refused(refusal.to_string()),
        }
    }
}
