use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// Have each meeting asked about that goes on at a provider that can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PollMeetings {}

impl Job for PollMeetings {
    const NAME: &'static str = "poll-meetings";
    const QUEUE: Queue = Queue::Live;
    const MAX_ATTEMPTS: i32 = 3;

    fn unique_key(&self) -> Option<String> {
        Some(String::new())
    }
}
