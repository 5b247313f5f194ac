//! Functions on the table `schedules`: what the schedulers run, as they wrote it down, and runs by hand.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgExecutor, PgPool};

use crate::{
    domain::ids::JobId,
    jobs,
    queue::{Enqueued, Tx},
};

/// A schedule, as its scheduler has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub name: &'static str,
    pub cron: String,
    /// IANA name.
    pub zone: &'static str,
    /// False where the configuration switches it off.
    pub enabled: bool,
    pub next_run: Option<DateTime<Utc>>,
}

/// A schedule with its runs.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct ScheduleRow {
    pub name: String,
    pub cron: String,
    pub zone: String,
    pub enabled: bool,
    pub next_run: Option<DateTime<Utc>>,
    /// The newest tick that became a job.
    pub last_tick: Option<DateTime<Utc>>,
    pub last_job: Option<JobId>,
    /// The newest run by hand.
    pub asked_at: Option<DateTime<Utc>>,
    pub asked_by: Option<String>,
    pub asked_job: Option<JobId>,
}

/// The database's time.
pub async fn now(db: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select now()").fetch_one(db).await
}

/// Writes down what changed. Schedules that are not among these, and that nobody has run for a day, are forgotten.
pub async fn write(pool: &PgPool, schedules: &[Known]) -> sqlx::Result<()> {
    let names: Vec<_> = schedules.iter().map(|s| s.name).collect();
    sqlx::query(
        "insert into schedules as s (name, cron, zone, enabled, next_run) \
         select * from unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::timestamptz[]) as known (name) \
         order by known.name \
         on conflict (name) do update set cron = excluded.cron, zone = excluded.zone, enabled = excluded.enabled, \
             next_run = excluded.next_run, updated_at = now() \
         where (s.cron, s.zone, s.enabled, s.next_run) is distinct from \
             (excluded.cron, excluded.zone, excluded.enabled, excluded.next_run)",
    )
    .bind(&names)
    .bind(schedules.iter().map(|s| s.cron.as_str()).collect::<Vec<_>>())
    .bind(schedules.iter().map(|s| s.zone).collect::<Vec<_>>())
    .bind(schedules.iter().map(|s| s.enabled).collect::<Vec<_>>())
    .bind(schedules.iter().map(|s| s.next_run).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    sqlx::query(
        "delete from schedules where name <> all ($1) and updated_at < now() - interval '1 day' \
         and (next_run is null or next_run < now() - interval '1 day')",
    )
    .bind(&names)
    .execute(pool)
    .await?;
    Ok(())
}

/// All, by name; empty before a scheduler has run.
pub async fn list(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<ScheduleRow>> {
    sqlx::query_as(
        "select s.name, s.cron, s.zone, s.enabled, s.next_run, t.tick as last_tick, t.job_id as last_job, \
             s.asked_at, s.asked_by, s.asked_job \
         from schedules s left join lateral ( \
             select tick, job_id from schedule_ticks where schedule = s.name and job_id is not null \
             order by tick desc limit 1) t on true \
         order by s.name",
    )
    .fetch_all(db)
    .await
}

/// Enqueues a schedule's job now, whether or not the schedule is switched on. `None`: there is no such schedule.
pub async fn run_now(tx: &mut Tx, name: &str, by: &str) -> sqlx::Result<Option<Enqueued>> {
    // A schedule is named after its job, which needs no data; a test of the scheduler holds this.
    let Some(kind) = jobs::find(name) else { return Ok(None) };
    let Ok(job) = (kind.read)(serde_json::json!({})) else { return Ok(None) };
    let known = sqlx::query("select from schedules where name = $1 for update").bind(name).execute(&mut **tx).await?;
    if known.rows_affected() == 0 {
        return Ok(None);
    }
    let enqueued = tx.enqueue_named(kind, &job, Duration::ZERO).await?;
    sqlx::query(
        "with asked as ( \
             update schedules set asked_at = now(), asked_by = $2, asked_job = $3 where name = $1 returning name) \
         select from asked cross join lateral \
             audit_write(null, 'schedule.run', name, '{}', 'operator:' || $2) as noted",
    )
    .bind(name)
    .bind(by)
    .bind(enqueued.job_id())
    .execute(&mut **tx)
    .await?;
    Ok(Some(enqueued))
}
