//! Reminds one person that a session starts soon; never after its start. See `mail::deliver`.

use shared::jobs::SendReminder;

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    mail::{self, MailKind},
    state::State,
};

impl Handler for SendReminder {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        mail::deliver(state, ctx, self.reminder_id, MailKind::Reminder).await
    }
}
