//! Recordings of which the provider has the say: whether there is one, what is watched there and not fetched, what is deleted.

use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};

use super::{Announced, COLUMNS, EXPECTED};
use crate::domain::{
    ids::{RecordingId, SessionId, TenantId},
    recording::Recording,
    session::Session,
};

/// The provider says that nothing was recorded: none is expected any more. One that comes nevertheless takes its place.
pub async fn expect_none<'e>(executor: impl PgExecutor<'e>, session: &Session) -> sqlx::Result<()> {
    sqlx::query(
        "insert into recordings as r (id, tenant_id, session_id, external_id, state, error) \
         select $1, $2, $3, $4, 'missing', $5 \
         where not exists (select from recordings where session_id = $3 and external_id <> $4) \
         on conflict (session_id, external_id) do update set state = 'missing', error = excluded.error, updated_at = now() \
             where r.state = 'expected'",
    )
    .bind(RecordingId::new())
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(EXPECTED)
    .bind("nothing was recorded")
    .execute(executor)
    .await?;
    Ok(())
}

/// A recording that can be watched at the provider, and not be fetched. Takes the place of the expected one, or is a
/// further one; told again, its address is the newer one.
pub async fn announce_playback(
    connection: &mut PgConnection,
    session: &Session,
    told: &Announced<'_>,
    format: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "update recordings set external_id = $2, state = 'published', playback_url = $3, error = null, updated_at = now() \
         where session_id = $1 and external_id = $4 and state in ('expected', 'missing') \
           and not exists (select from recordings r where r.session_id = $1 and r.external_id = $2)",
    )
    .bind(session.id)
    .bind(told.external_id)
    .bind(told.source_url)
    .bind(EXPECTED)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into recordings as r (id, tenant_id, session_id, external_id, state, playback_url, format, content_type, \
             duration_seconds, recorded_from, recorded_to) \
         values ($1, $2, $3, $4, 'published', $5, $6, 'text/html', $7, $8, $9) \
         on conflict (session_id, external_id) do update set state = 'published', playback_url = excluded.playback_url, \
             format = excluded.format, content_type = excluded.content_type, duration_seconds = excluded.duration_seconds, \
             recorded_from = excluded.recorded_from, recorded_to = excluded.recorded_to, updated_at = now() \
             where r.object_key is null and r.source_url is null and r.removed_at is null and r.state <> 'stored' \
                 and (r.state, r.playback_url, r.format) is distinct from ('published', excluded.playback_url, excluded.format)",
    )
    .bind(RecordingId::new())
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(told.external_id)
    .bind(told.source_url)
    .bind(format)
    .bind(told.duration_seconds)
    .bind(told.from)
    .bind(told.to)
    .execute(connection)
    .await?;
    Ok(())
}

/// Those that could be watched at the provider, and are none of these any more, are `deleted`.
pub async fn withdraw_playbacks<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    still: &[&str],
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update recordings set state = 'deleted', playback_url = null, updated_at = now() \
         where session_id = $1 and state = 'published' and playback_url is not null and object_key is null \
             and external_id <> all($2)",
    )
    .bind(session)
    .bind(still)
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes a recording that is not just being fetched; its object goes with the next clean-up. `None` when it is in no state
/// for that.
pub async fn delete<'e>(executor: impl PgExecutor<'e>, id: RecordingId) -> sqlx::Result<Option<Recording>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update recordings set state = 'deleted', removed_at = coalesce(removed_at, now()), source_url = null, \
             playback_url = null, updated_at = now() \
         where id = $1 and state in ('stored', 'published', 'missing', 'failed', 'deleted') returning {COLUMNS}"
    )))
    .bind(id)
    .fetch_optional(executor)
    .await
}

/// Shows a recording that is there to everybody of its session (`published`), or to who runs it alone (`stored`). `None` when it is
/// not there.
pub async fn set_published<'e>(
    executor: impl PgExecutor<'e>,
    id: RecordingId,
    published: bool,
) -> sqlx::Result<Option<Recording>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update recordings set state = case when $2 then 'published' else 'stored' end, updated_at = now() \
         where id = $1 and state in ('stored', 'published') returning {COLUMNS}"
    )))
    .bind(id)
    .bind(published)
    .fetch_optional(executor)
    .await
}

/// Whether one of the forms of a provider's recording is shown here.
pub async fn has_published<'e>(executor: impl PgExecutor<'e>, session: SessionId, record: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from recordings where session_id = $1 and state = 'published' \
             and starts_with(external_id, $2 || '/'))",
    )
    .bind(session)
    .bind(record)
    .fetch_one(executor)
    .await
}

/// Whether a provider's recording has forms that are not deleted here.
pub async fn has_forms<'e>(executor: impl PgExecutor<'e>, session: SessionId, record: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from recordings where session_id = $1 and state <> 'deleted' \
             and starts_with(external_id, $2 || '/'))",
    )
    .bind(session)
    .bind(record)
    .fetch_one(executor)
    .await
}

/// Sessions at providers that can be asked, whose recording is expected: its announcement may be lost. It takes a while to
/// be made: until `grace_seconds` after the end nobody is asked.
pub async fn list_expecting<'e>(
    executor: impl PgExecutor<'e>,
    grace_seconds: f64,
    limit: i64,
) -> sqlx::Result<Vec<(TenantId, SessionId)>> {
    sqlx::query_as(
        "select s.tenant_id, s.id from recordings r join sessions s on s.id = r.session_id \
         where r.state = 'expected' and s.provider = 'bbb' and s.status = 'ended' \
             and s.ended_at < now() - make_interval(secs => $1) \
         order by random() limit $2",
    )
    .bind(grace_seconds)
    .bind(limit)
    .fetch_all(executor)
    .await
}
