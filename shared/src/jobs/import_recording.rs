use serde::{Deserialize, Serialize};

use crate::domain::ids::RecordingId;

use super::{Job, Queue};

/// Bring one recording from the provider into the object store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImportRecording {
    pub recording_id: RecordingId,
}

impl Job for ImportRecording {
    const NAME: &'static str = "import-recording";
    const QUEUE: Queue = Queue::Live;
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(6 * 3600);
    const PRIORITY: i16 = 2;
    // Of the sixteen slots of its queue: webhooks and reports never wait for recordings.
    const MAX_RUNNING: Option<usize> = Some(4);

    fn unique_key(&self) -> Option<String> {
        Some(self.recording_id.to_string())
    }
}
