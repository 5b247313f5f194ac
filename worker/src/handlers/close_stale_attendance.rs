//! Closes heartbeat connections that fell silent, at their last sighting; a lost "left" costs no more than that.

use shared::{db::participants, jobs::CloseStaleAttendance};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

impl Handler for CloseStaleAttendance {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        let closed = participants::close_stale(&mut *tx).await?;
        if closed == 0 {
            return Ok(Done::nothing());
        }
        metrics::counter!("attendance_connections_closed_total").increment(closed);
        tracing::info!(connections = closed, "closed silent connections at their last sighting");
        Ok(Done::with(tx))
    }
}
