use serde::{Deserialize, Serialize};

use super::{Job, Queue};
use crate::domain::{ids::ProviderConfigId, provider::ProviderKind, session::Session};

/// Tell the provider that a meeting is over, until it is. Holds all that names a meeting: the session may have been deleted.
#[derive(Debug, Clone, Serialize, Deserialize, sqlx::FromRow)]
pub struct EndMeeting {
    pub provider: ProviderKind,
    /// The tenant's configuration; `None`: the environment's server.
    pub provider_config_id: Option<ProviderConfigId>,
    pub room: String,
    /// At this one of several servers, which was given up for another one; `None`: wherever it is.
    #[serde(default)]
    #[sqlx(default)]
    pub server: Option<String>,
}

impl EndMeeting {
    /// What is to be done once nobody can join the session any more; nothing, where nobody can be told. Whether a Jitsi
    /// takes commands is its configuration's to say.
    pub fn of(session: &Session, jitsi_takes_commands: bool) -> Option<Self> {
        session.provider.ends_meetings(jitsi_takes_commands).then(|| Self {
            provider: session.provider,
            provider_config_id: session.provider_config_id,
            room: session.room.clone(),
            server: None,
        })
    }
}

impl Job for EndMeeting {
    const NAME: &'static str = "end-meeting";
    const QUEUE: Queue = Queue::Live;

    fn unique_key(&self) -> Option<String> {
        Some(match &self.server {
            Some(server) => format!("{}@{server}", self.room),
            None => self.room.clone(),
        })
    }
}
