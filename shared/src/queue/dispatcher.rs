//! Pushes ids of committed jobs to Redis, behind the backs of the requests that made them: no caller
//! waits for Redis, and many pushes share a round trip. What fails here, the relay does.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::mpsc;

use super::redis::{Entry, RedisQueues};
use crate::jobs::Queue;

/// Waiting pushes; beyond it they are left to the relay, so that a dead Redis costs no memory.
const BUFFER: usize = 16_384;
/// Longer than Redis' own time limits, so that a connection that fell silent is found out and left.
const PUSH_TIMEOUT: Duration = Duration::from_secs(8);

/// Cheap to clone; one task per process does the work.
#[derive(Clone)]
pub struct Dispatcher {
    sender: mpsc::Sender<(Queue, Entry)>,
}

impl Dispatcher {
    /// Starts the task. It ends when the last clone is gone.
    pub fn start(redis: RedisQueues) -> Self {
        let (sender, mut receiver) = mpsc::channel(BUFFER);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, 1_000).await > 0 {
                let mut queues = BTreeMap::<Queue, Vec<Entry>>::new();
                for (queue, entry) in batch.drain(..) {
                    queues.entry(queue).or_default().push(entry);
                }
                for (queue, entries) in queues {
                    push(&redis, queue, &entries).await;
                }
            }
        });
        Self { sender }
    }

    /// Leaves every push to the relay: for a program that ends too soon, or knows no Redis.
    pub fn to_relay() -> Self {
        Self { sender: mpsc::channel(1).0 }
    }

    /// Hands over ids of committed rows that are due now. Never waits.
    pub fn dispatch(&self, queue: Queue, entry: Entry) {
        if self.sender.try_send((queue, entry)).is_err() {
            metrics::counter!("queue_pushes_left_to_relay_total").increment(1);
        }
    }
}

async fn push(redis: &RedisQueues, queue: Queue, entries: &[Entry]) {
    let problem = match tokio::time::timeout(PUSH_TIMEOUT, redis.push(queue, entries)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "Redis did not answer in time".to_owned(),
    };
    let jobs = entries.len() as u64;
    metrics::counter!("queue_pushes_left_to_relay_total").increment(jobs);
    tracing::warn!(queue = %queue, jobs, error = problem, "could not push; the relay will");
}
