//! Marks jobs done that have nothing else to write: many in one statement and one commit, which is
//! most of what such a job costs.

use std::time::Duration;

use shared::{
    db::limited,
    queue::ledger::{self, Lease},
};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

const BATCH: usize = 500;

/// So many at once tell that many jobs end all the time.
const MANY: usize = 8;

/// How long a write waits for company then.
const LINGER: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub struct Completer {
    sender: mpsc::UnboundedSender<(Lease, oneshot::Sender<bool>)>,
}

impl Completer {
    pub fn start(db: PgPool) -> Self {
        // Unbounded, yet never longer than the number of jobs that run at a time.
        let (sender, mut receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            // After a few the next is written at once: no more would come, and their slots are needed.
            let mut busy = false;
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                if busy {
                    tokio::time::sleep(LINGER).await;
                    while batch.len() < BATCH
                        && let Ok(another) = receiver.try_recv()
                    {
                        batch.push(another);
                    }
                }
                busy = batch.len() >= MANY;
                write(&db, &mut batch).await;
            }
        });
        Self { sender }
    }

    /// Whether the job was marked done; not when its lease was lost.
    pub async fn complete(&self, lease: Lease) -> bool {
        let (answer, written) = oneshot::channel();
        self.sender.send((lease, answer)).is_ok() && written.await.unwrap_or(false)
    }
}

async fn write(db: &PgPool, batch: &mut Vec<(Lease, oneshot::Sender<bool>)>) {
    let leases: Vec<Lease> = batch.iter().map(|(lease, _)| *lease).collect();
    let mut wait = Duration::from_millis(50);
    let mut tried_before = false;
    let done = loop {
        let completed = async {
            let mut done = ledger::complete(db, &leases).await?;
            if tried_before && done.len() < leases.len() {
                done.extend(ledger::done_under(db, &leases).await?);
            }
            Ok(done)
        };
        match limited(completed).await {
            Ok(done) => break done.into_iter().collect::<std::collections::HashSet<_>>(),
            Err(error) => {
                tried_before = true;
                tracing::warn!(error = %error, jobs = leases.len(), "jobs could not be marked done; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
        }
    };
    for (lease, answer) in batch.drain(..) {
        // A run that was aborted meanwhile no longer waits for its answer.
        let _ = answer.send(done.contains(&lease.id));
    }
}
