//! Tries out what tenants have configured, as the configuration's own test does, and writes down whether it works: for
//! administrators before their class, and for operators as a metric. Nobody is refused a join for it: what was down a
//! minute ago may be up again, and a join finds out by itself.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use shared::{
    db::{
        provider_configs,
        provider_health::{self, Due, HealthState},
        provider_secrets,
    },
    domain::provider::ProviderKind,
    jobs::ProviderHealth,
    providers::settings::Configuration,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// Configurations that are tried at once: most of the time is waiting.
const AT_ONCE: usize = 16;
/// Of one run; the others have their turn in the next minute.
const MOST: i64 = 1_000;
/// No further one is begun after this time.
const TIME: Duration = Duration::from_secs(50);

impl Handler for ProviderHealth {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let due = provider_health::due(&state.db, MOST).await?;
        let began = Instant::now();
        stream::iter(due)
            .take_while(|_| std::future::ready(began.elapsed() < TIME && !ctx.stop.is_cancelled()))
            .for_each_concurrent(AT_ONCE, async |due| {
                if let Err(error) = look(state, due).await {
                    tracing::warn!(provider_config.id = %due.id, error = %error, "a provider configuration could not be tried out");
                }
            })
            .await;
        for (kind, health, number) in gauges(&provider_health::count(&state.db).await?) {
            let labels = [("provider", kind.as_str()), ("state", health.as_str())];
            metrics::gauge!("provider_configs", &labels).set(number as f64);
        }
        Ok(Done::nothing())
    }
}

async fn look(state: &State, due: Due) -> anyhow::Result<()> {
    let Some(row) = provider_configs::find(&state.db, due.id).await? else { return Ok(()) };
    let mut connection = state.db.acquire().await?;
    let sealed = provider_secrets::list(&mut *connection, due.tenant_id, &[due.id]).await?;
    drop(connection);
    let sealed = sealed.get(&due.id).cloned().unwrap_or_default();
    let place = (due.tenant_id, due.id);
    // What fails here is the operator's to mend, not the tenant's.
    let configuration = Configuration::open(&state.keys, place, (row.provider, &row.settings), &sealed)?;
    let checks = state.prober.probe(&configuration).await;
    // What cannot be told is no fault: a balancer keeps its version to itself.
    let has_fault = checks.iter().any(|check| check.ok == Some(false));
    let health = if has_fault { HealthState::Down } else { HealthState::Up };
    if provider_health::found(&state.db, due, health, &checks).await? {
        let faults: Vec<&str> =
            checks.iter().filter(|check| check.ok == Some(false)).map(|check| check.detail.as_str()).collect();
        tracing::info!(
            provider_config.id = %due.id,
            provider = row.provider.as_str(),
            state = health.as_str(),
            faults = faults.join("; "),
            "a provider configuration is in another state than before"
        );
    }
    Ok(())
}

/// Every kind and state has a value, so that none keeps its last one.
fn gauges(counted: &[(ProviderKind, HealthState, i64)]) -> impl Iterator<Item = (ProviderKind, HealthState, i64)> {
    let all =
        ProviderKind::ALL.into_iter().flat_map(|kind| [HealthState::Up, HealthState::Down].map(|state| (kind, state)));
    all.map(|(kind, state)| {
        let number = counted.iter().find(|(k, s, _)| (*k, *s) == (kind, state)).map_or(0, |(.., number)| *number);
        (kind, state, number)
    })
}
