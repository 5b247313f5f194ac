//! Tells a provider that a meeting is over. One that is not there, or not any more, is done: the server's answer is what
//! counts, not how often it was told.

use std::time::Duration;

use shared::{
    domain::provider::ProviderKind,
    jobs::EndMeeting,
    meetings::{End, NamedBy},
    providers::Providers,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

mod zoom;

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
        if self.provider == ProviderKind::Zoom {
            return zoom::end(&self, &providers, state, ctx).await;
        }
        for _ in 0..LOOKS {
            match state.meetings.end((&providers, by), (self.provider, &self.room)).await? {
                End::Over => {
                    tracing::info!(room = self.room, provider = self.provider.as_str(), "the meeting is over");
                    return Ok(Done::nothing());
                }
                End::Told => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(JobError::Retry(anyhow::anyhow!("the meeting goes on, although its server was told to end it")))
    }
}

/// Where the meeting is. Nothing is held of the database while it is asked.
async fn server(job: &EndMeeting, state: &State, ctx: &Ctx) -> Result<Option<(Providers, NamedBy)>, JobError> {
    let Some(id) = job.provider_config_id else { return Ok(Some((state.providers.clone(), NamedBy::Operator))) };
    let mut tx = ctx.begin(state).await?;
    let providers = state.providers_of(&mut tx, id).await?;
    tx.rollback().await?;
    Ok(providers.map(|providers| (providers, NamedBy::Tenant(id))))
}
