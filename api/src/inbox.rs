//! Webhooks that come at once share a commit, as heartbeats do: one task per process keeps them and queues their jobs; while it
//! writes some, others gather. One that comes alone is written alone, at once. Each is answered after its commit.

use std::sync::Arc;

use shared::{
    db::{
        self,
        webhook_events::{self, NewEvent},
    },
    jobs::ProcessWebhook,
    queue::{Dispatcher, Tx},
};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result, unavailable};

/// Webhooks of one commit.
const TOGETHER: usize = 128;
/// Webhooks that wait for the next ones; further ones are turned away.
const WAITING: usize = 8 * TOGETHER;

/// Cheap to clone.
#[derive(Clone)]
pub struct Inbox(mpsc::Sender<Waiting>);

struct Waiting {
    events: Vec<NewEvent>,
    answer: oneshot::Sender<Result<bool, Arc<sqlx::Error>>>,
}

impl Inbox {
    /// Ends with the last clone.
    pub fn start(db: PgPool, dispatcher: Dispatcher) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write(db, dispatcher, receiver));
        Self(sender)
    }

    /// Keeps the events of one webhook, and queues what is to be done with them: all or nothing. True where one of them was new.
    ///
    /// # Errors
    /// 503 where too many wait already; the database's.
    pub async fn store(&self, events: Vec<NewEvent>) -> Result<bool> {
        let (answer, written) = oneshot::channel();
        if self.0.try_send(Waiting { events, answer }).is_err() {
            metrics::counter!("webhooks_turned_away_total").increment(1);
            return Err(unavailable("Too many webhooks at once.").into());
        }
        match written.await {
            Ok(result) => result.map_err(Error::Shared),
            Err(_) => Err(anyhow::anyhow!("webhooks are not written any more").into()),
        }
    }
}

async fn write(db: PgPool, dispatcher: Dispatcher, mut receiver: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    while receiver.recv_many(&mut waiting, TOGETHER).await > 0 {
        metrics::histogram!("webhooks_per_commit").record(waiting.len() as f64);
        let all: Vec<&[NewEvent]> = waiting.iter().map(|one| one.events.as_slice()).collect();
        let mut results = match keep(&db, &dispatcher, &all).await {
            Ok(new) => new.into_iter().map(Ok).collect(),
            // Nothing of them is there. Perhaps one of them cannot be stored at all: that is its own fault alone.
            Err(_) if all.len() > 1 => {
                let mut results = Vec::with_capacity(all.len());
                for one in &all {
                    let kept = keep(&db, &dispatcher, &[one]).await;
                    results.push(kept.map(|new| new.first() == Some(&true)).map_err(Arc::new));
                }
                results
            }
            Err(error) => vec![Err(Arc::new(error))],
        }
        .into_iter();
        for one in waiting.drain(..) {
            if let Some(result) = results.next() {
                // Whoever asked may be gone.
                let _ = one.answer.send(result);
            }
        }
    }
}

/// For each webhook, whether one of its events was new.
async fn keep(db: &PgPool, dispatcher: &Dispatcher, webhooks: &[&[NewEvent]]) -> sqlx::Result<Vec<bool>> {
    let events: Vec<&NewEvent> = webhooks.iter().flat_map(|events| events.iter()).collect();
    let kept = db::limited(async {
        let mut tx = Tx::begin(db, dispatcher).await?;
        let kept = webhook_events::insert_all(&mut *tx, &events).await?;
        let jobs: Vec<ProcessWebhook> =
            kept.iter().flatten().map(|id| ProcessWebhook { webhook_event_id: *id }).collect();
        if !jobs.is_empty() {
            tx.enqueue_all(&jobs).await?;
        }
        tx.commit().await?;
        Ok(kept)
    })
    .await?;
    let mut kept = kept.into_iter();
    Ok(webhooks.iter().map(|events| kept.by_ref().take(events.len()).flatten().count() > 0).collect())
}
