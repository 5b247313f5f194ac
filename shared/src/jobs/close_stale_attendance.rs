use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// Close connections that have not been seen for the heartbeat timeout, at their last sighting.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloseStaleAttendance {}

impl Job for CloseStaleAttendance {
    const NAME: &'static str = "close-stale-attendance";
    const QUEUE: Queue = Queue::Live;
    const MAX_ATTEMPTS: i32 = 3;

    fn unique_key(&self) -> Option<String> {
        Some(String::new())
    }
}
