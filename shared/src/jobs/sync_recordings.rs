use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// The safety net: imports that were never queued are queued, deadlines are checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncRecordings {}

impl Job for SyncRecordings {
    const NAME: &'static str = "sync-recordings";
    const QUEUE: Queue = Queue::Default;
    const MAX_ATTEMPTS: i32 = 3;

    fn unique_key(&self) -> Option<String> {
        Some(String::new())
    }
}
