use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// Delete what is past its retention: finished jobs, ticks, webhook events, recordings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cleanup {}

impl Job for Cleanup {
    const NAME: &'static str = "cleanup";
    const QUEUE: Queue = Queue::Default;
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(600);
    const PRIORITY: i16 = 3;

    fn unique_key(&self) -> Option<String> {
        Some(String::new())
    }
}
