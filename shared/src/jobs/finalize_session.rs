use serde::{Deserialize, Serialize};

use crate::domain::ids::SessionId;

use super::{Job, Queue};

/// After the end: compute the attendance report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FinalizeSession {
    pub session_id: SessionId,
}

impl Job for FinalizeSession {
    const NAME: &'static str = "finalize-session";
    const QUEUE: Queue = Queue::Live;
}
