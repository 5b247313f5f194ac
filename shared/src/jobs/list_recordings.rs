use serde::{Deserialize, Serialize};

use super::{Job, Queue};
use crate::domain::ids::SessionId;

/// Ask the provider what was recorded in a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRecordings {
    pub session_id: SessionId,
}

impl Job for ListRecordings {
    const NAME: &'static str = "list-recordings";
    const QUEUE: Queue = Queue::Live;
    const PRIORITY: i16 = 2;

    fn unique_key(&self) -> Option<String> {
        Some(self.session_id.to_string())
    }
}
