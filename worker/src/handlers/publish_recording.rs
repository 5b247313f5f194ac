//! Has a recording shown at its provider while one of its forms is shown here, and hidden while none is: there they are one.

use shared::{
    db::{meetings, recordings, sessions},
    domain::provider::ProviderKind,
    jobs::PublishRecording,
    providers::bbb,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    provider_configs,
    state::State,
};

impl Handler for PublishRecording {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        let Some(recording) = recordings::find(&mut *tx, self.recording_id).await? else { return Ok(Done::nothing()) };
        let session = sessions::find(&mut *tx, recording.session_id).await?;
        let Some(session) = session.filter(|session| session.provider == ProviderKind::Bbb) else {
            return Ok(Done::nothing());
        };
        let Some(record) = bbb::record(&recording.external_id) else { return Ok(Done::nothing()) };
        let publish = recordings::has_published(&mut *tx, session.id, record).await?;
        let servers = meetings::list_servers(&mut *tx, &session.room).await?;
        tx.rollback().await?;
        let Some((providers, by)) = provider_configs::open(state, ctx, session.provider_config_id).await? else {
            return Ok(Done::nothing());
        };
        let had_it =
            |name: &str| servers.is_empty() || servers.iter().any(|(server, _)| server.is_empty() || server == name);
        for server in providers.bbb()?.servers().iter().filter(|server| had_it(&server.name)) {
            state.meetings.publish_recording(server, by, record, publish).await?;
        }
        Ok(Done::nothing())
    }
}
