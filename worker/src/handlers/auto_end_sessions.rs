//! Starts and ends what nobody started or ended: planned sessions whose time has come and whose host is there are `live`,
//! live ones past their time and empty are `ended`, planned ones that never started are `cancelled`. The rules are in `db::sessions::sweep`.

use shared::{
    db::sessions,
    jobs::{AutoEndSessions, FinalizeSession},
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// Sessions per run and kind; what is left over is for the next minute.
const AT_ONCE: i64 = 1_000;

impl Handler for AutoEndSessions {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        // First, so that what is held is not taken for abandoned.
        let started = sessions::start_attended(&mut *tx, AT_ONCE).await?;
        let ended = sessions::end_overdue(&mut *tx, AT_ONCE).await?;
        let cancelled = sessions::cancel_abandoned(&mut *tx, AT_ONCE).await?;
        if started.is_empty() && ended.is_empty() && cancelled.is_empty() {
            return Ok(Done::nothing());
        }
        let reports: Vec<_> = ended.iter().map(|s| (s.tenant_id, FinalizeSession { session_id: s.id })).collect();
        tx.enqueue_for_tenants(&reports).await?;
        let commands = state.providers.jitsi_control().is_ok();
        let meetings = ended.iter().chain(&cancelled).filter_map(|s| Some((s.tenant_id, s.end_meeting(commands)?)));
        tx.enqueue_for_tenants(&meetings.collect::<Vec<_>>()).await?;
        metrics::counter!("sessions_auto_ended_total", "reason" => "overdue").increment(ended.len() as u64);
        metrics::counter!("sessions_auto_ended_total", "reason" => "abandoned").increment(cancelled.len() as u64);
        let (overdue, abandoned) = (ended.len(), cancelled.len());
        tracing::info!(started = started.len(), overdue, abandoned, "swept sessions that nobody started or ended");
        Ok(Done::with(tx))
    }
}
