use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Job, Queue};

/// Try out what tenants have configured, and write down whether it works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderHealth {}

impl Job for ProviderHealth {
    const NAME: &'static str = "provider-health";
    const QUEUE: Queue = Queue::Default;
    // The next minute brings another one.
    const MAX_ATTEMPTS: i32 = 2;
    const TIMEOUT: Duration = Duration::from_secs(90);

    fn unique_key(&self) -> Option<String> {
        Some(String::new())
    }
}
