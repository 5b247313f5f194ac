//! A ledger with a long past: does it stay as fast as a young one, and is what is past its retention pruned in steps that
//! stay short.

use std::time::{Duration, Instant};

use shared::queue::ledger;

use crate::{
    figures::{number, percentile},
    ours::{self, Batch},
    plans::{self, Plan},
    rig::Rig,
};

/// Rows per statement that fills the past.
const FILL: usize = 500_000;
/// As the clean-up does it.
const PRUNE_STEP: i64 = 5_000;
const PRUNE_STEPS: usize = 40;

/// Drains with and without a past.
#[derive(Debug, serde::Serialize)]
pub struct History {
    pub rows: usize,
    /// Of the table and its indexes.
    pub bytes: i64,
    pub without: Batch,
    pub with: Batch,
    pub plans: Vec<Plan>,
    /// Of steps of [`PRUNE_STEP`] rows, in milliseconds.
    pub prune_p50: f64,
    pub prune_max: f64,
}

/// Drains `jobs` beside nothing, then beside `rows` finished ones.
pub async fn measure(rig: &Rig, rows: usize, jobs: usize) -> anyhow::Result<History> {
    let without = ours::drain(rig, jobs, 0, async || Ok(())).await?;
    rig.clear().await?;
    fill(rig, rows).await?;
    let bytes = sqlx::query_scalar("select pg_total_relation_size('jobs')").fetch_one(&rig.pool).await?;
    let mut plans = Vec::new();
    let look = async || {
        plans = plans::explain(rig).await?;
        Ok(())
    };
    let with = ours::drain_beside(rig, jobs, 0, look).await?;
    let mut steps = Vec::new();
    for _ in 0..PRUNE_STEPS.min(rows / PRUNE_STEP as usize) {
        let started = Instant::now();
        ledger::prune(&mut *rig.pool.acquire().await?, Duration::from_secs(3_600), PRUNE_STEP).await?;
        steps.push(started.elapsed().as_secs_f64() * 1e3);
    }
    rig.clear().await?;
    steps.sort_by(f64::total_cmp);
    let (prune_p50, prune_max) = (percentile(&steps, 50.0), percentile(&steps, 100.0));
    Ok(History { rows, bytes, without, with, plans, prune_p50, prune_max })
}

/// Finished jobs as they are after months: ids in the order of their time, each with the columns that a run leaves.
async fn fill(rig: &Rig, rows: usize) -> anyhow::Result<()> {
    for from in (0..rows).step_by(FILL) {
        sqlx::query(
            "insert into jobs (id, queue, kind, payload, state, attempt, max_attempts, lease_token, worker, \
                 run_at, created_at, started_at, finished_at) \
             select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') \
                     || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid, \
                 'live', 'process-webhook', jsonb_build_object('webhook_event_id', md5(n::text)::uuid), 'done', 1, 10, 1, \
                 '4711-0199abcdef0123456789abcdef012345', at, at, at, at \
             from (select n, now() - interval '180 days' + n * (interval '170 days' / $3) as at \
                 from generate_series($1, $2) as n) as past",
        )
        .bind(from as i64)
        .bind((from + FILL).min(rows) as i64 - 1)
        .bind(rows as f64)
        .execute(&rig.pool)
        .await?;
    }
    sqlx::query("vacuum (analyze) jobs").execute(&rig.owner).await?;
    sqlx::query("checkpoint").execute(&rig.owner).await?;
    Ok(())
}

impl History {
    /// Rows of the report.
    pub fn lines(&self) -> Vec<(String, String)> {
        let drained = |batch: &Batch| format!("{}, {}", number(batch.per_second()), number(batch.cpu_per_job()));
        let rows = number(self.rows as f64);
        let gib = number(self.bytes as f64 / f64::from(1 << 30));
        let mut lines = vec![
            (format!("drain of {} beside nothing: jobs/s, CPU µs per job", self.without.jobs), drained(&self.without)),
            (format!("the same beside {rows} finished jobs ({gib} GiB)"), drained(&self.with)),
            (
                "CPU per job, with a past against without".to_owned(),
                format!("{:.2} ×", self.with.cpu_per_job() / self.without.cpu_per_job()),
            ),
            (
                format!("pruning {PRUNE_STEP} of them, p50 / max ms"),
                format!("{} / {}", number(self.prune_p50), number(self.prune_max)),
            ),
        ];
        lines.extend(self.plans.iter().map(|plan| plan.line("with that past")));
        lines
    }
}
