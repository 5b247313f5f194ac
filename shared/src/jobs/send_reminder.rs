use serde::{Deserialize, Serialize};

use crate::domain::ids::ReminderId;

use super::{Job, MAILS, Queue};

/// Send the reminder of one row of `reminders`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendReminder {
    pub reminder_id: ReminderId,
}

impl Job for SendReminder {
    const NAME: &'static str = "send-reminder";
    const QUEUE: Queue = Queue::Notifications;
    const PRIORITY: i16 = 0;
    const RATE: &'static str = MAILS;

    fn unique_key(&self) -> Option<String> {
        Some(self.reminder_id.to_string())
    }
}
