//! Functions on the table `erasures`: requests to erase a person. What is erased, and how, is in
//! [`personal_data`](super::personal_data).

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgExecutor};
use uuid::Uuid;

use crate::domain::ids::{ErasureId, TenantId};

/// A row of `erasures`.
#[derive(Debug, Clone, FromRow)]
pub struct Erasure {
    pub id: ErasureId,
    pub tenant_id: TenantId,
    /// `None` once it is done.
    pub person_id: Option<String>,
    /// What the person is called in what stays.
    pub pseudonym: String,
    pub requested_by: String,
    pub requested_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Names and addresses of the person, once they are found.
    pub terms: Option<Vec<String>>,
    /// Rows that were erased, by table.
    pub erased: Value,
    /// What was kept, and why; `None` until it is done.
    pub kept: Option<Value>,
}

const COLUMNS: &str =
    "id, tenant_id, person_id, pseudonym, requested_by, requested_at, finished_at, terms, erased, kept";

/// Asks for it; one that waits for the same person is that.
pub async fn request<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    person: &str,
    by: &str,
) -> sqlx::Result<Erasure> {
    // The row that waits has to come back: changing nothing in it does that.
    sqlx::query_as(AssertSqlSafe(format!(
        "insert into erasures (id, tenant_id, person_id, pseudonym, requested_by) values ($1, $2, $3, $4, $5) \
         on conflict (tenant_id, person_id) where state = 'waiting' do update set person_id = excluded.person_id \
         returning {COLUMNS}"
    )))
    .bind(ErasureId::new())
    .bind(tenant)
    .bind(person)
    // Random, not by time: it must not tell when, or beside whom.
    .bind(format!("erased:{}", Uuid::from_u128(rand::random())))
    .bind(by)
    .fetch_one(executor)
    .await
}

/// One of this tenant's.
pub async fn find<'e>(executor: impl PgExecutor<'e>, tenant: TenantId, id: ErasureId) -> sqlx::Result<Option<Erasure>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from erasures where id = $1 and tenant_id = $2")))
        .bind(id)
        .bind(tenant)
        .fetch_optional(executor)
        .await
}

/// Remembers by which names and addresses the person is known, before the first of them is erased.
pub async fn keep_terms<'e>(executor: impl PgExecutor<'e>, id: ErasureId, terms: &[String]) -> sqlx::Result<()> {
    sqlx::query("update erasures set terms = $2 where id = $1 and state = 'waiting'")
        .bind(id)
        .bind(terms)
        .execute(executor)
        .await?;
    Ok(())
}

/// Adds to what was erased of a table.
pub async fn count<'e>(executor: impl PgExecutor<'e>, id: ErasureId, table: &str, rows: u64) -> sqlx::Result<()> {
    sqlx::query(
        "update erasures set erased = erased || jsonb_build_object($2, coalesce((erased ->> $2)::bigint, 0) + $3) \
         where id = $1",
    )
    .bind(id)
    .bind(table)
    .bind(i64::try_from(rows).unwrap_or(i64::MAX))
    .execute(executor)
    .await?;
    Ok(())
}

/// It is done: the request itself forgets the person, too.
pub async fn finish<'e>(executor: impl PgExecutor<'e>, id: ErasureId, kept: &Value) -> sqlx::Result<()> {
    sqlx::query(
        "update erasures set state = 'done', person_id = null, terms = null, finished_at = now(), kept = $2 \
         where id = $1 and state = 'waiting'",
    )
    .bind(id)
    .bind(kept)
    .execute(executor)
    .await?;
    Ok(())
}
