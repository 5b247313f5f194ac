use serde::{Deserialize, Serialize};

use super::{Job, Queue};
use crate::domain::ids::RecordingId;

/// Have a recording shown, or not shown, at its provider, as it is here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishRecording {
    pub recording_id: RecordingId,
}

impl Job for PublishRecording {
    const NAME: &'static str = "publish-recording";
    const QUEUE: Queue = Queue::Default;
}
