//! What has to happen all the time, whoever does it: due jobs into Redis, jobs of dead workers back
//! into the queue, due mails into jobs. Any number of schedulers may do it at once.

use std::{cell::Cell, sync::Arc, time::Duration};

use anyhow::Context as _;
use shared::{
    db::reminders,
    jobs::Queue,
    queue::{Dispatcher, Tx, ledger, redis::RedisQueues, relay},
};
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// A delayed job starts at most this long after its time (plus the way to the worker).
const RELAY_EVERY: Duration = Duration::from_millis(250);
/// A killed worker's jobs come back after their lease plus at most this.
const RESCUE_EVERY: Duration = Duration::from_secs(1);
/// While Postgres is away no worker can renew a lease. When it is back, those that live get so long to do it, before their
/// jobs count as a dead worker's.
const RENEWAL_GRACE: Duration = Duration::from_secs(4);
/// An answer that took longer came after an outage.
const OUTAGE: Duration = Duration::from_secs(2);
/// What one step of a duty may take: a store that fell silent would be waited for without end.
const LIMIT: Duration = Duration::from_secs(10);
/// Due mails become jobs this often, this many per step.
const REMINDERS_EVERY: Duration = Duration::from_millis(500);
const REMINDERS_STEP: i64 = 1_000;

#[derive(Clone)]
pub struct Duties {
    pub db: PgPool,
    pub redis: RedisQueues,
    pub dispatcher: Dispatcher,
    pub health: Arc<Health>,
}

impl Duties {
    /// All duties, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let relay = every(RELAY_EVERY, &shutdown, "relay", || limited(self.relay()));
        let contact = Cell::new(Contact::default());
        let rescue = every(RESCUE_EVERY, &shutdown, "rescue", || limited(self.rescue(&contact)));
        let reminders = every(REMINDERS_EVERY, &shutdown, "reminders", || self.enqueue_reminders());
        tokio::join!(relay, rescue, reminders);
    }

    async fn relay(&self) -> anyhow::Result<()> {
        for queue in Queue::ALL {
            relay::refill(&self.db, &self.redis, queue).await?;
        }
        self.health.beat();
        Ok(())
    }

    async fn rescue(&self, contact: &Cell<Contact>) -> anyhow::Result<()> {
        let asked = Instant::now();
        // Until there is an answer, it is away.
        let before = contact.replace(contact.get().missed());
        sqlx::query("select 1").execute(&self.db).await?;
        let now = Instant::now();
        contact.set(before.answered(asked, now));
        if contact.get().is_fresh(now) {
            return Ok(());
        }
        for job in ledger::rescue(&self.db).await? {
            metrics::counter!("jobs_rescued_total", "kind" => job.kind.clone(), "state" => job.state.clone())
                .increment(1);
            tracing::warn!(job.id = %job.id, job.kind, job.state, job.crashes, "the worker of a job died");
        }
        Ok(())
    }

    async fn enqueue_reminders(&self) -> anyhow::Result<()> {
        loop {
            let step = async {
                let mut tx = Tx::begin(&self.db, &self.dispatcher).await?;
                let due = reminders::enqueue_due(&mut tx, REMINDERS_STEP).await?;
                tx.commit().await?;
                anyhow::Ok(due)
            };
            let due = limited(step).await?;
            if due < REMINDERS_STEP as usize {
                return Ok(());
            }
        }
    }
}

/// Whether Postgres has been there.
#[derive(Debug, Clone, Copy, Default)]
struct Contact {
    missed: bool,
    /// When it came back; `None` while it was never missed.
    back_at: Option<Instant>,
}

impl Contact {
    fn missed(self) -> Self {
        Self { missed: true, ..self }
    }

    fn answered(self, asked: Instant, now: Instant) -> Self {
        let back = self.missed || now - asked > OUTAGE;
        Self { missed: false, back_at: if back { Some(now) } else { self.back_at } }
    }

    fn is_fresh(self, now: Instant) -> bool {
        self.back_at.is_some_and(|back_at| now - back_at < RENEWAL_GRACE)
    }
}

async fn limited<T>(step: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(LIMIT, step).await.context("a store does not answer")?
}

/// Repeats a duty; an outage is logged when it begins and when it ends, not every time.
async fn every<F>(period: Duration, shutdown: &CancellationToken, duty: &'static str, mut step: impl FnMut() -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        match step().await {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(duty, "works again");
            }
            Ok(()) => {}
            Err(error) => {
                metrics::counter!("scheduler_failures_total", "duty" => duty).increment(1);
                if !failing {
                    tracing::error!(duty, error = format!("{error:#}"), "failed; trying again until it works");
                }
                failing = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_outage_leases_can_be_renewed_before_anybody_is_taken_for_dead() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let well = Contact::default().answered(at(0), at(1));
        assert!(!well.is_fresh(at(1)));
        assert!(!well.answered(at(60), at(60)).is_fresh(at(60)), "not to have asked is no outage");
        for back in [well.answered(at(2), at(6)), well.missed().answered(at(6), at(6))] {
            let later = back.answered(at(9), at(9));
            assert_eq!([6, 9, 10].map(|second| later.is_fresh(at(second))), [true, true, false]);
        }
    }
}
