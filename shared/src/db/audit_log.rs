//! Functions on the table `audit_log`. It is written by triggers, see its migration.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgExecutor};

use crate::domain::ids::{SessionId, TenantId};

/// One change.
#[derive(Debug, Clone, FromRow)]
pub struct AuditEntry {
    pub id: i64,
    pub tenant_id: Option<TenantId>,
    pub at: DateTime<Utc>,
    pub actor: String,
    pub request_id: Option<String>,
    pub action: String,
    pub subject_id: String,
    pub changes: Value,
}

/// Which changes; what is absent, does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub subject_id: Option<String>,
    pub actor: Option<String>,
    pub action: Option<String>,
    pub request_id: Option<String>,
    /// Inclusive.
    pub after: Option<DateTime<Utc>>,
    /// Exclusive.
    pub before: Option<DateTime<Utc>>,
}

/// Somebody was removed from a session's meeting: no row changes by it. By a role that sees all tenants.
pub async fn write_removal<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    session: SessionId,
    person: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "select audit_write($1, 'participant.removed', $2::text, \
             jsonb_build_object('person_id', jsonb_build_array(null, $3::text)))",
    )
    .bind(tenant)
    .bind(session.to_string())
    .bind(person)
    .execute(executor)
    .await?;
    Ok(())
}

/// Up to `limit` changes of a tenant (`None`: of all, and of none) beside `from`, newest first, or oldest first where `ascending`.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    tenant: Option<TenantId>,
    filter: &Filter,
    from: Option<i64>,
    ascending: bool,
    limit: i64,
) -> sqlx::Result<Vec<AuditEntry>> {
    let (beside, order) = if ascending { (">", "asc") } else { ("<", "desc") };
    let of_tenant = if tenant.is_some() { "tenant_id = $1" } else { "$1::uuid is null" };
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select id, tenant_id, at, actor, request_id, action, subject_id, changes from audit_log \
         where {of_tenant} and ($2::bigint is null or id {beside} $2) \
         and ($3::text is null or subject_id = $3) and ($4::text is null or actor = $4) \
         and ($5::text is null or action = $5) \
         and ($6::timestamptz is null or at >= $6) and ($7::timestamptz is null or at < $7) \
         and ($9::text is null or request_id = $9) order by id {order} limit $8"
    )))
    .bind(tenant)
    .bind(from)
    .bind(&filter.subject_id)
    .bind(&filter.actor)
    .bind(&filter.action)
    .bind(filter.after)
    .bind(filter.before)
    .bind(limit)
    .bind(&filter.request_id)
    .fetch_all(executor)
    .await
}
