//! Recordings that somebody brings: a row for what is to come, the upload into which its parts go, and the moment when all of
//! them are there.

use chrono::TimeDelta;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};

use super::{COLUMNS, EXPECTED};
use crate::domain::{ids::RecordingId, recording::Recording, session::Session};

/// Without a sign of whoever brings it, a recording is missing after this.
pub const PATIENCE: TimeDelta = TimeDelta::days(7);

/// What is to come.
#[derive(Debug, Clone)]
pub struct Brought<'a> {
    /// By this it is known when its bringer asks again.
    pub external_id: &'a str,
    pub file_name: &'a str,
    pub content_type: &'a str,
    pub bytes: i64,
    /// Lower-case hex.
    pub sha256: &'a str,
}

/// The row of what is to come: in the place of the expected one, a new one, or the one that is there. One that failed, never
/// came, or is announced as another file than before, begins anew; otherwise what is there stays.
pub async fn begin(connection: &mut PgConnection, session: &Session, brought: &Brought<'_>) -> sqlx::Result<Recording> {
    sqlx::query(
        "update recordings set external_id = $2, updated_at = now() \
         where session_id = $1 and external_id = $3 and state in ('expected', 'missing') \
           and not exists (select from recordings r where r.session_id = $1 and r.external_id = $2)",
    )
    .bind(session.id)
    .bind(brought.external_id)
    .bind(EXPECTED)
    .execute(&mut *connection)
    .await?;
    let again = "r.state in ('failed', 'missing') or (r.state = 'expected' \
        and (r.announced_bytes, r.announced_sha256) is distinct from (excluded.announced_bytes, excluded.announced_sha256))";
    sqlx::query(AssertSqlSafe(format!(
        "insert into recordings as r (id, tenant_id, session_id, external_id, file_name, content_type, announced_bytes, \
             announced_sha256, deadline_at) values ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9) \
         on conflict (session_id, external_id) do update set state = 'expected', error = null, \
             upload_id = case when {again} then null else r.upload_id end, \
             bytes_done = case when {again} then 0 else r.bytes_done end, handed_over_at = null, \
             file_name = excluded.file_name, content_type = excluded.content_type, \
             announced_bytes = excluded.announced_bytes, announced_sha256 = excluded.announced_sha256, \
             deadline_at = excluded.deadline_at, updated_at = now() \
             where r.state in ('expected', 'failed', 'missing')"
    )))
    .bind(RecordingId::new())
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(brought.external_id)
    .bind(brought.file_name)
    .bind(brought.content_type)
    .bind(brought.bytes)
    .bind(brought.sha256)
    .bind(PATIENCE)
    .execute(&mut *connection)
    .await?;
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from recordings where session_id = $1 and external_id = $2"
    )))
    .bind(session.id)
    .bind(brought.external_id)
    .fetch_one(connection)
    .await
}

/// The parts go into this upload from now on, unless somebody else has begun another one instead of `before`. Returns the one that
/// holds; `None` when nothing is to be brought any more.
pub async fn set_upload<'e>(
    executor: impl PgExecutor<'e>,
    id: RecordingId,
    before: Option<&str>,
    upload_id: &str,
) -> sqlx::Result<Option<String>> {
    let holds: Option<Option<String>> = sqlx::query_scalar(
        "update recordings set bytes_done = case when upload_id is not distinct from $2 then 0 else bytes_done end, \
             upload_id = case when upload_id is not distinct from $2 then $3 else upload_id end, updated_at = now() \
         where id = $1 and state = 'expected' returning upload_id",
    )
    .bind(id)
    .bind(before)
    .bind(upload_id)
    .fetch_optional(executor)
    .await?;
    Ok(holds.flatten())
}

/// So much of it is in the store.
pub async fn set_progress<'e>(executor: impl PgExecutor<'e>, id: RecordingId, bytes: i64) -> sqlx::Result<()> {
    sqlx::query(
        "update recordings set bytes_done = $2, updated_at = now() \
         where id = $1 and state = 'expected' and bytes_done is distinct from $2",
    )
    .bind(id)
    .bind(bytes)
    .execute(executor)
    .await?;
    Ok(())
}

/// All of it is in the store: it can be imported. False when it was already, or is not to come any more.
pub async fn hand_over<'e>(executor: impl PgExecutor<'e>, id: RecordingId, upload_id: &str) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update recordings set state = 'available', handed_over_at = now(), bytes_done = announced_bytes, updated_at = now() \
         where id = $1 and state = 'expected' and upload_id = $2",
    )
    .bind(id)
    .bind(upload_id)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}
