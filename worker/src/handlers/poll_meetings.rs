//! Queues a question about each meeting that goes on.

use shared::{
    db::meetings,
    jobs::{PollMeeting, PollMeetings},
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// Meetings per run; those asked longest ago come first.
const AT_ONCE: i64 = 5_000;

impl Handler for PollMeetings {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        let open = meetings::list_open(&mut *tx, AT_ONCE).await?;
        let polls: Vec<_> = open.into_iter().map(|(tenant, session_id)| (tenant, PollMeeting { session_id })).collect();
        tx.enqueue_for_tenants(&polls).await?;
        Ok(Done::with(tx))
    }
}
