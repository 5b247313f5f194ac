//! Computes the attendance report of a session that has ended, and expects its recording. Runs again when a late event
//! corrects the report.

use chrono::Duration;
use shared::{
    db::{attendance, meetings, recordings, sessions},
    jobs::{FinalizeSession, ReconcileAttendance},
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

impl Handler for FinalizeSession {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        // Before anything is read: an event that comes now waits, and then enqueues this job again.
        if attendance::lock_report(&mut tx, self.session_id).await?.is_none() {
            return Ok(Done::nothing());
        }
        let Some(session) = sessions::find(&mut *tx, self.session_id).await? else { return Ok(Done::nothing()) };
        let rows = attendance::compute(&mut tx, &session, state.clock.now()).await?;
        attendance::replace(&mut tx, &session, &rows).await?;
        if session.recording_enabled {
            let ended_at = session.ended_at.unwrap_or_else(|| state.clock.now());
            recordings::expect(&mut *tx, &session, ended_at + Duration::hours(recordings::DEADLINE_HOURS)).await?;
        }
        if !meetings::list_unreported(&mut *tx, session.id).await?.is_empty() && session.provider.reports() {
            tx.enqueue_in(&ReconcileAttendance { session_id: session.id }, ReconcileAttendance::DELAY).await?;
        }
        attendance::mark_finalized(&mut *tx, session.id).await?;
        tracing::info!(session.id = %session.id, people = rows.len(), "attendance report written");
        Ok(Done::with(tx))
    }
}
