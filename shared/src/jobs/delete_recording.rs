use serde::{Deserialize, Serialize};

use super::{Job, Queue};
use crate::domain::ids::RecordingId;

/// Have a recording deleted at its provider that was deleted here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteRecording {
    pub recording_id: RecordingId,
}

impl Job for DeleteRecording {
    const NAME: &'static str = "delete-recording";
    const QUEUE: Queue = Queue::Default;

    fn unique_key(&self) -> Option<String> {
        Some(self.recording_id.to_string())
    }
}
