//! Tells a provider that a meeting is over. One that is not there, or not any more, is done: the server's answer is what
//! counts, not how often it was told.

use std::time::Duration;

use shared::{
    db::{provider_configs, provider_secrets},
    jobs::EndMeeting,
    meetings::{End, MeetingError, NamedBy},
    providers::{Providers, settings::Configuration},
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// A server takes a moment to end a meeting; so often it is asked within one run …
const LOOKS: u32 = 5;
/// … with this pause.
const PAUSE: Duration = Duration::from_secs(1);

impl Handler for EndMeeting {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let Some((providers, by)) = server(&self, state, ctx).await? else {
            tracing::warn!(room = self.room, "the provider configuration of a meeting is gone: nobody can end it");
            return Ok(Done::nothing());
        };
        for _ in 0..LOOKS {
            match state.meetings.end((&providers, by), (self.provider, &self.room)).await {
                // A Jitsi without our module, or without its control address: rooms there die when the last one leaves.
                Err(MeetingError::Unsupported(_)) => return Ok(Done::nothing()),
                Err(error) => return Err(error.into()),
                Ok(End::Over) => {
                    tracing::info!(room = self.room, provider = self.provider.as_str(), "the meeting is over");
                    return Ok(Done::nothing());
                }
                Ok(End::Told) => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(JobError::Retry(anyhow::anyhow!("the meeting goes on, although its server was told to end it")))
    }
}

/// Where the meeting is. Nothing is held of the database while it is asked.
async fn server(job: &EndMeeting, state: &State, ctx: &Ctx) -> Result<Option<(Providers, NamedBy)>, JobError> {
    let Some(id) = job.provider_config_id else { return Ok(Some((state.providers.clone(), NamedBy::Operator))) };
    let mut tx = ctx.begin(state).await?;
    let Some(row) = provider_configs::find(&mut *tx, id).await? else { return Ok(None) };
    let sealed = provider_secrets::list(&mut *tx, row.tenant_id, &[id]).await?.remove(&id).unwrap_or_default();
    tx.rollback().await?;
    let place = (row.tenant_id, id);
    let configuration = Configuration::open(&state.keys, place, (row.provider, &row.settings), &sealed)?;
    Ok(Some((Providers::of(&configuration), NamedBy::Tenant(id))))
}
