use serde::{Deserialize, Serialize};

use super::{Job, Queue};
use crate::domain::ids::SessionId;

/// Ask the provider who is in a session's meeting, in case that its webhooks are lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PollMeeting {
    pub session_id: SessionId,
}

impl Job for PollMeeting {
    const NAME: &'static str = "poll-meeting";
    const QUEUE: Queue = Queue::Live;
    const PRIORITY: i16 = 2;
    // The next one comes in a minute.
    const MAX_ATTEMPTS: i32 = 3;
    // One server that is slow must not keep webhooks waiting.
    const MAX_RUNNING: Option<usize> = Some(4);

    fn unique_key(&self) -> Option<String> {
        Some(self.session_id.to_string())
    }
}
