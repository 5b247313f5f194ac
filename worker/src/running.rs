//! The jobs that run in this process right now.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use shared::{domain::ids::JobId, queue::ledger::Lease};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Why a run was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyAborted {
    /// An operator cancelled the job.
    Cancelled,
    /// Another worker may hold it.
    LeaseLost,
    /// The process stops.
    GivenBack,
}

struct Run {
    token: i64,
    stop: CancellationToken,
    task: AbortHandle,
    aborted: Option<WhyAborted>,
}

#[derive(Default)]
pub struct Running(Mutex<HashMap<JobId, Run>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, lease: Lease, stop: CancellationToken, task: AbortHandle) {
        self.lock().insert(lease.id, Run { token: lease.token, stop, task, aborted: None });
    }

    pub fn remove(&self, lease: Lease) {
        let mut runs = self.lock();
        if runs.get(&lease.id).is_some_and(|run| run.token == lease.token) {
            runs.remove(&lease.id);
        }
    }

    pub fn leases(&self) -> Vec<Lease> {
        self.lock().iter().map(|(id, run)| Lease { id: *id, token: run.token }).collect()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Ends a run at its next `.await`.
    pub fn abort(&self, lease: Lease, why: WhyAborted) {
        if let Some(run) = self.lock().get_mut(&lease.id).filter(|run| run.token == lease.token) {
            run.aborted.get_or_insert(why);
            run.stop.cancel();
            run.task.abort();
        }
    }

    /// Ends all runs and tells which they were.
    pub fn abort_all(&self, why: WhyAborted) -> Vec<Lease> {
        let leases = self.leases();
        for lease in &leases {
            self.abort(*lease, why);
        }
        leases
    }

    pub fn why_aborted(&self, lease: Lease) -> Option<WhyAborted> {
        self.lock().get(&lease.id).filter(|run| run.token == lease.token).and_then(|run| run.aborted)
    }
}
