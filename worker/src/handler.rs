//! What a job's code looks like: [`Handler`], its context and its four ways to end.

use std::{future::Future, time::Duration};

use shared::{
    domain::ids::TenantId,
    jobs::Job,
    meetings::MeetingError,
    queue::{
        Cause, Tx,
        ledger::{Claimed, Lease},
    },
};
use tokio_util::sync::CancellationToken;

use crate::state::State;

/// HOW a job runs; implemented on the data struct from `shared::jobs`.
///
/// A handler may be started twice: it reads the rows again, and finding the work done, or its
/// subject gone, is [`Done::nothing`]. What it writes to Postgres goes into one transaction that it
/// hands back in [`Done::with`], so that effect and outcome are committed together or not at all.
pub trait Handler: Job {
    fn run(self, state: &State, ctx: &Ctx) -> impl Future<Output = Result<Done, JobError>> + Send;
}

/// The run's own circumstances.
#[derive(Debug, Clone)]
pub struct Ctx {
    pub lease: Lease,
    pub kind: String,
    /// Whose job it is; `None` for sweeps over all tenants.
    pub tenant: Option<TenantId>,
    /// This start's number, from 1.
    pub attempt: i32,
    pub max_attempts: i32,
    /// Cancelled when the process stops or an operator cancels the job: a long handler should
    /// save its progress and return [`JobError::Snooze`].
    pub stop: CancellationToken,
}

impl Ctx {
    pub fn new(job: &Claimed, stop: CancellationToken) -> Self {
        Self {
            lease: job.lease(),
            kind: job.kind.clone(),
            tenant: job.tenant_id,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            stop,
        }
    }

    /// A transaction of this job that can enqueue others; it sees the job's tenant alone, if there is one.
    pub async fn begin(&self, state: &State) -> sqlx::Result<Tx> {
        self.begin_for(state, self.tenant).await
    }

    /// The same, but it sees all tenants.
    pub async fn begin_for_all(&self, state: &State) -> sqlx::Result<Tx> {
        self.begin_for(state, None).await
    }

    async fn begin_for(&self, state: &State, tenant: Option<TenantId>) -> sqlx::Result<Tx> {
        let (actor, request_id) = (format!("job:{}", self.kind), self.lease.id.to_string());
        let cause = Cause { actor: &actor, request_id: &request_id };
        Tx::begin_for(&state.db, &state.dispatcher, tenant, cause).await
    }

    /// No further attempt follows when this one fails.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.max_attempts
    }
}

/// Success, with the transaction that holds the effects.
pub struct Done(pub(crate) Option<Tx>);

impl Done {
    /// There was nothing to write.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// The job's outcome is written into `tx` and both are committed, if the lease is still valid.
    pub fn with(tx: Tx) -> Self {
        Self(Some(tx))
    }
}

/// The other ways to end. `?` on any error means [`JobError::Retry`].
#[derive(Debug)]
pub enum JobError {
    /// Failed; try again after the usual back-off.
    Retry(anyhow::Error),
    /// Not possible yet; try again after this time without using an attempt. For providers that say
    /// when (Retry-After) and for things that are not ready.
    Snooze(Duration, String),
    /// Will never succeed: a dead letter with this reason.
    Fail(anyhow::Error),
}

/// How long a process without a free file descriptor waits for others to close theirs.
pub const SHORTAGE_WAIT: Duration = Duration::from_secs(5);

/// Whether an error says that this process, or this machine, has no file descriptor left: no fault of the job's. Libraries
/// pass it on as text.
pub fn is_shortage(error: &str) -> bool {
    // ENFILE, EMFILE.
    ["(os error 23)", "(os error 24)"].iter().any(|code| error.contains(code))
}

impl JobError {
    pub fn fail(reason: impl std::fmt::Display) -> Self {
        Self::Fail(anyhow::anyhow!("{reason}"))
    }
}

impl<E: Into<anyhow::Error>> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::Retry(error.into())
    }
}

/// A provider that was asked and did not do it: how long it wants to be left alone, if it says so.
pub fn asked(error: MeetingError) -> JobError {
    match error {
        MeetingError::Busy(wait) | MeetingError::LeftAlone(wait) => JobError::Snooze(wait, error.to_string()),
        other => JobError::Retry(other.into()),
    }
}
