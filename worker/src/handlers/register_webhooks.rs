//! Sees to it that BigBlueButton servers send webhooks: they forget where to, once we were away for five minutes.

use shared::{
    db::provider_configs as configs, domain::provider::ProviderKind, jobs::RegisterWebhooks, meetings::NamedBy,
    providers::Providers,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    provider_configs,
    state::State,
};

impl Handler for RegisterWebhooks {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let public_url = state.config.public_url.trim_end_matches('/');
        if public_url.is_empty() {
            return Ok(Done::nothing());
        }
        let base = format!("{public_url}/api/v1/live-sessions/webhooks/bbb/");
        let Some(id) = self.provider_config_id else {
            let mut tx = ctx.begin(state).await?;
            let all = configs::list_enabled(&mut *tx, ProviderKind::Bbb).await?;
            let jobs = all.into_iter().map(|(tenant, id)| (tenant, Self { provider_config_id: Some(id) }));
            tx.enqueue_for_tenants(&jobs.collect::<Vec<_>>()).await?;
            tx.commit().await?;
            register(state, (&state.providers, NamedBy::Operator), &base).await;
            return Ok(Done::nothing());
        };
        if let Some((providers, by)) = provider_configs::open(state, ctx, Some(id)).await? {
            register(state, (&providers, by), &format!("{base}{id}/")).await;
        }
        Ok(Done::nothing())
    }
}

/// A server that cannot be told now is told in five minutes.
async fn register(state: &State, (providers, by): (&Providers, NamedBy), callback_url: &str) {
    let Ok(bbb) = providers.bbb() else { return };
    for server in bbb.webhook_servers() {
        match state.meetings.register_webhooks(server, by, callback_url).await {
            Ok(false) => {}
            Ok(true) => tracing::info!(server = server.name, "the server sends webhooks from now on"),
            Err(error) => {
                tracing::warn!(server = server.name, error = %error, "the server was not told where to send webhooks");
            }
        }
    }
}
