//! A database transaction that can enqueue jobs: both are committed, or neither is.

use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{Dispatcher, Joint, redis::Entry};
use crate::{
    domain::ids::{JobId, TenantId},
    jobs::{Job, JobKind, NamedJob, Queue},
};

/// What became of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    Created(JobId),
    /// A job of this kind with the same unique key waits or runs already.
    DuplicateOf(JobId),
}

impl Enqueued {
    /// The job that will do it, old or new.
    pub fn job_id(self) -> JobId {
        match self {
            Self::Created(id) | Self::DuplicateOf(id) => id,
        }
    }
}

/// What a row of the ledger begins with.
struct Row<'a> {
    queue: Queue,
    kind: &'static str,
    priority: i16,
    max_attempts: i32,
    tenant: Option<TenantId>,
    unique_key: Option<&'a str>,
    payload: &'a serde_json::Value,
}

/// Use it like a connection (`&mut *tx`). Dropped without [`Tx::commit`], nothing happened.
pub struct Tx {
    tx: Transaction<'static, Postgres>,
    dispatcher: Dispatcher,
    due: Vec<(Queue, Entry)>,
    /// Where a commit hands it back to, instead of committing.
    pub(super) joint: Option<Joint>,
}

impl Tx {
    pub async fn begin(pool: &PgPool, dispatcher: &Dispatcher) -> sqlx::Result<Self> {
        Ok(Self { tx: pool.begin().await?, dispatcher: dispatcher.clone(), due: Vec::new(), joint: None })
    }

    /// Writes the job; it runs as soon as the transaction is committed.
    pub async fn enqueue<J: Job>(&mut self, job: &J) -> sqlx::Result<Enqueued> {
        self.insert(job, 0.0).await
    }

    /// Writes the job; it runs `delay` after now, by the database's clock.
    pub async fn enqueue_in<J: Job>(&mut self, job: &J, delay: std::time::Duration) -> sqlx::Result<Enqueued> {
        self.insert(job, delay.as_secs_f64()).await
    }

    /// The same for a job whose kind is known by name only.
    pub async fn enqueue_named(
        &mut self,
        kind: &JobKind,
        job: &NamedJob,
        delay: std::time::Duration,
    ) -> sqlx::Result<Enqueued> {
        let row = Row {
            queue: kind.queue,
            kind: kind.name,
            priority: kind.priority,
            max_attempts: kind.max_attempts,
            tenant: job.tenant_id,
            unique_key: job.unique_key.as_deref(),
            payload: &job.payload,
        };
        self.insert_row(row, delay.as_secs_f64()).await
    }

    async fn insert<J: Job>(&mut self, job: &J, delay_seconds: f64) -> sqlx::Result<Enqueued> {
        let payload = serde_json::to_value(job).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
        let unique_key = job.unique_key();
        let row = Row {
            queue: J::QUEUE,
            kind: J::NAME,
            priority: J::PRIORITY,
            max_attempts: J::MAX_ATTEMPTS,
            tenant: job.tenant_id(),
            unique_key: unique_key.as_deref(),
            payload: &payload,
        };
        self.insert_row(row, delay_seconds).await
    }

    async fn insert_row(&mut self, row: Row<'_>, delay_seconds: f64) -> sqlx::Result<Enqueued> {
        // Two rounds: between a conflict and the look-up the other job may have ended.
        loop {
            let id = JobId::new();
            let inserted = sqlx::query(
                "insert into jobs (id, tenant_id, queue, kind, payload, priority, max_attempts, unique_key, run_at) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9)) \
                 on conflict (kind, unique_key) where unique_key is not null and state in ('available', 'running') \
                 do nothing",
            )
            .bind(id)
            .bind(row.tenant)
            .bind(row.queue.as_str())
            .bind(row.kind)
            .bind(row.payload)
            .bind(row.priority)
            .bind(row.max_attempts)
            .bind(row.unique_key)
            .bind(delay_seconds)
            .execute(&mut *self.tx)
            .await?
            .rows_affected();
            if inserted == 1 {
                if delay_seconds <= 0.0 {
                    self.due.push((row.queue, Entry { id: id.0, priority: row.priority }));
                }
                metrics::counter!("jobs_enqueued_total", "kind" => row.kind).increment(1);
                return Ok(Enqueued::Created(id));
            }
            let existing: Option<JobId> = sqlx::query_scalar(
                "select id from jobs where kind = $1 and unique_key = $2 and state in ('available', 'running')",
            )
            .bind(row.kind)
            .bind(row.unique_key)
            .fetch_optional(&mut *self.tx)
            .await?;
            if let Some(id) = existing {
                return Ok(Enqueued::DuplicateOf(id));
            }
        }
    }

    /// Writes many jobs of one kind in one statement; those whose unique key waits or runs already
    /// are skipped. Returns how many were written.
    pub async fn enqueue_all<J: Job>(&mut self, jobs: &[J]) -> sqlx::Result<usize> {
        let mut ids = Vec::with_capacity(jobs.len());
        let mut tenants = Vec::with_capacity(jobs.len());
        let mut payloads = Vec::with_capacity(jobs.len());
        let mut keys = Vec::with_capacity(jobs.len());
        for job in jobs {
            ids.push(JobId::new().0);
            tenants.push(job.tenant_id().map(|t| t.0));
            payloads.push(serde_json::to_value(job).map_err(|e| sqlx::Error::Encode(Box::new(e)))?);
            keys.push(job.unique_key());
        }
        let written: Vec<uuid::Uuid> = sqlx::query_scalar(
            "insert into jobs (id, tenant_id, queue, kind, payload, priority, max_attempts, unique_key) \
             select j.id, j.tenant_id, $5, $6, j.payload, $7, $8, j.unique_key \
             from unnest($1::uuid[], $2::uuid[], $3::jsonb[], $4::text[]) as j (id, tenant_id, payload, unique_key) \
             on conflict (kind, unique_key) where unique_key is not null and state in ('available', 'running') \
             do nothing returning id",
        )
        .bind(&ids)
        .bind(&tenants)
        .bind(&payloads)
        .bind(&keys)
        .bind(J::QUEUE.as_str())
        .bind(J::NAME)
        .bind(J::PRIORITY)
        .bind(J::MAX_ATTEMPTS)
        .fetch_all(&mut *self.tx)
        .await?;
        metrics::counter!("jobs_enqueued_total", "kind" => J::NAME).increment(written.len() as u64);
        self.due.extend(written.iter().map(|id| (J::QUEUE, Entry { id: *id, priority: J::PRIORITY })));
        Ok(written.len())
    }

    /// Commits, then lets the [`Dispatcher`] push what was enqueued. A process that dies between the
    /// two loses nothing: the relay finds the rows. As part of a [`Joint`] it is handed back, to be committed with it.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        if let Some(joint) = self.joint.take() {
            joint.hand_back(self);
            return Ok(());
        }
        self.tx.commit().await?;
        for (queue, entry) in self.due {
            self.dispatcher.dispatch(queue, entry);
        }
        Ok(())
    }

    pub async fn rollback(self) -> sqlx::Result<()> {
        self.tx.rollback().await
    }
}

impl Deref for Tx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}
