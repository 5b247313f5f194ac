//! The source of an apalis worker: jobs that were claimed from the ledger (docs/adr/0001).
//!
//! apalis-redis' own storage ends its worker, and drops the jobs that run in it, on any Redis error.
//! This one has nothing that can fail: the fetcher of `fetcher.rs` deals with Redis and Postgres and
//! sends what it claimed through a channel; a closed channel is an orderly stop.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{
        Task,
        builder::TaskBuilder,
        task_id::{RandomId, TaskId},
    },
    worker::context::WorkerContext,
};
use shared::queue::ledger::Claimed;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tower::layer::util::Identity;

/// A claimed job and the slot that it occupies.
pub struct Delivery {
    pub job: Claimed,
    pub slot: OwnedSemaphorePermit,
    /// Where its kind has a cap.
    pub admission: Option<OwnedSemaphorePermit>,
}

/// Yields what the fetcher claimed.
pub struct ClaimedJobs {
    receiver: mpsc::Receiver<Delivery>,
}

impl ClaimedJobs {
    pub fn new(receiver: mpsc::Receiver<Delivery>) -> Self {
        Self { receiver }
    }
}

impl Backend for ClaimedJobs {
    type Task = Task<Delivery>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        self.receiver.poll_recv(cx).map(|delivery| match delivery {
            Some(delivery) => {
                let id = TaskId::from_string(delivery.job.id.to_string());
                Some(Ok(TaskBuilder::new(delivery).task_id(id).build()))
            }
            None => {
                // An apalis worker whose source has ended waits for ever to be stopped. Not before now: once
                // stopped, it would not take what is still in the channel, and that is claimed already.
                if let Err(error) = worker.stop() {
                    tracing::error!(error = %error, "the apalis worker cannot be stopped");
                }
                None
            }
        })
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        self.receiver.close();
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for ClaimedJobs {
    type Args = Delivery;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
