//! Deletes what is past its retention, in steps that are short for the database: finished jobs, ticks, webhooks,
//! kept answers, recordings. Each step is a commit of its own; a run that is cut off is gone on with the next night.

use std::time::Duration;

use shared::{
    db::{api_pauses, idempotency_keys, recordings, schedule_ticks, webhook_events},
    jobs::Cleanup,
    queue::ledger,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const JOBS_KEPT: Duration = DAY.saturating_mul(7);
const TICKS_KEPT_DAYS: i32 = 30;
const WEBHOOKS_KEPT: Duration = DAY.saturating_mul(90);
/// Rows per step.
const STEP: i64 = 5_000;
/// Objects per step.
const OBJECTS: i64 = 100;

impl Handler for Cleanup {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut jobs = 0;
        while !ctx.stop.is_cancelled() {
            let mut connection = state.db.acquire().await?;
            let pruned = ledger::prune(&mut connection, JOBS_KEPT, STEP).await?;
            jobs += pruned;
            if pruned < STEP as u64 {
                break;
            }
        }
        let mut webhooks = 0;
        while !ctx.stop.is_cancelled() {
            let pruned = webhook_events::prune(&state.db, WEBHOOKS_KEPT, STEP).await?;
            webhooks += pruned;
            if pruned < STEP as u64 {
                break;
            }
        }
        let mut answers = 0;
        while !ctx.stop.is_cancelled() {
            let pruned = idempotency_keys::prune(&state.db, STEP).await?;
            answers += pruned;
            if pruned < STEP as u64 {
                break;
            }
        }
        api_pauses::prune(&state.db).await?;
        let ticks = schedule_ticks::delete_older_than(&state.db, TICKS_KEPT_DAYS).await?;
        while !ctx.stop.is_cancelled() && recordings::expire(&state.db, STEP).await? == STEP as u64 {}
        let objects = delete_objects(state, ctx).await?;
        tracing::info!(jobs, webhooks, answers, ticks, objects, "deleted what was past its retention");
        Ok(Done::nothing())
    }
}

/// First the row says `deleted`, so that nobody is sent to an object that is gone; then the object goes; then the row
/// forgets its key. A crash in between leaves a key to be deleted again.
async fn delete_objects(state: &State, ctx: &Ctx) -> Result<usize, JobError> {
    let mut deleted = 0;
    loop {
        let objects = recordings::list_undeleted_objects(&state.db, OBJECTS).await?;
        for (id, key) in &objects {
            if ctx.stop.is_cancelled() {
                return Ok(deleted);
            }
            state.storage.delete(key).await?;
            recordings::forget_object(&state.db, *id).await?;
            deleted += 1;
        }
        if objects.is_empty() {
            return Ok(deleted);
        }
    }
}
