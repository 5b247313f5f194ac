//! Functions on the table `schedule_ticks`.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::domain::ids::JobId;

/// The database's time, and the newest tick of each of `schedules` that has one.
pub async fn newest(
    pool: &PgPool,
    schedules: &[&str],
) -> sqlx::Result<(DateTime<Utc>, HashMap<String, DateTime<Utc>>)> {
    let rows: Vec<(String, Option<DateTime<Utc>>, DateTime<Utc>)> = sqlx::query_as(
        "select s.schedule, t.tick, now() \
         from unnest($1::text[]) as s (schedule) \
         left join lateral ( \
             select tick from schedule_ticks where schedule = s.schedule order by tick desc limit 1) t on true \
         union all select '', null, now()",
    )
    .bind(schedules)
    .fetch_all(pool)
    .await?;
    // The extra row tells the time even where there are no schedules.
    let now = rows.last().map(|row| row.2).ok_or(sqlx::Error::RowNotFound)?;
    let newest = rows.into_iter().filter_map(|(schedule, tick, _)| Some((schedule, tick?))).collect();
    Ok((now, newest))
}

/// Marks from when on a schedule's ticks count: a row without a job.
pub async fn start(db: impl PgExecutor<'_>, schedule: &str, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query("insert into schedule_ticks (schedule, tick) values ($1, $2) on conflict do nothing")
        .bind(schedule)
        .bind(at)
        .execute(db)
        .await?;
    Ok(())
}

/// Waits until no other transaction runs ticks of this schedule, and keeps others waiting until
/// this one ends.
pub async fn lock(tx: &mut PgConnection, schedule: &str) -> sqlx::Result<()> {
    sqlx::query("select 1 from schedule_ticks where schedule = $1 order by tick desc limit 1 for update")
        .bind(schedule)
        .execute(tx)
        .await?;
    Ok(())
}

/// Whether this tick is the caller's: nobody has run it, nor a later one.
pub async fn insert(tx: &mut PgConnection, schedule: &str, tick: DateTime<Utc>) -> sqlx::Result<bool> {
    let inserted = sqlx::query(
        "insert into schedule_ticks (schedule, tick) \
         select $1, $2 \
         where not exists (select from schedule_ticks where schedule = $1 and tick >= $2) \
         on conflict do nothing",
    )
    .bind(schedule)
    .bind(tick)
    .execute(tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Writes down which job a tick became.
pub async fn update_job(tx: &mut PgConnection, schedule: &str, tick: DateTime<Utc>, job: JobId) -> sqlx::Result<()> {
    sqlx::query("update schedule_ticks set job_id = $3 where schedule = $1 and tick = $2")
        .bind(schedule)
        .bind(tick)
        .bind(job)
        .execute(tx)
        .await?;
    Ok(())
}

/// Deletes rows older than `days`, except each schedule's newest: it tells what was missed. Returns
/// how many.
pub async fn delete_older_than(db: impl PgExecutor<'_>, days: i32) -> sqlx::Result<u64> {
    let deleted = sqlx::query(
        "delete from schedule_ticks t \
         where t.tick < now() - make_interval(days => $1) \
         and exists (select from schedule_ticks newer where newer.schedule = t.schedule and newer.tick > t.tick)",
    )
    .bind(days)
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
