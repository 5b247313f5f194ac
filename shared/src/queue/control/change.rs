//! Jobs tried again, cancelled, discarded. Who did it is kept in the job's history.

use sqlx::{Connection as _, FromRow, PgConnection};
use uuid::Uuid;

use super::{JobDetail, JobState, detail_columns};
use crate::{domain::ids::JobId, jobs::Queue};

/// Dead letters that one step of [`retry_dead`] tries again.
pub const RETRY_STEP: i64 = 500;

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The job as it is now.
    Made(Box<JobDetail>),
    /// Not possible in the state that the job is in.
    Refused(JobState),
    /// A job of the same kind and unique key waits or runs already; nothing was changed.
    DuplicateOf(JobId),
    NotFound,
}

/// A line of the audit log for each job in `made`, by the person in `$2`.
macro_rules! audited {
    ($action:literal) => {
        concat!(
            " from made cross join lateral audit_write(tenant_id, '",
            $action,
            "', id::text, jsonb_build_object('kind', jsonb_build_array(kind, kind)), 'operator:' || $2) as noted"
        )
    };
}

/// A line of the audit log: somebody enqueued this job by hand.
pub async fn note_enqueued(connection: &mut PgConnection, id: JobId, by: &str) -> sqlx::Result<()> {
    let sql = concat!("with made as (select * from jobs where id = $1) select", audited!("job.enqueued"));
    sqlx::query(sql).bind(id).bind(by).execute(connection).await?;
    Ok(())
}

/// The job is due now, with all of its attempts: a dead letter, a cancelled one, or one that waits for its time.
pub async fn retry(connection: &mut PgConnection, id: JobId, by: &str) -> sqlx::Result<Change> {
    let sql = concat!(
        "with made as (update jobs set state = 'available', run_at = now(), attempt = 0, crashes = 0, cancel_requested = false, \
             finished_at = null, worker = null, \
             errors = errors || jsonb_build_object('at', now(), 'attempt', attempt, 'note', 'tried again by ' || $2::text) \
         where id = $1 and state in ('dead', 'cancelled', 'available') returning *) select ",
        detail_columns!(),
        audited!("job.retried")
    );
    loop {
        // A savepoint, where the caller has a transaction: a duplicate does not end that.
        let mut tx = connection.begin().await?;
        let retried = sqlx::query_as(sql).bind(id).bind(by).fetch_optional(&mut *tx).await;
        if !retried.as_ref().err().is_some_and(is_duplicate) {
            let change = made_or_refused(&mut tx, id, retried?).await?;
            tx.commit().await?;
            return Ok(change);
        }
        tx.rollback().await?;
        let other = sqlx::query_scalar(
            "select other.id from jobs join jobs other using (kind, unique_key) \
             where jobs.id = $1 and other.id <> $1 and other.state in ('available', 'running')",
        );
        if let Some(other) = other.bind(id).fetch_optional(&mut *connection).await? {
            return Ok(Change::DuplicateOf(other));
        }
        // It has ended in this very moment.
    }
}

/// A waiting job ends at once. A running one is ended by its worker when it renews its lease, within a third of it,
/// and does not run again; where it ends by itself before, that outcome stands.
pub async fn cancel(connection: &mut PgConnection, id: JobId, by: &str) -> sqlx::Result<Change> {
    let sql = concat!(
        "with made as (update jobs set state = case state when 'available' then 'cancelled' else state end, \
             finished_at = case state when 'available' then now() end, \
             cancel_requested = state = 'running', \
             errors = case when state = 'running' and cancel_requested then errors else errors || \
                 jsonb_build_object('at', now(), 'attempt', attempt, 'note', 'cancelled by ' || $2::text) end \
         where id = $1 and state in ('available', 'running') returning *) select ",
        detail_columns!(),
        audited!("job.cancelled")
    );
    let cancelled = sqlx::query_as(sql).bind(id).bind(by).fetch_optional(&mut *connection).await?;
    made_or_refused(connection, id, cancelled).await
}

/// A dead letter that nobody will try again: it is cancelled, and cleaned up as such.
pub async fn discard(connection: &mut PgConnection, id: JobId, by: &str) -> sqlx::Result<Change> {
    let sql = concat!(
        "with made as (update jobs set state = 'cancelled', finished_at = now(), \
             errors = errors || jsonb_build_object('at', now(), 'attempt', attempt, 'note', 'discarded by ' || $2::text) \
         where id = $1 and state = 'dead' returning *) select ",
        detail_columns!(),
        audited!("job.discarded")
    );
    let discarded = sqlx::query_as(sql).bind(id).bind(by).fetch_optional(&mut *connection).await?;
    made_or_refused(connection, id, discarded).await
}

async fn made_or_refused(connection: &mut PgConnection, id: JobId, made: Option<JobDetail>) -> sqlx::Result<Change> {
    if let Some(job) = made {
        return Ok(Change::Made(Box::new(job)));
    }
    let state = sqlx::query_scalar("select state from jobs where id = $1").bind(id).fetch_optional(connection).await?;
    Ok(state.map_or(Change::NotFound, Change::Refused))
}

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadFilter {
    pub queue: Option<Queue>,
    pub kind: Option<String>,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Step {
    pub retried: i64,
    /// Left dead, because a job with the same unique key waits or runs already.
    pub skipped: i64,
    /// Where the next step goes on; `None` after the last.
    pub next: Option<JobId>,
}

/// Tries up to [`RETRY_STEP`] dead letters again, oldest first, those after `after`. Call it with the answer's `next` until
/// there is none: each dead letter comes once, even if it dies again meanwhile.
pub async fn retry_dead(
    connection: &mut PgConnection,
    filter: &DeadFilter,
    after: Option<JobId>,
    by: &str,
) -> sqlx::Result<Step> {
    // A job with the same unique key that comes in between makes the statement fail; the next one sees it.
    let mut tries = 3;
    loop {
        let mut tx = connection.begin().await?;
        match retry_dead_step(&mut tx, filter, after, by).await {
            Err(error) if is_duplicate(&error) && tries > 0 => tries -= 1,
            result => {
                let step = result?;
                tx.commit().await?;
                return Ok(step);
            }
        }
        tx.rollback().await?;
    }
}

async fn retry_dead_step(
    connection: &mut PgConnection,
    filter: &DeadFilter,
    after: Option<JobId>,
    by: &str,
) -> sqlx::Result<Step> {
    // Spelt out for each index that there is.
    let which = match (&filter.kind, filter.queue) {
        (Some(_), _) => "kind = $3 and ($4::text is null or queue = $4)",
        (None, Some(_)) => "$3::text is null and queue = $4",
        (None, None) => "$3::text is null and $4::text is null",
    };
    let sql = format!(
        "with picked as ( \
             select id, kind, unique_key from jobs where state = 'dead' and id > $1 and {which} \
             order by id limit $2 for update skip locked), \
         free as ( \
             select id from (select *, row_number() over (partition by kind, coalesce(unique_key, id::text) order by id) \
                 as n from picked) as numbered \
             where n = 1 and not exists (select from jobs other where other.kind = numbered.kind \
                 and other.unique_key = numbered.unique_key and other.state in ('available', 'running'))), \
         retried as ( \
             update jobs set state = 'available', run_at = now(), attempt = 0, crashes = 0, cancel_requested = false, \
                 finished_at = null, worker = null, errors = errors || \
                 jsonb_build_object('at', now(), 'attempt', attempt, 'note', 'tried again by ' || $5::text) \
             from free where jobs.id = free.id returning jobs.id, jobs.tenant_id, jobs.kind) \
         select (select count(*) from retried cross join lateral audit_write(tenant_id, 'job.retried', id::text, \
                 jsonb_build_object('kind', jsonb_build_array(kind, kind)), 'operator:' || $5) as noted) as retried, \
             (select count(*) from picked) - (select count(*) from retried) as skipped, \
             (select id from picked order by id offset $2 - 1) as next"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .bind(RETRY_STEP)
        .bind(&filter.kind)
        .bind(filter.queue.map(Queue::as_str))
        .bind(by)
        .fetch_one(connection)
        .await
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.constraint()) == Some("jobs_unique_key")
}
