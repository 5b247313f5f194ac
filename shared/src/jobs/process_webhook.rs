use serde::{Deserialize, Serialize};

use crate::domain::ids::WebhookEventId;

use super::{Backoff, Job, Queue};

/// Apply one stored webhook to session, connections and recordings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessWebhook {
    pub webhook_event_id: WebhookEventId,
}

impl Job for ProcessWebhook {
    const NAME: &'static str = "process-webhook";
    const QUEUE: Queue = Queue::Live;
    const PRIORITY: i16 = 0;
    // A class is going on: the first tries follow soon. With these attempts they still span fourteen hours.
    const BACKOFF: Backoff = Backoff::starting_at(std::time::Duration::from_secs(1));
    const MAX_ATTEMPTS: i32 = 12;

    fn unique_key(&self) -> Option<String> {
        Some(self.webhook_event_id.to_string())
    }
}
