//! Queues as a whole: how they stand, and pauses. Counts are bounded, so that a look costs the same with a million jobs.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sqlx::{FromRow, PgExecutor};

use crate::jobs::Queue;

/// Jobs are counted up to here.
pub const COUNTED: i64 = 10_000;

/// A number of jobs, or "at least [`COUNTED`]".
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct Count(i64);

impl Count {
    /// At most [`COUNTED`].
    pub fn value(self) -> i64 {
        self.0.min(COUNTED)
    }

    /// Whether there are more.
    pub fn is_more(self) -> bool {
        self.0 > COUNTED
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.value(), if self.is_more() { "+" } else { "" })
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

/// What an operator asks first about a queue.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct QueueState {
    pub queue: String,
    pub paused_at: Option<DateTime<Utc>>,
    pub paused_by: Option<String>,
    pub due: Count,
    /// Due later.
    pub scheduled: Count,
    pub running: Count,
    pub dead: Count,
    /// Seconds that the first due job has been due.
    pub oldest_due_seconds: Option<f64>,
}

impl QueueState {
    /// Names of the counts that are lower bounds.
    pub fn at_least(&self) -> Vec<&'static str> {
        [("due", self.due), ("scheduled", self.scheduled), ("running", self.running), ("dead", self.dead)]
            .into_iter()
            .filter_map(|(name, count)| count.is_more().then_some(name))
            .collect()
    }
}

/// One row per queue, by name.
pub async fn queue_states(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<QueueState>> {
    // One index range per priority, as in `ledger::due_head`.
    sqlx::query_as(
        "select q.queue, s.paused_at, s.paused_by, \
             (select count(*) from (select from generate_series(0, 3) as p (priority) cross join lateral ( \
                 select from jobs where state = 'available' and queue = q.queue and priority = p.priority \
                 and run_at <= now() order by run_at limit $2) as j limit $2) as n) as due, \
             (select count(*) from (select from generate_series(0, 3) as p (priority) cross join lateral ( \
                 select from jobs where state = 'available' and queue = q.queue and priority = p.priority \
                 and run_at > now() order by run_at limit $2) as j limit $2) as n) as scheduled, \
             (select count(*) from (select from jobs where state = 'running' and queue = q.queue \
                 order by lease_until limit $2) as n) as running, \
             (select count(*) from (select from jobs where state = 'dead' and queue = q.queue order by id limit $2) as n) \
                 as dead, \
             (select extract(epoch from now() - min(j.run_at))::float8 from generate_series(0, 3) as p (priority) \
                 cross join lateral (select run_at from jobs where state = 'available' and queue = q.queue \
                 and priority = p.priority and run_at <= now() order by run_at limit 1) as j) as oldest_due_seconds \
         from unnest($1::text[]) as q (queue) left join queue_states as s using (queue) order by q.queue",
    )
    .bind(Queue::ALL.map(Queue::as_str))
    .bind(COUNTED + 1)
    .fetch_all(db)
    .await
}

/// From now on no worker claims a job of this queue; what runs goes on. A queue that is paused stays as it is.
pub async fn pause(db: impl PgExecutor<'_>, queue: Queue, by: &str) -> sqlx::Result<()> {
    sqlx::query(
        "with made as ( \
             insert into queue_states as s (queue, paused_at, paused_by) values ($1, now(), $2) \
             on conflict (queue) do update set paused_at = excluded.paused_at, paused_by = excluded.paused_by \
             where s.paused_at is null returning s.queue) \
         select from made cross join lateral audit_write(null, 'queue.paused', queue, '{}', 'operator:' || $2) as noted",
    )
    .bind(queue.as_str())
    .bind(by)
    .execute(db)
    .await?;
    Ok(())
}

/// Jobs of this queue are claimed again. The relay finds what waits within its quarter of a second.
pub async fn resume(db: impl PgExecutor<'_>, queue: Queue, by: &str) -> sqlx::Result<()> {
    sqlx::query(
        "with made as ( \
             update queue_states set paused_at = null, paused_by = null where queue = $1 and paused_at is not null \
             returning queue) \
         select from made cross join lateral audit_write(null, 'queue.resumed', queue, '{}', 'operator:' || $2) as noted",
    )
    .bind(queue.as_str())
    .bind(by)
    .execute(db)
    .await?;
    Ok(())
}
