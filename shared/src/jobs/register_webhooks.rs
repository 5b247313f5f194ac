use serde::{Deserialize, Serialize};

use super::{Job, Queue};
use crate::domain::ids::ProviderConfigId;

/// See to it that servers send us webhooks: those of one configuration, or, without one, those of the environment; that one
/// has the others queued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisterWebhooks {
    #[serde(default)]
    pub provider_config_id: Option<ProviderConfigId>,
}

impl Job for RegisterWebhooks {
    const NAME: &'static str = "register-webhooks";
    const QUEUE: Queue = Queue::Default;
    const MAX_ATTEMPTS: i32 = 3;

    fn unique_key(&self) -> Option<String> {
        Some(self.provider_config_id.map_or_else(String::new, |id| id.to_string()))
    }
}
