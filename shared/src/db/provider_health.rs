//! Functions on the table `provider_health`: whether what tenants have configured works.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor, types::Json};

use crate::{
    domain::{
        ids::{ProviderConfigId, TenantId},
        provider::ProviderKind,
    },
    probes::Check,
};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum HealthState {
    /// No check found a fault.
    Up,
    /// One was not.
    Down,
}

impl HealthState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A row.
#[derive(Debug, Clone, FromRow)]
pub struct ProviderHealth {
    pub config_id: ProviderConfigId,
    pub state: HealthState,
    /// Since when it is so.
    pub since: DateTime<Utc>,
    pub checked_at: DateTime<Utc>,
    pub checks: Json<Vec<Check>>,
}

/// A configuration whose turn it is.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Due {
    pub id: ProviderConfigId,
    pub tenant_id: TenantId,
}

/// Up to `limit` enabled configurations whose turn it is, longest waiting first: those that were down, changed or never
/// checked, each minute; the others every five.
pub async fn due<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<Vec<Due>> {
    sqlx::query_as(
        "select c.id, c.tenant_id from provider_configs c left join provider_health h on h.config_id = c.id \
         where c.enabled and (h.checked_at is null or h.checked_at < c.updated_at \
             or h.checked_at < now() - case h.state when 'up' then interval '280 seconds' else interval '50 seconds' end) \
         order by h.checked_at nulls first limit $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Writes down what was found. Tells what was known before, where it was something else.
pub async fn found<'e>(
    executor: impl PgExecutor<'e>,
    due: Due,
    state: HealthState,
    checks: &[Check],
) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "with before as (select state from provider_health where config_id = $1) \
         insert into provider_health as h (config_id, tenant_id, state, checks) \
         select id, tenant_id, $3, $4 from provider_configs where id = $1 and tenant_id = $2 \
         on conflict (config_id) do update set state = excluded.state, checks = excluded.checks, checked_at = now(), \
             since = case when h.state = excluded.state then h.since else now() end \
         returning (select state from before) is distinct from h.state",
    )
    .bind(due.id)
    .bind(due.tenant_id)
    .bind(state)
    .bind(Json(checks))
    .fetch_optional(executor)
    .await
    .map(|changed: Option<bool>| changed.unwrap_or(false))
}

/// What is known of a tenant's configuration.
pub async fn find<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    config: ProviderConfigId,
) -> sqlx::Result<Option<ProviderHealth>> {
    sqlx::query_as(
        "select config_id, state, since, checked_at, checks from provider_health where tenant_id = $1 and config_id = $2",
    )
    .bind(tenant)
    .bind(config)
    .fetch_optional(executor)
    .await
}

/// How many enabled configurations of each kind are in which state.
pub async fn count<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<Vec<(ProviderKind, HealthState, i64)>> {
    sqlx::query_as(
        "select c.provider, h.state, count(*) from provider_health h join provider_configs c on c.id = h.config_id \
         where c.enabled group by c.provider, h.state",
    )
    .fetch_all(executor)
    .await
}
