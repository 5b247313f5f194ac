//! Heartbeats that come at once share a commit. One task per process writes them: while it writes some, others gather, and are
//! the next statement. Nobody waits for company: a heartbeat that comes alone is written alone, at once.
//!
//! Each is answered after its commit. A statement that fails, fails each heartbeat in it; they are counted once at most, so
//! that a repeat is harmless. What cannot be written as fast as it comes is turned away, not kept.

use std::sync::Arc;

use shared::db::{
    self,
    participants::{self, Beat},
};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result, unavailable};

/// Heartbeats of one statement.
const TOGETHER: usize = 512;
/// Heartbeats that wait for the next ones; further ones are turned away.
const WAITING: usize = 2 * TOGETHER;

/// Cheap to clone.
#[derive(Clone)]
pub struct Heartbeats(mpsc::Sender<Waiting>);

struct Waiting {
    beat: Beat,
    answer: oneshot::Sender<Result<bool, Arc<sqlx::Error>>>,
}

impl Heartbeats {
    /// Ends with the last clone.
    pub fn start(db: PgPool) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write(db, receiver));
        Self(sender)
    }

    /// Writes a heartbeat. False where no open connection took it, or somebody else is changing that one: then it has to be
    /// judged by itself.
    ///
    /// # Errors
    /// 503 where too many wait already; the database's.
    pub async fn beat(&self, beat: Beat) -> Result<bool> {
        let (answer, written) = oneshot::channel();
        if self.0.try_send(Waiting { beat, answer }).is_err() {
            metrics::counter!("heartbeats_turned_away_total").increment(1);
            return Err(unavailable("Too many heartbeats at once.").into());
        }
        match written.await {
            Ok(result) => result.map_err(Error::Shared),
            Err(_) => Err(anyhow::anyhow!("heartbeats are not written any more").into()),
        }
    }
}

async fn write(db: PgPool, mut receiver: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    while receiver.recv_many(&mut waiting, TOGETHER).await > 0 {
        let (beats, answers): (Vec<Beat>, Vec<_>) = waiting.drain(..).map(|w| (w.beat, w.answer)).unzip();
        metrics::histogram!("heartbeats_per_statement").record(beats.len() as f64);
        let result = db::limited(participants::beat_all(&db, &beats)).await.map_err(Arc::new);
        for (answer, taken) in answers.into_iter().zip(0..) {
            // Whoever asked may be gone.
            let _ = answer.send(match &result {
                Ok(taken_ones) => Ok(taken_ones.contains(&taken)),
                Err(error) => Err(error.clone()),
            });
        }
    }
}
