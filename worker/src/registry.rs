//! Which jobs this process can run, by name.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use serde_json::Value;
use shared::jobs::{Backoff, Queue};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

type Run = fn(Value, State, Ctx) -> Pin<Box<dyn Future<Output = Result<Done, JobError>> + Send>>;

/// What the engine needs to know of one kind of job.
#[derive(Clone, Copy)]
pub struct Runner {
    pub queue: Queue,
    pub timeout: Duration,
    pub backoff: Backoff,
    pub max_running: Option<usize>,
    pub(crate) run: Run,
}

/// Filled once in `handlers::registry()`.
#[derive(Clone, Default)]
pub struct Registry {
    runners: BTreeMap<&'static str, Runner>,
}

impl Registry {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job. Two with one name are a fault of the program and end it at start.
    #[must_use]
    pub fn register<H: Handler>(mut self) -> Self {
        let run: Run = |payload, state, ctx| {
            Box::pin(async move {
                let job: H = serde_json::from_value(payload)
                    .map_err(|e| JobError::fail(format!("the payload does not decode: {e}")))?;
                job.run(&state, &ctx).await
            })
        };
        let runner =
            Runner { queue: H::QUEUE, timeout: H::TIMEOUT, backoff: H::BACKOFF, max_running: H::MAX_RUNNING, run };
        assert!(self.runners.insert(H::NAME, runner).is_none(), "two handlers are registered for {}", H::NAME);
        self
    }

    pub fn get(&self, kind: &str) -> Option<Runner> {
        self.runners.get(kind).copied()
    }

    /// All names, sorted.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.runners.keys().copied().collect()
    }
}
