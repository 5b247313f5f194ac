//! Asks what was recorded in a session: after each sign that something has changed there, and as the safety net for signs
//! that were lost. Files are fetched; pages that play a recording stay where they are, and are linked to.

use chrono::TimeDelta;
use shared::{
    db::{meetings, recordings, reminders, sessions},
    domain::provider::ProviderKind,
    jobs::{ImportRecording, ListRecordings},
    providers::{FileKind, bbb::Playback},
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    provider_configs,
    state::State,
};

impl Handler for ListRecordings {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        let Some(session) = sessions::find(&mut *tx, self.session_id).await? else { return Ok(Done::nothing()) };
        let servers = meetings::list_servers(&mut *tx, &session.room).await?;
        tx.rollback().await?;
        if session.provider != ProviderKind::Bbb {
            return Ok(Done::nothing());
        }
        let Some((providers, by)) = provider_configs::open(state, ctx, session.provider_config_id).await? else {
            return Ok(Done::nothing());
        };
        let bbb = providers.bbb()?;
        let had_it =
            |name: &str| servers.is_empty() || servers.iter().any(|(server, _)| server.is_empty() || server == name);
        let mut told: Vec<Playback> = Vec::new();
        for server in bbb.servers().iter().filter(|server| had_it(&server.name)) {
            told.extend(state.meetings.recordings(server, by, &session.room).await?);
        }

        let mut tx = ctx.begin(state).await?;
        let deadline_at = state.clock.now() + TimeDelta::hours(recordings::DEADLINE_HOURS);
        let shown: Vec<&Playback> = told.iter().filter(|playback| playback.published).collect();
        for playback in &shown {
            let announced = recordings::Announced {
                external_id: &playback.external_id,
                source_url: &playback.url,
                duration_seconds: playback.duration_seconds,
                from: playback.from,
                to: playback.to,
                deadline_at,
                bytes: None,
                form: FileKind::Film.form(),
                is_awaited: true,
            };
            if !playback.is_file() {
                recordings::announce_playback(&mut tx, &session, &announced, &playback.format).await?;
            } else if let Some(recording_id) = recordings::announce(&mut tx, &session, &announced).await? {
                tx.enqueue(&ImportRecording { recording_id }).await?;
            }
        }
        if shown.iter().any(|playback| !playback.is_file()) {
            reminders::plan_recording_ready(&mut tx, &session, state.clock.now()).await?;
        }
        let still: Vec<&str> = shown.iter().map(|playback| playback.external_id.as_str()).collect();
        recordings::withdraw_playbacks(&mut *tx, session.id, &still).await?;
        Ok(Done::with(tx))
    }
}
