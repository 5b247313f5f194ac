//! Tells a provider that a meeting is over. One that is not there, or not any more, is done: the server's answer is what
//! counts, not how often it was told.

use std::time::Duration;

use shared::{
    db::meetings,
    domain::provider::ProviderKind,
    jobs::EndMeeting,
    meetings::{End, MeetingError, NamedBy},
    providers::Providers,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    provider_configs,
    state::State,
};

mod zoom;

/// A server takes a moment to end a meeting; so often it is asked within one run …
const LOOKS: u32 = 5;
/// … with this pause.
const PAUSE: Duration = Duration::from_secs(1);

impl Handler for EndMeeting {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let Some((providers, by)) = provider_configs::open(state, ctx, self.provider_config_id).await? else {
            tracing::warn!(room = self.room, "the provider configuration of a meeting is gone: nobody can end it");
            return Ok(Done::nothing());
        };
        if self.provider == ProviderKind::Zoom {
            return zoom::end(&self, &providers, state, ctx).await;
        }
        let mut left = servers(&self, state, ctx, &providers).await?;
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let mut goes_on = Vec::new();
            let mut failed = None;
            for server in left {
                match end(&self, state, (&providers, by), &server).await {
                    Ok(End::Over) => tracing::info!(room = self.room, server, "the meeting is over"),
                    Ok(End::Told) => goes_on.push(server),
                    // Another one is told all the same.
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            left = goes_on;
            if left.is_empty() {
                return Ok(Done::nothing());
            }
        }
        Err(JobError::Retry(anyhow::anyhow!("the meeting goes on, although its server was told to end it")))
    }
}

/// Where it has to be ended. Empty names stand for the only server there is.
async fn servers(job: &EndMeeting, state: &State, ctx: &Ctx, providers: &Providers) -> Result<Vec<String>, JobError> {
    let mut tx = ctx.begin(state).await?;
    if let Some(given_up) = &job.server {
        // The session may have come back to it since.
        let now_at = meetings::find_server(&mut *tx, &job.room).await?;
        return Ok(Some(given_up.clone()).filter(|server| now_at.as_ref() != Some(server)).into_iter().collect());
    }
    let known = meetings::list_servers(&mut *tx, &job.room).await?;
    tx.rollback().await?;
    if !known.is_empty() {
        return Ok(known.into_iter().filter(|(_, open)| *open).map(|(server, _)| server).collect());
    }
    // Nothing is known of it any more: the session was deleted.
    Ok(match job.provider {
        ProviderKind::Bbb => providers.bbb()?.servers().iter().map(|server| server.name.clone()).collect(),
        _ => vec![String::new()],
    })
}

async fn end(job: &EndMeeting, state: &State, providers: (&Providers, NamedBy), server: &str) -> Result<End, JobError> {
    let end = match state.meetings.end(providers, (job.provider, &job.room), server).await {
        // A Jitsi without our module, or without its control address: rooms there die when the last one leaves.
        Err(MeetingError::Unsupported(_)) => End::Over,
        end => end?,
    };
    if end == End::Over {
        // By itself: another server may fail, and this one need not be told once more.
        meetings::end_at(&state.db, &job.room, server).await?;
    }
    Ok(end)
}
