//! Rates of job starts that hold over all workers. Who claims a job of a limited kind takes the next free turn for it;
//! a turn that is still to come is written to the job, which goes back and waits for it, without an attempt. So each
//! job is put off once at most, in the order in which they were claimed, however long the line is.

use std::{collections::HashSet, time::Duration};

use sqlx::PgPool;

use super::ledger::Lease;
use crate::domain::ids::JobId;

/// Takes a turn for each of these jobs, `interval` apart from one another and from all before. Returns those that may
/// start now; the others are given back.
pub async fn take_turns(
    pool: &PgPool,
    name: &str,
    interval: Duration,
    leases: &[Lease],
) -> sqlx::Result<HashSet<JobId>> {
    let interval = interval.as_secs_f64();
    let mut tx = pool.begin().await?;
    // The wait for the first turn, in seconds by the database's clock. The row is held until the jobs have their turns.
    let first: f64 = sqlx::query_scalar(
        "insert into rates as r (name, next_at) values ($1, now() + make_interval(secs => $2 * $3)) \
         on conflict (name) do update set next_at = greatest(r.next_at, now()) + make_interval(secs => $2 * $3) \
         returning extract(epoch from next_at - now())::float8 - $2 * $3",
    )
    .bind(name)
    .bind(interval)
    .bind(leases.len() as f64)
    .fetch_one(&mut *tx)
    .await?;
    let waits = leases.iter().zip(0_u32..).map(|(lease, place)| (lease, first + interval * f64::from(place)));
    let (now, later): (Vec<_>, Vec<_>) = waits.partition(|(_, wait)| *wait < 0.001);
    if !later.is_empty() {
        sqlx::query(
            "update jobs set state = case when cancel_requested then 'cancelled' else 'available' end, \
                 finished_at = case when cancel_requested then now() end, \
                 attempt = attempt - 1, lease_until = null, worker = null, \
                 run_at = now() + make_interval(secs => turn.wait), turn_at = now() + make_interval(secs => turn.wait) \
             from unnest($1::uuid[], $2::bigint[], $3::float8[]) as turn (id, token, wait) \
             where jobs.id = turn.id and jobs.lease_token = turn.token and jobs.state || '' = 'running'",
        )
        .bind(later.iter().map(|(lease, _)| lease.id.0).collect::<Vec<_>>())
        .bind(later.iter().map(|(lease, _)| lease.token).collect::<Vec<_>>())
        .bind(later.iter().map(|(_, wait)| *wait).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(now.into_iter().map(|(lease, _)| lease.id).collect())
}
