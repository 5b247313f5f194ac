//! The worker's side of the `jobs` table: claim, renew, finish, give back, rescue. Every time is the
//! database's; every write after a claim is refused when the lease's fencing token is an old one.
//!
//! Statements on held leases say `state || ''`, so that no plan goes by the index of running jobs: it looks small
//! to the planner, and comparing all running jobs with all held ones grows with the square of their number.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::redis::Entry;
use crate::{
    domain::ids::{JobId, TenantId},
    jobs::Queue,
};

/// Starts that may end with the death of the worker before the job is a dead letter: one job must not
/// take down worker after worker.
pub const MAX_CRASHES: i32 = 3;

/// Failures kept per job.
const ERRORS_KEPT: i32 = 10;

/// A job that this worker may run until its lease ends.
#[derive(Debug, Clone, FromRow)]
pub struct Claimed {
    pub id: JobId,
    pub tenant_id: Option<TenantId>,
    pub kind: String,
    pub payload: serde_json::Value,
    /// This start's number, from 1.
    pub attempt: i32,
    pub max_attempts: i32,
    /// Earlier starts that ended with the death of their worker.
    pub crashes: i32,
    pub lease_token: i64,
    pub traceparent: Option<String>,
    /// How long it was due before it was claimed.
    pub waited_seconds: f64,
    /// It has waited for its turn (`rates`): it needs no other.
    pub has_turn: bool,
}

impl Claimed {
    pub fn lease(&self) -> Lease {
        Lease { id: self.id, token: self.lease_token }
    }
}

/// The right to write a job's outcome, until somebody else claims the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: JobId,
    pub token: i64,
}

/// Claims those of `ids` that are due, of a kind that this process can run, and in no paused queue. Others are left.
pub async fn claim(
    pool: &PgPool,
    ids: &[Uuid],
    kinds: &[&str],
    worker: &str,
    lease: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as(
        "with picked as ( \
             select id, turn_at from jobs \
             where id = any($1) and state = 'available' and run_at <= now() and kind = any($2) \
             and queue <> all (array(select queue from queue_states where paused_at is not null)) \
             order by id for update skip locked) \
         update jobs set state = 'running', attempt = attempt + 1, lease_token = lease_token + 1, \
             lease_until = now() + make_interval(secs => $3), worker = $4, started_at = now(), cancel_requested = false, turn_at = null \
         from picked where jobs.id = picked.id \
         returning jobs.id, tenant_id, kind, payload, attempt, max_attempts, crashes, lease_token, traceparent, \
             extract(epoch from now() - run_at)::float8 as waited_seconds, picked.turn_at is not null as has_turn",
    )
    .bind(ids)
    .bind(kinds)
    .bind(lease.as_secs_f64())
    .bind(worker)
    .fetch_all(pool)
    .await
}

/// Puts jobs of kinds that this (older) process does not know aside for a newer one, without an attempt; after a
/// day they are dead letters. Returns how many there were.
pub async fn put_aside_unknown(pool: &PgPool, ids: &[Uuid], kinds: &[&str]) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update jobs set run_at = now() + interval '15 seconds', \
             state = case when created_at < now() - interval '1 day' then 'dead' else state end, \
             finished_at = case when created_at < now() - interval '1 day' then now() end, \
             errors = case when created_at < now() - interval '1 day' \
                 then errors || jsonb_build_object('at', now(), 'attempt', attempt, \
                     'error', 'no worker knew this kind of job for a day') else errors end \
         where id = any($1) and state = 'available' and run_at <= now() and kind <> all($2)",
    )
    .bind(ids)
    .bind(kinds)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Lets due jobs of these kinds wait a little, without an attempt: as many of them run here as may.
pub async fn postpone(pool: &PgPool, ids: &[Uuid], kinds: &[&str], wait: Duration) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update jobs set run_at = now() + make_interval(secs => $3) \
         where id = any($1) and state = 'available' and run_at <= now() and kind = any($2)",
    )
    .bind(ids)
    .bind(kinds)
    .bind(wait.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Extends the leases; a lease that is not in the answer is lost. The flag asks to cancel the run.
pub async fn renew(pool: &PgPool, leases: &[Lease], lease: Duration) -> sqlx::Result<Vec<(JobId, bool)>> {
    let (ids, tokens) = columns(leases);
    sqlx::query_as(
        "update jobs set lease_until = now() + make_interval(secs => $3) \
         from unnest($1::uuid[], $2::bigint[]) as held (id, token) \
         where jobs.id = held.id and jobs.lease_token = held.token and jobs.state || '' = 'running' \
         returning jobs.id, jobs.cancel_requested",
    )
    .bind(ids)
    .bind(tokens)
    .bind(lease.as_secs_f64())
    .fetch_all(pool)
    .await
}

/// Marks done those of `leases` that are still valid and returns them. In a handler's transaction this
/// is what makes effect and outcome one: an empty answer means that the transaction must not commit.
pub async fn complete<'e>(executor: impl PgExecutor<'e>, leases: &[Lease]) -> sqlx::Result<Vec<JobId>> {
    let (ids, tokens) = columns(leases);
    sqlx::query_scalar(
        "update jobs set state = 'done', finished_at = now(), lease_until = null \
         from unnest($1::uuid[], $2::bigint[]) as held (id, token) \
         where jobs.id = held.id and jobs.lease_token = held.token and jobs.state || '' = 'running' \
         returning jobs.id",
    )
    .bind(ids)
    .bind(tokens)
    .fetch_all(executor)
    .await
}

/// Those of `leases` whose job is done under this very lease: a commit came through, and only its answer was lost.
pub async fn done_under(pool: &PgPool, leases: &[Lease]) -> sqlx::Result<Vec<JobId>> {
    let (ids, tokens) = columns(leases);
    sqlx::query_scalar(
        "select jobs.id from unnest($1::uuid[], $2::bigint[]) as held (id, token) \
         join jobs on jobs.id = held.id and jobs.lease_token = held.token where jobs.state = 'done'",
    )
    .bind(ids)
    .bind(tokens)
    .fetch_all(pool)
    .await
}

/// How a run that did not succeed ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Unfinished {
    /// Failed; again after the wait, or a dead letter when the attempts are used up.
    Retry {
        error: String,
        wait: Duration,
    },
    /// Not yet; again after the wait, no attempt used.
    Snooze {
        reason: Option<String>,
        wait: Duration,
    },
    /// Will never succeed: a dead letter at once.
    Fail {
        error: String,
    },
    Cancelled,
}

/// Writes that outcome; a job that somebody cancelled meanwhile does not wait for another start. The job's new
/// state, or `None` when the lease was lost.
pub async fn unfinished<'e>(
    executor: impl PgExecutor<'e>,
    lease: Lease,
    outcome: &Unfinished,
) -> sqlx::Result<Option<String>> {
    let (next, used, error, wait) = match outcome {
        Unfinished::Retry { error, wait } => ("available", 0, Some(error.as_str()), *wait),
        Unfinished::Snooze { reason, wait } => ("available", 1, reason.as_deref(), *wait),
        Unfinished::Fail { error } => ("dead", 0, Some(error.as_str()), Duration::ZERO),
        Unfinished::Cancelled => ("cancelled", 0, None, Duration::ZERO),
    };
    sqlx::query_scalar(
        "with next as ( \
             select id, case when $3 = 'available' and cancel_requested then 'cancelled' \
                 when $3 = 'available' and $4 = 0 and attempt >= max_attempts then 'dead' else $3 end as state \
             from jobs where id = $1 and lease_token = $2 and state = 'running' for update) \
         update jobs set state = next.state, attempt = attempt - $4, \
             run_at = case when next.state = 'available' then now() + make_interval(secs => $5) else run_at end, \
             finished_at = case when next.state <> 'available' then now() end, \
             lease_until = null, worker = null, \
             errors = case when $6::text is null then errors else \
                 (select coalesce(jsonb_agg(e order by n), '[]') from jsonb_array_elements( \
                     errors || jsonb_build_object('at', now(), 'attempt', attempt, 'error', $6::text)) \
                     with ordinality as kept (e, n) where n > jsonb_array_length(errors) + 1 - $7) end \
         from next where jobs.id = next.id returning jobs.state",
    )
    .bind(lease.id)
    .bind(lease.token)
    .bind(next)
    .bind(used)
    .bind(wait.as_secs_f64())
    // Postgres text cannot hold NUL; errors may quote foreign input.
    .bind(error.map(|e| e.replace('\0', "\u{fffd}")))
    .bind(ERRORS_KEPT)
    .fetch_optional(executor)
    .await
}

/// Gives unfinished jobs back at once, as if they had never been started: an orderly stop. Cancelled ones end.
pub async fn release(pool: &PgPool, leases: &[Lease]) -> sqlx::Result<u64> {
    let (ids, tokens) = columns(leases);
    let done = sqlx::query(
        "update jobs set state = case when cancel_requested then 'cancelled' else 'available' end, \
             finished_at = case when cancel_requested then now() end, \
             attempt = attempt - 1, run_at = now(), lease_until = null, worker = null \
         from unnest($1::uuid[], $2::bigint[]) as held (id, token) \
         where jobs.id = held.id and jobs.lease_token = held.token and jobs.state || '' = 'running'",
    )
    .bind(ids)
    .bind(tokens)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// A job whose worker died.
#[derive(Debug, Clone, FromRow)]
pub struct Rescued {
    pub id: JobId,
    pub kind: String,
    pub state: String,
    pub crashes: i32,
}

/// Takes jobs whose lease ran out back into the queue; the crash is counted apart from attempts, and
/// after [`MAX_CRASHES`] the job is a dead letter.
pub async fn rescue(pool: &PgPool) -> sqlx::Result<Vec<Rescued>> {
    sqlx::query_as(
        "with expired as ( \
             select id from jobs where state = 'running' and lease_until < now() \
             order by lease_until limit 1000 for update skip locked) \
         update jobs set crashes = crashes + 1, attempt = attempt - 1, lease_until = null, worker = null, \
             lease_token = lease_token + 1, \
             state = case when cancel_requested then 'cancelled' when crashes + 1 >= $1 then 'dead' else 'available' end, \
             run_at = now(), \
             finished_at = case when cancel_requested or crashes + 1 >= $1 then now() end, \
             errors = errors || jsonb_build_object('at', now(), 'attempt', attempt, \
                 'error', 'crashed: the worker ' || coalesce(worker, '?') || ' died or lost its connection while it ran') \
         from expired where jobs.id = expired.id \
         returning jobs.id, jobs.kind, jobs.state, jobs.crashes",
    )
    .bind(MAX_CRASHES)
    .fetch_all(pool)
    .await
}

/// The first `limit` due jobs of a queue, by priority, then by due time. None while the queue is paused.
pub async fn due_head(pool: &PgPool, queue: Queue, limit: i64) -> sqlx::Result<Vec<Entry>> {
    // One index range per priority: future rows of a high priority are never walked through.
    let rows: Vec<(Uuid, i16)> = sqlx::query_as(
        "select due.id, due.priority from generate_series(0, 3) as p (priority) cross join lateral ( \
             select id, priority, run_at from jobs \
             where state = 'available' and queue = $1 and priority = p.priority and run_at <= now() \
             order by run_at limit $2) as due \
         where not exists (select from queue_states where queue = $1 and paused_at is not null) \
         order by due.priority, due.run_at limit $2",
    )
    .bind(queue.as_str())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(id, priority)| Entry { id, priority }).collect())
}

/// Deletes up to `limit` jobs that were done or cancelled longer than `age` ago. Dead letters stay.
pub async fn prune(connection: &mut PgConnection, age: Duration, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from jobs where id in ( \
             select id from jobs where state in ('done', 'cancelled') \
             and finished_at < now() - make_interval(secs => $1) order by finished_at limit $2)",
    )
    .bind(age.as_secs_f64())
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

fn columns(leases: &[Lease]) -> (Vec<Uuid>, Vec<i64>) {
    leases.iter().map(|lease| (lease.id.0, lease.token)).unzip()
}
