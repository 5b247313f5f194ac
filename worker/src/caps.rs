//! Kinds of jobs of which only so many run at a time in one process, so that long ones (recordings) leave slots of
//! their queue to short ones (webhooks).

use std::{collections::BTreeMap, sync::Arc};

use shared::queue::ledger::Claimed;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::registry::Registry;

/// The caps of a process, shared by its queues.
#[derive(Clone, Default)]
pub struct Caps(Arc<BTreeMap<&'static str, Arc<Semaphore>>>);

impl Caps {
    pub fn of(registry: &Registry) -> Self {
        let caps = registry.kinds().into_iter().filter_map(|kind| {
            let cap = registry.get(kind)?.max_running?;
            Some((kind, Arc::new(Semaphore::new(cap))))
        });
        Self(Arc::new(caps.collect()))
    }

    /// Kinds of which no more may run now.
    pub fn full(&self) -> Vec<&'static str> {
        self.0.iter().filter(|(_, cap)| cap.available_permits() == 0).map(|(kind, _)| *kind).collect()
    }

    /// The right to run a job: nothing to hold for kinds without a cap, an error when the kind is full.
    pub fn admit(&self, job: &Claimed) -> Result<Option<OwnedSemaphorePermit>, Full> {
        match self.0.get(job.kind.as_str()) {
            None => Ok(None),
            Some(cap) => cap.clone().try_acquire_owned().map(Some).map_err(|_| Full),
        }
    }
}

/// As many jobs of this kind run as may.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;
