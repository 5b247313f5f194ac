//! Functions on the table `recordings`. The import writes under the lease of its job: a worker that lost it changes
//! nothing any more.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor};

use crate::domain::{
    ids::{JobId, RecordingId, SessionId, TenantId},
    recording::Recording,
    session::Session,
};

mod at_provider;
pub mod uploads;

pub use at_provider::{
    announce_playback, delete, expect_none, has_forms, has_published, list_expecting, set_published, withdraw_playbacks,
};

const COLUMNS: &str = "id, tenant_id, session_id, external_id, state, source_url, file_name, content_type, \
    announced_bytes, announced_sha256, duration_seconds, recorded_from, recorded_to, upload_id, parts, source_etag, \
    bytes_done, object_key, size_bytes, sha256, error, deadline_at, stored_at, created_at, updated_at, playback_url, format, \
    handed_over_at, import_started_at, import_started_bytes";

/// `external_id` of a recording that we expect and that the provider has not named yet.
const EXPECTED: &str = "expected";

/// Hours that a recording may take to appear after the session, and that providers keep it (JaaS: 24).
pub const DEADLINE_HOURS: i64 = 24;

/// Parameters $2 and $3 of a write that only the holder of the import job may do.
const HELD: &str = "exists (select from jobs where jobs.id = $2 and jobs.lease_token = $3 and jobs.state = 'running')";

/// The lease of an import job: its id and fencing token.
pub type Holder = (JobId, i64);

pub async fn find<'e>(executor: impl PgExecutor<'e>, id: RecordingId) -> sqlx::Result<Option<Recording>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from recordings where id = $1")))
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// A page of a session's recordings, oldest first: those after (or, backwards, before) one of them, nearest first. Not
/// `all`: only those that everybody of the session sees.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    all: bool,
    after: Option<RecordingId>,
    ascending: bool,
    limit: i64,
) -> sqlx::Result<Vec<Recording>> {
    let (sign, direction) = if ascending { (">", "asc") } else { ("<", "desc") };
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from recordings where session_id = $1 and ($2 or state = 'published') \
           and ($3::uuid is null or id {sign} $3) order by id {direction} limit $4"
    )))
    .bind(session)
    .bind(all)
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// A recording of this session is going to come; nothing where one is known already.
pub async fn expect<'e>(
    executor: impl PgExecutor<'e>,
    session: &Session,
    deadline_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into recordings (id, tenant_id, session_id, external_id, state, deadline_at) \
         select $1, $2, $3, $4, 'expected', $5 where not exists (select from recordings where session_id = $3) \
         on conflict (session_id, external_id) do nothing",
    )
    .bind(RecordingId::new())
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(EXPECTED)
    .bind(deadline_at)
    .execute(executor)
    .await?;
    Ok(())
}

/// What a provider says of a recording that can be fetched.
#[derive(Debug, Clone)]
pub struct Announced<'a> {
    pub external_id: &'a str,
    pub source_url: &'a str,
    pub duration_seconds: Option<i64>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    /// After this the provider may have deleted it.
    pub deadline_at: DateTime<Utc>,
    pub bytes: Option<i64>,
    /// Name and media type.
    pub form: (&'a str, &'a str),
    /// It is what was expected; not something beside it.
    pub is_awaited: bool,
}

/// Whether a recording of this name was announced already.
pub async fn is_known<'e>(executor: impl PgExecutor<'e>, session: SessionId, external_id: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from recordings where session_id = $1 and external_id = $2 and source_url is not null)",
    )
    .bind(session)
    .bind(external_id)
    .fetch_one(executor)
    .await
}

/// The recording can be fetched: takes the place of the expected one, or is a further one. Told again, it changes only
/// a recording that could not be fetched so far. Returns the recording if it has to be imported.
pub async fn announce(
    connection: &mut PgConnection,
    session: &Session,
    told: &Announced<'_>,
) -> sqlx::Result<Option<RecordingId>> {
    let expected: Option<RecordingId> = sqlx::query_scalar(
        "update recordings set external_id = $2, state = 'available', source_url = $3, duration_seconds = $4, \
             recorded_from = $5, recorded_to = $6, deadline_at = $7, announced_bytes = $9, file_name = $10, \
             content_type = $11, error = null, updated_at = now() \
         where session_id = $1 and external_id = $8 and state in ('expected', 'missing') and $12 \
           and not exists (select from recordings r where r.session_id = $1 and r.external_id = $2) \
         returning id",
    )
    .bind(session.id)
    .bind(told.external_id)
    .bind(told.source_url)
    .bind(told.duration_seconds)
    .bind(told.from)
    .bind(told.to)
    .bind(told.deadline_at)
    .bind(EXPECTED)
    .bind(told.bytes)
    .bind(told.form.0)
    .bind(told.form.1)
    .bind(told.is_awaited)
    .fetch_optional(&mut *connection)
    .await?;
    if expected.is_some() {
        return Ok(expected);
    }
    sqlx::query_scalar(
        "insert into recordings (id, tenant_id, session_id, external_id, state, source_url, duration_seconds, \
             recorded_from, recorded_to, deadline_at, announced_bytes, file_name, content_type) \
         values ($1, $2, $3, $4, 'available', $5, $6, $7, $8, $9, $10, $11, $12) \
         on conflict (session_id, external_id) do update set state = 'available', source_url = excluded.source_url, \
             duration_seconds = excluded.duration_seconds, recorded_from = excluded.recorded_from, \
             recorded_to = excluded.recorded_to, deadline_at = excluded.deadline_at, \
             announced_bytes = excluded.announced_bytes, error = null, updated_at = now() \
             where recordings.state in ('expected', 'available', 'missing', 'failed') \
         returning id",
    )
    .bind(RecordingId::new())
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(told.external_id)
    .bind(told.source_url)
    .bind(told.duration_seconds)
    .bind(told.from)
    .bind(told.to)
    .bind(told.deadline_at)
    .bind(told.bytes)
    .bind(told.form.0)
    .bind(told.form.1)
    .fetch_optional(connection)
    .await
}

/// A part of the import that is in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From 1.
    pub number: i32,
    pub etag: String,
    pub bytes: u64,
    /// Of what was fetched, lower-case hex; the stored object is compared with it.
    pub sha256: String,
}

/// How far an import has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub upload_id: Option<String>,
    pub parts: Vec<Part>,
    /// The source's strong entity tag.
    pub source_etag: Option<String>,
}

impl Progress {
    /// As the row has it; parts of an unknown shape (another version's) count as none.
    pub fn of(recording: &Recording) -> Self {
        Self {
            upload_id: recording.upload_id.clone(),
            parts: serde_json::from_value(recording.parts.clone()).unwrap_or_default(),
            source_etag: recording.source_etag.clone(),
        }
    }

    /// Bytes that need not be fetched again.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// The import begins, or goes on; why it failed before stays to be seen until it succeeds. False when the recording is not to be imported, or the lease is lost.
pub async fn begin_import<'e>(executor: impl PgExecutor<'e>, id: RecordingId, holder: Holder) -> sqlx::Result<bool> {
    let done = sqlx::query(AssertSqlSafe(format!(
        "update recordings set state = 'downloading', import_started_at = now(), import_started_bytes = bytes_done, updated_at = now() \
         where id = $1 and state in ('available', 'downloading', 'failed', 'missing') \
           and (source_url is not null or handed_over_at is not null) and {HELD}"
    )))
    .bind(id)
    .bind(holder.0)
    .bind(holder.1)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes how far the import has come, so that the next worker goes on from there. False when the lease is lost. A part
/// more shows that the job is not what killed its workers: their deaths no longer count.
pub async fn save_progress<'e>(
    executor: impl PgExecutor<'e>,
    id: RecordingId,
    holder: Holder,
    progress: &Progress,
) -> sqlx::Result<bool> {
    let parts = serde_json::to_value(&progress.parts).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    let done = sqlx::query(AssertSqlSafe(format!(
        "with innocent as (update jobs set crashes = 0 where id = $2 and lease_token = $3 and state = 'running' \
             and crashes > 0 and $5 <> '[]'::jsonb) \
         update recordings set upload_id = $4, parts = $5, source_etag = $6, bytes_done = $7, updated_at = now() \
         where id = $1 and state = 'downloading' and {HELD}"
    )))
    .bind(id)
    .bind(holder.0)
    .bind(holder.1)
    .bind(&progress.upload_id)
    .bind(parts)
    .bind(&progress.source_etag)
    .bind(i64::try_from(progress.bytes()).unwrap_or(i64::MAX))
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The import waits for its next attempt, for this reason, if it is one to be told; what it has stored so far stays.
pub async fn wait_for_retry<'e>(
    executor: impl PgExecutor<'e>,
    id: RecordingId,
    holder: Holder,
    reason: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!(
        "update recordings set state = 'available', error = coalesce($4, error), updated_at = now() \
         where id = $1 and state = 'downloading' and {HELD}"
    )))
    .bind(id)
    .bind(holder.0)
    .bind(holder.1)
    .bind(reason.map(|reason| reason.replace('\0', "\u{fffd}")))
    .execute(executor)
    .await?;
    Ok(())
}

/// The file is in the object store and verified: `stored`, and, as nobody has to agree first, `published`.
pub async fn mark_published<'e>(
    executor: impl PgExecutor<'e>,
    id: RecordingId,
    object_key: &str,
    size_bytes: u64,
    sha256: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "update recordings set state = 'published', object_key = $2, size_bytes = $3, sha256 = $4, error = null, \
             upload_id = null, parts = '[]', bytes_done = $3, stored_at = now(), updated_at = now() \
         where id = $1 and state = 'downloading'",
    )
    .bind(id)
    .bind(object_key)
    .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
    .bind(sha256)
    .execute(executor)
    .await?;
    Ok(())
}

/// The import is given up for this reason: `missing` where the provider never had it, else `failed`.
pub async fn give_up<'e>(
    executor: impl PgExecutor<'e>,
    id: RecordingId,
    holder: Holder,
    missing: bool,
    reason: &str,
) -> sqlx::Result<bool> {
    let done = sqlx::query(AssertSqlSafe(format!(
        "update recordings set state = case when $4 then 'missing' else 'failed' end, error = $5, upload_id = null, \
             parts = '[]', bytes_done = 0, source_etag = null, handed_over_at = null, updated_at = now() \
         where id = $1 and state in ('available', 'downloading') and {HELD}"
    )))
    .bind(id)
    .bind(holder.0)
    .bind(holder.1)
    .bind(missing)
    .bind(reason.replace('\0', "\u{fffd}"))
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What failed, or never came, is tried again by hand: fetched, where its address is known, else waited for. `None` when it is
/// in no state for that.
pub async fn retry<'e>(executor: impl PgExecutor<'e>, id: RecordingId) -> sqlx::Result<Option<Recording>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update recordings set state = case when source_url is null then 'expected' else 'available' end, error = null, \
             deadline_at = now() + make_interval(hours => $2), updated_at = now() \
         where id = $1 and state in ('failed', 'missing') returning {COLUMNS}"
    )))
    .bind(id)
    .bind(i32::try_from(DEADLINE_HOURS).unwrap_or(24))
    .fetch_optional(executor)
    .await
}

/// A recording that changed state in a sweep.
#[derive(Debug, Clone, FromRow)]
pub struct Swept {
    pub id: RecordingId,
    pub session_id: SessionId,
}

/// Recordings that can be fetched and for which no import waits or runs.
pub async fn list_without_import<'e>(
    executor: impl PgExecutor<'e>,
    limit: i64,
) -> sqlx::Result<Vec<(TenantId, RecordingId)>> {
    sqlx::query_as(
        "select r.tenant_id, r.id from recordings r where r.state in ('available', 'downloading') and not exists ( \
             select from jobs j where j.kind = 'import-recording' and j.unique_key = r.id::text \
             and j.state in ('available', 'running')) \
         order by r.id limit $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Recordings whose import became a dead letter without saying so here (its worker died again and again, or it ran
/// too long) are `failed`, so that the sweep does not start what cannot succeed for ever.
pub async fn fail_dead_imports<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<Vec<Swept>> {
    sqlx::query_as(
        "update recordings r set state = 'failed', error = coalesce(dead.error, 'the import is a dead letter'), \
             updated_at = now() \
         from (select distinct on (unique_key) unique_key, finished_at, errors -> -1 ->> 'error' as error from jobs \
               where queue = 'live' and state = 'dead' and kind = 'import-recording' \
               order by unique_key, finished_at desc) as dead \
         where r.state in ('available', 'downloading') and dead.unique_key = r.id::text \
           and dead.finished_at >= r.updated_at and not exists ( \
             select from jobs j where j.kind = 'import-recording' and j.unique_key = r.id::text \
             and j.state in ('available', 'running')) \
         returning r.id, r.session_id",
    )
    .fetch_all(executor)
    .await
}

/// Recordings that never came are `missing`.
pub async fn mark_missing<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<Vec<Swept>> {
    sqlx::query_as(
        "update recordings set state = 'missing', updated_at = now(), \
             error = case when upload_id is null then 'the provider never announced it' else 'its upload was not finished' end \
         where state = 'expected' and deadline_at < now() returning id, session_id",
    )
    .fetch_all(executor)
    .await
}

/// Those of `upload_ids` that belong to an import.
pub async fn uploads_in_use<'e>(executor: impl PgExecutor<'e>, upload_ids: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select upload_id from recordings where upload_id = any($1) and state in ('expected', 'available', 'downloading')",
    )
    .bind(upload_ids)
    .fetch_all(executor)
    .await
}

/// Recordings kept longer than their tenant wants are `deleted`; the object is deleted after that, see
/// [`list_undeleted_objects`]. Returns how many there were.
pub async fn expire<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update recordings set state = 'deleted', source_url = null, updated_at = now() where id in ( \
             select r.id from recordings r join tenants t on t.id = r.tenant_id \
             where r.state in ('stored', 'published') and t.recording_retention_days is not null \
               and r.stored_at < now() - make_interval(days => t.recording_retention_days) \
             order by r.stored_at limit $1)",
    )
    .bind(limit)
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// Objects of deleted recordings that the store may still have.
pub async fn list_undeleted_objects<'e>(
    executor: impl PgExecutor<'e>,
    limit: i64,
) -> sqlx::Result<Vec<(RecordingId, String)>> {
    sqlx::query_as(
        "select id, object_key from recordings where state = 'deleted' and object_key is not null order by id limit $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// The object store has it no more.
pub async fn forget_object<'e>(executor: impl PgExecutor<'e>, id: RecordingId) -> sqlx::Result<()> {
    sqlx::query("update recordings set object_key = null, updated_at = now() where id = $1 and state = 'deleted'")
        .bind(id)
        .execute(executor)
        .await?;
    Ok(())
}
