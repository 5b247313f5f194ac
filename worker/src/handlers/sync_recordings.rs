//! The safety net of recordings: imports that were never queued are queued, those whose worker died for good are
//! failed, providers are asked for recordings whose announcement was lost, deadlines are checked, and uploads that nobody goes on with are aborted.

use std::collections::HashSet;

use chrono::TimeDelta;
use shared::{
    db::{recordings, reminders, sessions},
    domain::{ids::SessionId, recording::is_recording_key},
    jobs::{ImportRecording, ListRecordings, SyncRecordings},
    queue::Tx,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// Imports queued per run.
const AT_ONCE: i64 = 1_000;
/// Sessions per run whose provider is asked for their recordings.
const ASKED: i64 = 500;
/// Seconds after the end in which nobody asks: a recording takes longer to be made.
const ASKED_AFTER: f64 = 300.0;
/// An upload that no row knows is left by a crash, or about to be written down: the latter takes no day.
const STALE_UPLOAD: TimeDelta = TimeDelta::hours(24);

impl Handler for SyncRecordings {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        for failed in recordings::fail_dead_imports(&mut *tx).await? {
            metrics::counter!("recordings_given_up_total", "state" => "failed").increment(1);
            tracing::warn!(recording.id = %failed.id, session.id = %failed.session_id, "the recording's import is a dead letter");
            tell_host(state, &mut tx, failed.session_id).await?;
        }
        for missing in recordings::mark_missing(&mut *tx).await? {
            metrics::counter!("recordings_given_up_total", "state" => "missing").increment(1);
            tracing::warn!(recording.id = %missing.id, session.id = %missing.session_id, "the recording never came");
            tell_host(state, &mut tx, missing.session_id).await?;
        }
        let waiting = recordings::list_without_import(&mut *tx, AT_ONCE).await?;
        let imports: Vec<_> =
            waiting.into_iter().map(|(tenant, recording_id)| (tenant, ImportRecording { recording_id })).collect();
        let queued = tx.enqueue_for_tenants(&imports).await?;
        if queued > 0 {
            tracing::info!(recordings = queued, "queued imports whose announcement was lost");
        }
        let expecting = recordings::list_expecting(&mut *tx, ASKED_AFTER, ASKED).await?;
        let lists: Vec<_> =
            expecting.into_iter().map(|(tenant, session_id)| (tenant, ListRecordings { session_id })).collect();
        tx.enqueue_for_tenants(&lists).await?;
        // The object store being away must not keep the rows from being written.
        if let Err(error) = abort_stale_uploads(state).await {
            tracing::warn!(error = %error, "unfinished uploads could not be looked through");
        }
        Ok(Done::with(tx))
    }
}

async fn tell_host(state: &State, tx: &mut Tx, session: SessionId) -> sqlx::Result<()> {
    match sessions::find(&mut **tx, session).await? {
        Some(session) => reminders::plan_recording_missing(tx, &session, state.clock.now()).await,
        None => Ok(()),
    }
}

async fn abort_stale_uploads(state: &State) -> anyhow::Result<()> {
    let before = state.clock.now() - STALE_UPLOAD;
    let all = state.storage.list_uploads().await?;
    // The bucket may hold uploads of somebody else.
    let stale: Vec<_> = all.into_iter().filter(|u| u.started_at < before && is_recording_key(&u.key)).collect();
    let ids: Vec<String> = stale.iter().map(|upload| upload.upload_id.clone()).collect();
    let in_use: HashSet<String> = recordings::uploads_in_use(&state.db, &ids).await?.into_iter().collect();
    for upload in stale.iter().filter(|upload| !in_use.contains(&upload.upload_id)) {
        state.storage.abort(&upload.key, &upload.upload_id).await?;
        tracing::info!(object_key = upload.key, "aborted an upload that nobody goes on with");
    }
    Ok(())
}
