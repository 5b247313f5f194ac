//! Has a recording deleted at its provider, once all its forms are deleted here: there they are one.

use shared::{
    db::{meetings, recordings, sessions},
    domain::{provider::ProviderKind, recording::RecordingState},
    jobs::DeleteRecording,
    providers::bbb,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    provider_configs,
    state::State,
};

impl Handler for DeleteRecording {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        let recording = recordings::find(&mut *tx, self.recording_id).await?;
        let Some(recording) = recording.filter(|recording| recording.state == RecordingState::Deleted) else {
            return Ok(Done::nothing());
        };
        let session = sessions::find(&mut *tx, recording.session_id).await?;
        let Some(session) = session.filter(|session| session.provider == ProviderKind::Bbb) else {
            return Ok(Done::nothing());
        };
        let Some(record) = bbb::record(&recording.external_id) else { return Ok(Done::nothing()) };
        let has_others = recordings::has_forms(&mut *tx, session.id, record).await?;
        let servers = meetings::list_servers(&mut *tx, &session.room).await?;
        tx.rollback().await?;
        if has_others {
            return Ok(Done::nothing());
        }
        let Some((providers, by)) = provider_configs::open(state, ctx, session.provider_config_id).await? else {
            return Ok(Done::nothing());
        };
        let had_it =
            |name: &str| servers.is_empty() || servers.iter().any(|(server, _)| server.is_empty() || server == name);
        for server in providers.bbb()?.servers().iter().filter(|server| had_it(&server.name)) {
            state.meetings.delete_recording(server, by, record).await?;
        }
        tracing::info!(recording.id = %recording.id, "the recording is deleted at its provider");
        Ok(Done::nothing())
    }
}
