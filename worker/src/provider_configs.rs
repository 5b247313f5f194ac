//! Where a job finds the provider that it has to ask.

use shared::{
    db::{provider_configs, provider_secrets},
    domain::ids::ProviderConfigId,
    meetings::NamedBy,
    providers::{Providers, settings::Configuration},
};

use crate::{
    handler::{Ctx, JobError},
    state::State,
};

/// What a configuration names; the environment's provider, where there is none. `None` when it is gone. Nothing is held of
/// the database afterwards.
pub async fn open(
    state: &State,
    ctx: &Ctx,
    id: Option<ProviderConfigId>,
) -> Result<Option<(Providers, NamedBy)>, JobError> {
    let Some(id) = id else { return Ok(Some((state.providers.clone(), NamedBy::Operator))) };
    let mut tx = ctx.begin(state).await?;
    let Some(row) = provider_configs::find(&mut *tx, id).await? else { return Ok(None) };
    let sealed = provider_secrets::list(&mut *tx, row.tenant_id, &[id]).await?.remove(&id).unwrap_or_default();
    tx.rollback().await?;
    let place = (row.tenant_id, id);
    let configuration = Configuration::open(&state.keys, place, (row.provider, &row.settings), &sealed)?;
    Ok(Some((Providers::of(&configuration), NamedBy::Tenant(id))))
}
