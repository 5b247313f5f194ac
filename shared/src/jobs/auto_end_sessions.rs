use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// End sessions that are past their time and empty, or were never started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AutoEndSessions {}

impl Job for AutoEndSessions {
    const NAME: &'static str = "auto-end-sessions";
    const QUEUE: Queue = Queue::Default;
    const MAX_ATTEMPTS: i32 = 3;

    fn unique_key(&self) -> Option<String> {
        Some(String::new())
    }
}
