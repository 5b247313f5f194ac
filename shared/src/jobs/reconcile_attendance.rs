use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::ids::SessionId;

use super::{Job, Queue};

/// Read the provider's own account of a session that has ended: who was there, and what was recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReconcileAttendance {
    pub session_id: SessionId,
}

impl ReconcileAttendance {
    /// After the end of a session; Zoom's report is seldom there sooner.
    pub const DELAY: Duration = Duration::from_secs(15 * 60);
}

impl Job for ReconcileAttendance {
    const NAME: &'static str = "reconcile-attendance";
    const QUEUE: Queue = Queue::Live;
    /// A long class has many pages.
    const TIMEOUT: Duration = Duration::from_secs(300);
    const PRIORITY: i16 = 2;

    fn unique_key(&self) -> Option<String> {
        Some(self.session_id.to_string())
    }
}
