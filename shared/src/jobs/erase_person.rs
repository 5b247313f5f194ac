use serde::{Deserialize, Serialize};

use super::{Job, Queue};
use crate::domain::ids::ErasureId;

/// Erase a person. Whom, is in the row alone: this payload stays in the ledger for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErasePerson {
    pub erasure_id: ErasureId,
}

impl Job for ErasePerson {
    const NAME: &'static str = "erase-person";
    const QUEUE: Queue = Queue::Default;
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1800);
    const PRIORITY: i16 = 2;

    fn unique_key(&self) -> Option<String> {
        Some(self.erasure_id.to_string())
    }
}
