use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// Forget the people of sessions that ended longer ago than their tenant keeps personal data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CleanupPersonalData {}

impl Job for CleanupPersonalData {
    const NAME: &'static str = "cleanup-personal-data";
    const QUEUE: Queue = Queue::Default;
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(600);
    const PRIORITY: i16 = 3;

    fn unique_key(&self) -> Option<String> {
        Some(String::new())
    }
}
