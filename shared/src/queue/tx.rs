//! A database transaction that can enqueue jobs: both are committed, or neither is.

use std::ops::{Deref, DerefMut};

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

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
    unique_key: Option<&'a str>,
    payload: &'a serde_json::Value,
}

/// Who causes what a transaction changes; the audit log names them.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// `person:<sub>`, `api-key:<id>`, `job:<kind>`.
    pub actor: &'a str,
    /// The request's id, the job's id.
    pub request_id: &'a str,
}

impl Cause<'_> {
    /// In hexadecimal: nothing in it can be taken for SQL.
    fn settings(self) -> String {
        let (actor, request) = (hex::encode(self.actor), hex::encode(self.request_id));
        format!("set local live_sessions.actor = '{actor}'; set local live_sessions.request = '{request}'")
    }
}

/// The role that sees one tenant (migration `isolate_tenants`), and that tenant, for this transaction.
fn scope(tenant: TenantId) -> String {
    format!("set local role live_sessions_tenant; set local live_sessions.tenant = '{tenant}'")
}

/// Use it like a connection (`&mut *tx`). Dropped without [`Tx::commit`], nothing happened.
pub struct Tx {
    tx: Transaction<'static, Postgres>,
    /// The tenant that it sees, and whose jobs it enqueues; `None`: it sees all of them.
    tenant: Option<TenantId>,
    dispatcher: Dispatcher,
    due: Vec<(Queue, Entry)>,
    /// Where a commit hands it back to, instead of committing.
    pub(super) joint: Option<Joint>,
}

impl Tx {
    /// For what looks after all tenants.
    pub async fn begin(pool: &PgPool, dispatcher: &Dispatcher) -> sqlx::Result<Self> {
        let tx = pool.begin().await?;
        Ok(Self { tx, tenant: None, dispatcher: dispatcher.clone(), due: Vec::new(), joint: None })
    }

    /// For somebody; where it is the business of one tenant, the database shows and takes nothing of another's.
    pub async fn begin_for(
        pool: &PgPool,
        dispatcher: &Dispatcher,
        tenant: Option<TenantId>,
        cause: Cause<'_>,
    ) -> sqlx::Result<Self> {
        let mut begin = format!("begin; {}", cause.settings());
        if let Some(tenant) = tenant {
            begin = format!("{begin}; {}", scope(tenant));
        }
        let tx = pool.begin_with(AssertSqlSafe(begin)).await?;
        Ok(Self { tx, tenant, dispatcher: dispatcher.clone(), due: Vec::new(), joint: None })
    }

    /// From here on it sees this tenant alone; all of them where there is `None`.
    pub async fn see(&mut self, tenant: Option<TenantId>) -> sqlx::Result<()> {
        if self.tenant != tenant {
            let scope = tenant.map_or_else(|| "set local role live_sessions_service".to_owned(), scope);
            sqlx::raw_sql(AssertSqlSafe(scope)).execute(&mut *self.tx).await?;
            self.tenant = tenant;
        }
        Ok(())
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
            .bind(self.tenant)
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
        let tenant = self.tenant;
        self.insert_all(jobs.iter().map(|job| (tenant, job))).await
    }

    /// The same for jobs of several tenants.
    pub async fn enqueue_for_tenants<J: Job>(&mut self, jobs: &[(TenantId, J)]) -> sqlx::Result<usize> {
        self.insert_all(jobs.iter().map(|(tenant, job)| (Some(*tenant), job))).await
    }

    async fn insert_all<'a, J: Job>(
        &mut self,
        jobs: impl ExactSizeIterator<Item = (Option<TenantId>, &'a J)>,
    ) -> sqlx::Result<usize> {
        let mut ids = Vec::with_capacity(jobs.len());
        let mut tenants = Vec::with_capacity(jobs.len());
        let mut payloads = Vec::with_capacity(jobs.len());
        let mut keys = Vec::with_capacity(jobs.len());
        for (tenant, job) in jobs {
            ids.push(JobId::new().0);
            tenants.push(tenant.map(|tenant| tenant.0));
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
