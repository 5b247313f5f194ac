use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// Does nothing; for measuring and for trying out a deployment. `note` only tells jobs apart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Noop {
    #[serde(default)]
    pub note: String,
    /// How long it waits before it is done, in milliseconds: stands for work that waits for others.
    #[serde(default)]
    pub sleep_ms: u64,
}

impl Job for Noop {
    const NAME: &'static str = "noop";
    const QUEUE: Queue = Queue::Default;
}
