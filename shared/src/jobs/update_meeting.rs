use serde::{Deserialize, Serialize};

use crate::domain::{ids::SessionId, session::Session};

use super::{Job, Queue};

/// Tell the provider that a session was moved or renamed, where its meeting was made beforehand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateMeeting {
    pub session_id: SessionId,
    /// The session's, when it was changed: a change while the job for an earlier one runs has a job of its own.
    pub version: i64,
}

impl UpdateMeeting {
    /// What is to be done after a change; nothing, where the meeting does not know what was changed.
    pub fn of(before: &Session, after: &Session) -> Option<Self> {
        let told = |s: &Session| (s.title.clone(), s.starts_at, s.ends_at, s.timezone.clone(), s.recording_enabled);
        let is_told = after.provider.makes_meetings_once() && told(before) != told(after);
        is_told.then_some(Self { session_id: after.id, version: after.version })
    }
}

impl Job for UpdateMeeting {
    const NAME: &'static str = "update-meeting";
    const QUEUE: Queue = Queue::Live;

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}:{}", self.session_id, self.version))
    }
}
