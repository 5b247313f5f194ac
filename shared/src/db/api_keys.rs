//! Functions on the table `api_keys`.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgExecutor};

use crate::domain::ids::{ApiKeyId, TenantId};

const COLUMNS: &str = "id, tenant_id, name, hash, roles, created_by, created_at, expires_at, revoked_at, last_used_at, \
    (last_used_at is null or last_used_at < now() - interval '1 minute') as use_is_due";

/// A row of `api_keys`. No `Debug`: hashes have no place in logs.
#[derive(Clone, FromRow)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub tenant_id: TenantId,
    pub name: String,
    /// SHA-256 of the secret, see `domain::api_key`.
    pub hash: Vec<u8>,
    pub roles: Vec<String>,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether a use of it now should be noted: the last one was a minute ago or more.
    pub use_is_due: bool,
}

/// A key that is being made.
pub struct NewApiKey<'a> {
    pub id: ApiKeyId,
    pub tenant_id: TenantId,
    pub name: &'a str,
    pub hash: [u8; 32],
    pub roles: &'a [&'static str],
    pub created_by: &'a str,
    pub expires_at: Option<DateTime<Utc>>,
}

/// The key of this id, whoever's it is: a request that carries a key does not name its tenant.
pub async fn find<'e>(executor: impl PgExecutor<'e>, id: ApiKeyId) -> sqlx::Result<Option<ApiKey>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from api_keys where id = $1")))
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// The same, if it is this tenant's.
pub async fn find_in<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    id: ApiKeyId,
) -> sqlx::Result<Option<ApiKey>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from api_keys where tenant_id = $1 and id = $2")))
        .bind(tenant)
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// A page of a tenant's keys, newest first: those after (or, `ascending`, before) one of them, nearest first.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    after: Option<ApiKeyId>,
    ascending: bool,
    limit: i64,
) -> sqlx::Result<Vec<ApiKey>> {
    let (sign, direction) = if ascending { (">", "asc") } else { ("<", "desc") };
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from api_keys where tenant_id = $1 and ($2::uuid is null or id {sign} $2) \
         order by id {direction} limit $3"
    )))
    .bind(tenant)
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await
}

pub async fn insert<'e>(executor: impl PgExecutor<'e>, key: &NewApiKey<'_>) -> sqlx::Result<ApiKey> {
    sqlx::query_as(AssertSqlSafe(format!(
        "insert into api_keys (id, tenant_id, name, hash, roles, created_by, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7) returning {COLUMNS}"
    )))
    .bind(key.id)
    .bind(key.tenant_id)
    .bind(key.name)
    .bind(key.hash)
    .bind(key.roles)
    .bind(key.created_by)
    .bind(key.expires_at)
    .fetch_one(executor)
    .await
}

/// Ends a key and those that were made with it; one that was ended before keeps its time. Whether the tenant has such a key.
pub async fn revoke<'e>(executor: impl PgExecutor<'e>, tenant: TenantId, id: ApiKeyId, by: &str) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "with recursive family as ( \
             select id from api_keys where tenant_id = $1 and id = $2 \
             union select made.id from api_keys made join family on made.created_by = 'api-key:' || family.id \
             where made.tenant_id = $1) \
         update api_keys set revoked_at = coalesce(revoked_at, now()), revoked_by = coalesce(revoked_by, $3) \
         where id in (select id from family)",
    )
    .bind(tenant)
    .bind(id)
    .bind(by)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The key was used. Once a minute, however many processes say so.
pub async fn touch<'e>(executor: impl PgExecutor<'e>, id: ApiKeyId) -> sqlx::Result<()> {
    sqlx::query(
        "update api_keys set last_used_at = now() \
         where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')",
    )
    .bind(id)
    .execute(executor)
    .await?;
    Ok(())
}
