//! The mails about a session's planning and its recording; what they have in common is in `mail::deliver`.

use shared::jobs::{SendCancellation, SendInvitation, SendRecordingMissing, SendRecordingReady, SendUpdate};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    mail::{self, MailKind},
    state::State,
};

impl Handler for SendInvitation {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        mail::deliver(state, ctx, self.reminder_id, MailKind::Invitation).await
    }
}

impl Handler for SendUpdate {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        mail::deliver(state, ctx, self.reminder_id, MailKind::Update).await
    }
}

impl Handler for SendCancellation {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        mail::deliver(state, ctx, self.reminder_id, MailKind::Cancellation).await
    }
}

impl Handler for SendRecordingReady {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        mail::deliver(state, ctx, self.reminder_id, MailKind::RecordingReady).await
    }
}

impl Handler for SendRecordingMissing {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        mail::deliver(state, ctx, self.reminder_id, MailKind::RecordingMissing).await
    }
}
