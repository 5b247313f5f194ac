//! Functions on the table `idempotency_keys`: answers that repeats of a POST get again. All in the transaction of the
//! POST's effect.

use sqlx::{PgConnection, PgExecutor};

use crate::domain::ids::TenantId;

/// SHA-256 of all that makes a key one.
pub type Id = [u8; 32];

/// How long an answer is given again.
const KEPT: &str = "interval '24 hours'";

/// Makes the key this transaction's own until it ends. False: another transaction, perhaps of another process, has it.
/// Nobody waits, since who waits holds a connection.
pub async fn lock(connection: &mut PgConnection, id: &Id) -> sqlx::Result<bool> {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
        .bind(i64::from_be_bytes([a, b, c, d, e, f, g, h]))
        .fetch_one(connection)
        .await
}

/// The answer that is kept. To be asked after [`lock`], in a statement of its own: only then it sees what the lock's last
/// holder committed.
pub async fn find(connection: &mut PgConnection, id: &Id) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "select answer from idempotency_keys where id = $1 and created_at > now() - {KEPT}"
    )))
    .bind(id.as_slice())
    .fetch_optional(connection)
    .await
}

/// Keeps an answer; one that is past its time gives way.
///
/// # Errors
/// `RowNotFound` where one is kept already: then this transaction must not commit.
pub async fn insert(connection: &mut PgConnection, tenant: TenantId, id: &Id, answer: &[u8]) -> sqlx::Result<()> {
    let done = sqlx::query(sqlx::AssertSqlSafe(format!(
        "insert into idempotency_keys as k (id, tenant_id, answer) values ($1, $2, $3) \
         on conflict (id) do update set answer = excluded.answer, created_at = excluded.created_at \
         where k.created_at <= now() - {KEPT}"
    )))
    .bind(id.as_slice())
    .bind(tenant)
    .bind(answer)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Deletes up to `limit` answers that are given no more.
pub async fn prune<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(sqlx::AssertSqlSafe(format!(
        "delete from idempotency_keys where id in ( \
             select id from idempotency_keys where created_at <= now() - {KEPT} order by created_at limit $1)"
    )))
    .bind(limit)
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}
