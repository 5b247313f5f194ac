//! Functions on the table `provider_configs`. All take the tenant, except [`find`], for webhooks, which name a configuration
//! and no tenant. Secrets are in `provider_secrets`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor};

use crate::domain::{
    ids::{ProviderConfigId, RecordingId, TenantId},
    provider::ProviderKind,
};

const COLUMNS: &str = "id, tenant_id, name, provider, settings, is_default, enabled, version, created_at, updated_at";

/// A row of `provider_configs`.
#[derive(Debug, Clone, FromRow)]
pub struct ProviderConfig {
    pub id: ProviderConfigId,
    pub tenant_id: TenantId,
    pub name: String,
    pub provider: ProviderKind,
    /// As `providers::settings` reads them.
    pub settings: Value,
    pub is_default: bool,
    pub enabled: bool,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A configuration whatever its tenant: a webhook's address names no tenant. Its signature decides.
pub async fn find<'e>(executor: impl PgExecutor<'e>, id: ProviderConfigId) -> sqlx::Result<Option<ProviderConfig>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from provider_configs where id = $1")))
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// Enabled configurations of an account at a provider, whatever their tenant: those that have made this meeting, then the
/// newest; of all accounts, where none is named. For webhooks, whose signature then decides.
pub async fn list_of_account<'e>(
    executor: impl PgExecutor<'e>,
    provider: ProviderKind,
    (account, meeting): (Option<&str>, Option<&str>),
    limit: i64,
) -> sqlx::Result<Vec<ProviderConfigId>> {
    sqlx::query_scalar(
        "select id from provider_configs \
         where provider = $1 and enabled and ($2::text is null or settings ->> 'account_id' = $2) \
         order by exists (select from meetings m where m.provider_config_id = provider_configs.id and m.external_id = $4) desc, \
             id desc limit $3",
    )
    .bind(provider)
    .bind(account)
    .bind(limit)
    .bind(meeting)
    .fetch_all(executor)
    .await
}

/// Whether the Jitsi of a configuration takes commands: to be told without its secrets.
pub async fn takes_commands<'e>(executor: impl PgExecutor<'e>, id: ProviderConfigId) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar("select settings ? 'control_url' from provider_configs where id = $1");
    Ok(found.bind(id).fetch_optional(executor).await?.unwrap_or(false))
}

/// A configuration of this tenant.
pub async fn find_in<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    id: ProviderConfigId,
) -> sqlx::Result<Option<ProviderConfig>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from provider_configs where id = $1 and tenant_id = $2")))
        .bind(id)
        .bind(tenant)
        .fetch_optional(executor)
        .await
}

/// The same, and nobody else may change it, or plan a session on it, before the transaction ends.
pub async fn lock_in(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: ProviderConfigId,
) -> sqlx::Result<Option<ProviderConfig>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from provider_configs where id = $1 and tenant_id = $2 for update"
    )))
    .bind(id)
    .bind(tenant)
    .fetch_optional(connection)
    .await
}

/// The configuration for a new session: the one that is named; else, of the provider that is named, the default or the
/// oldest; else the default. Enabled ones alone.
pub async fn choose<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    id: Option<ProviderConfigId>,
    provider: Option<ProviderKind>,
) -> sqlx::Result<Option<ProviderConfig>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from provider_configs \
         where tenant_id = $1 and enabled and ($2::uuid is null or id = $2) and ($3::text is null or provider = $3) \
             and ($2 is not null or $3 is not null or is_default) \
         order by is_default desc, id limit 1"
    )))
    .bind(tenant)
    .bind(id)
    .bind(provider)
    .fetch_optional(executor)
    .await
}

/// A page in the order of creation, from beside `after` on.
pub async fn list<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    (after, backwards): (Option<ProviderConfigId>, bool),
    limit: i64,
) -> sqlx::Result<Vec<ProviderConfig>> {
    let (beside, order) = if backwards { ("<", "desc") } else { (">", "asc") };
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from provider_configs where tenant_id = $1 and ($2::uuid is null or id {beside} $2) \
         order by id {order} limit $3"
    )))
    .bind(tenant)
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Enabled ones of a provider, of all tenants.
pub async fn list_enabled<'e>(
    executor: impl PgExecutor<'e>,
    provider: ProviderKind,
) -> sqlx::Result<Vec<(TenantId, ProviderConfigId)>> {
    sqlx::query_as("select tenant_id, id from provider_configs where provider = $1 and enabled order by id")
        .bind(provider)
        .fetch_all(executor)
        .await
}

/// Writes a new configuration; it is no default. Its name may be taken (`provider_configs_name_key`).
pub async fn insert<'e>(
    executor: impl PgExecutor<'e>,
    (id, tenant): (ProviderConfigId, TenantId),
    (name, enabled): (&str, bool),
    (provider, settings): (ProviderKind, &Value),
) -> sqlx::Result<ProviderConfig> {
    sqlx::query_as(AssertSqlSafe(format!(
        "insert into provider_configs (id, tenant_id, name, enabled, provider, settings) values ($1, $2, $3, $4, $5, $6) \
         returning {COLUMNS}"
    )))
    .bind(id)
    .bind(tenant)
    .bind(name)
    .bind(enabled)
    .bind(provider)
    .bind(settings)
    .fetch_one(executor)
    .await
}

/// Writes name, settings and whether it is enabled. One that is not enabled is no default any more.
pub async fn update<'e>(executor: impl PgExecutor<'e>, config: &ProviderConfig) -> sqlx::Result<ProviderConfig> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update provider_configs set name = $3, settings = $4, enabled = $5, is_default = is_default and $5, \
             version = version + 1, updated_at = now() \
         where id = $1 and tenant_id = $2 returning {COLUMNS}"
    )))
    .bind(config.id)
    .bind(config.tenant_id)
    .bind(&config.name)
    .bind(&config.settings)
    .bind(config.enabled)
    .fetch_one(executor)
    .await
}

/// Makes it the tenant's default instead of another one; one that is it already stays as it is. `None` when there is none
/// that is enabled. Two at once wait for each other.
pub async fn make_default(
    connection: &mut PgConnection,
    tenant: TenantId,
    id: ProviderConfigId,
) -> sqlx::Result<Option<ProviderConfig>> {
    // There need not be a row to wait for.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('default-provider-config:' || $1::text, 0))")
        .bind(tenant)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "update provider_configs set is_default = false, version = version + 1, updated_at = now() \
         where tenant_id = $1 and is_default and id <> $2 \
             and exists (select from provider_configs where id = $2 and tenant_id = $1 and enabled)",
    )
    .bind(tenant)
    .bind(id)
    .execute(&mut *connection)
    .await?;
    sqlx::query_as(AssertSqlSafe(format!(
        "update provider_configs set is_default = true, version = version + (not is_default)::int, \
             updated_at = case when is_default then updated_at else now() end \
         where id = $2 and tenant_id = $1 and enabled returning {COLUMNS}"
    )))
    .bind(tenant)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// Whether sessions that are not over, or recordings that are not fetched yet, need it. The caller holds its row
/// ([`lock_in`]), so that no session is planned on it meanwhile.
pub async fn is_in_use<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    id: ProviderConfigId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from sessions s where s.provider_config_id = $1 and s.tenant_id = $2 \
             and (s.status in ('scheduled', 'live') or exists ( \
                 select from recordings r where r.session_id = s.id \
                     and r.state in ('expected', 'available', 'downloading'))))",
    )
    .bind(id)
    .bind(tenant)
    .fetch_one(executor)
    .await
}

/// Removes it with its secrets; sessions that are over forget it.
pub async fn delete<'e>(executor: impl PgExecutor<'e>, tenant: TenantId, id: ProviderConfigId) -> sqlx::Result<()> {
    sqlx::query("delete from provider_configs where id = $1 and tenant_id = $2")
        .bind(id)
        .bind(tenant)
        .execute(executor)
        .await?;
    Ok(())
}

/// The configuration by which a recording came.
pub async fn find_for_recording<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    recording: RecordingId,
) -> sqlx::Result<Option<ProviderConfig>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from provider_configs where tenant_id = $1 and id = ( \
             select s.provider_config_id from recordings r join sessions s on s.id = r.session_id \
             where r.id = $2 and r.tenant_id = $1)"
    )))
    .bind(tenant)
    .bind(recording)
    .fetch_optional(executor)
    .await
}
