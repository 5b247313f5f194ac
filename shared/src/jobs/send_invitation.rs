//! The mails that tell of a session's planning, and of its recording. Each sends one row of `reminders`.

use serde::{Deserialize, Serialize};

use super::{Job, MAILS, Queue};
use crate::domain::ids::ReminderId;

macro_rules! mail_job {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub struct $name {
            pub reminder_id: ReminderId,
        }

        impl Job for $name {
            const NAME: &'static str = $kind;
            const QUEUE: Queue = Queue::Notifications;
            const RATE: &'static str = MAILS;

            fn unique_key(&self) -> Option<String> {
                Some(self.reminder_id.to_string())
            }
        }
    };
}

mail_job!(/// Invite one person, with a calendar entry (METHOD:REQUEST).
    SendInvitation, "send-invitation");
mail_job!(/// Tell one person that the session was moved or renamed (METHOD:REQUEST, higher SEQUENCE).
    SendUpdate, "send-update");
mail_job!(/// Tell one person that the session was called off (METHOD:CANCEL).
    SendCancellation, "send-cancellation");
mail_job!(/// Tell one person that the session's recording is there.
    SendRecordingReady, "send-recording-ready");
mail_job!(/// Tell the host that the session's recording never came, or could not be fetched.
    SendRecordingMissing, "send-recording-missing");
