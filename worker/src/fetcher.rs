//! Brings jobs of one queue to its apalis worker: waits for a free slot, for ids in Redis, claims
//! them in Postgres. It takes no more than there are free slots, so that no job waits in a process
//! that is busy while another one idles. Survives any outage of either store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use shared::{
    db::{STATEMENT_LIMIT, limited, limited_to},
    jobs::Queue,
    queue::{
        ledger::{self, Claimed, Unfinished},
        redis::{self, Popper, RedisQueues},
        relay,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{backend::Delivery, caps::Caps, health::Pulse, rates::Rates, run::Engine};

/// Most ids per round trip.
const BATCH: usize = 200;
/// How long Redis may block a pop; also the rhythm of the pulse of an idle worker.
const POP_WAIT: Duration = Duration::from_secs(2);
/// At most this often a worker that finds its queue short asks the ledger for more.
const REFILL_PAUSE: Duration = Duration::from_millis(100);
/// A job whose kind is full is looked at again after this, by whichever worker is first.
const FULL_WAIT: Duration = Duration::from_secs(3);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// How long a busy worker with many slots waits for more free ones before it claims for few: a claim costs
/// nearly the same for one job as for a hundred.
const LINGER: Duration = Duration::from_millis(1);
/// Longer than other statements: the jobs of a claim that is given up, and carried out all the same, wait for the end
/// of their leases.
const CLAIM_LIMIT: Duration = Duration::from_secs(20);
/// So many slots; with fewer, a moment of a free one is worth more than a claim.
const MANY_SLOTS: usize = 32;

pub struct Fetcher {
    pub engine: Arc<Engine>,
    pub queue: Queue,
    pub redis: RedisQueues,
    pub caps: Caps,
    pub rates: Rates,
    pub slots: Arc<Semaphore>,
    pub worker: String,
    pub lease: Duration,
    pub pulse: Arc<Pulse>,
}

impl Fetcher {
    /// Until `shutdown`; then the channel closes and the apalis worker ends after its last job.
    pub async fn run(self, sender: mpsc::Sender<Delivery>, shutdown: CancellationToken) {
        let mut popper = self.redis.popper(self.queue);
        let capacity = self.slots.available_permits();
        let refilling = Arc::new(AtomicBool::new(false));
        let mut backoff = Duration::from_millis(50);
        loop {
            let slots = tokio::select! {
                () = shutdown.cancelled() => return,
                slots = self.free_slots(capacity) => slots,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.engine.quarantine.opened() => {}
            }
            let wanted = slots.num_permits();
            let ids = tokio::select! {
                // Ids that Redis gives out at this very moment are lost there; the relay knows them.
                () = shutdown.cancelled() => return,
                ids = self.pop(&mut popper, wanted) => ids,
            };
            let Some(ids) = ids else {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
                continue;
            };
            backoff = Duration::from_millis(50);
            self.pulse.beat();
            if ids.is_empty() {
                continue;
            }
            if ids.len() < wanted {
                self.refill_soon(&refilling);
            }
            let jobs = self.claim(&ids, &shutdown).await;
            let jobs = self.rates.in_turn(&self.engine.state.db, jobs).await;
            self.deliver(jobs, slots, &sender).await;
        }
    }

    async fn free_slots(&self, capacity: usize) -> OwnedSemaphorePermit {
        let mut slots = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        if capacity >= MANY_SLOTS && self.slots.available_permits() + 1 < capacity / 2 {
            tokio::time::sleep(LINGER).await;
        }
        let more = self.slots.available_permits().min(BATCH - 1) as u32;
        if more > 0
            && let Ok(others) = self.slots.clone().try_acquire_many_owned(more)
        {
            slots.merge(others);
        }
        slots
    }

    /// `None` when Redis failed.
    async fn pop(&self, popper: &mut Popper, wanted: usize) -> Option<Vec<Uuid>> {
        match popper.pop(wanted, POP_WAIT).await {
            Ok(ids) => {
                if self.pulse.redis_is_up() {
                    tracing::info!(queue = %self.queue, "Redis is back");
                }
                Some(ids)
            }
            Err(error) => {
                let problem = redis::explain(&error).unwrap_or("Redis does not answer");
                if self.pulse.redis_is_down(problem) {
                    tracing::error!(queue = %self.queue, error = %error, problem, "cannot take jobs from Redis; trying again");
                }
                None
            }
        }
    }

    /// The jobs behind the ids, as far as they are due and ours to run.
    async fn claim(&self, ids: &[Uuid], shutdown: &CancellationToken) -> Vec<Claimed> {
        let (kinds, full) = (self.engine.registry.kinds(), self.caps.full());
        let open: Vec<_> = kinds.iter().copied().filter(|kind| !full.contains(kind)).collect();
        let db = &self.engine.state.db;
        let mut backoff = Duration::from_millis(50);
        let jobs = loop {
            let claim = ledger::claim(db, ids, &open, &self.worker, self.lease);
            match limited_to(CLAIM_LIMIT, claim).await {
                Ok(jobs) => break jobs,
                Err(error) => tracing::warn!(queue = %self.queue, error = %error, "cannot claim jobs; trying again"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return Vec::new(),
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
            }
        };
        if jobs.len() < ids.len() && !full.is_empty() {
            self.postpone(limited(ledger::postpone(db, ids, &full, FULL_WAIT)).await);
        }
        if jobs.len() < ids.len() {
            // Taken by another worker, finished, cancelled, foreign, or of a newer version's kind.
            match limited(ledger::put_aside_unknown(db, ids, &kinds)).await {
                Ok(0) => {}
                Ok(jobs) => {
                    tracing::warn!(queue = %self.queue, jobs, "put jobs of unknown kinds aside for a newer worker")
                }
                Err(error) => tracing::warn!(error = %error, "cannot put unknown jobs aside"),
            }
        }
        jobs
    }

    async fn deliver(&self, jobs: Vec<Claimed>, mut slots: OwnedSemaphorePermit, sender: &mpsc::Sender<Delivery>) {
        for job in jobs {
            let Ok(admission) = self.caps.admit(&job) else {
                // More of a kind were claimed at once than may run.
                let wait = Unfinished::Snooze { reason: None, wait: FULL_WAIT };
                let given_back = limited(ledger::unfinished(&self.engine.state.db, job.lease(), &wait)).await;
                self.postpone(given_back.map(|_| 1));
                continue;
            };
            metrics::histogram!("job_wait_seconds", "queue" => self.queue.as_str()).record(job.waited_seconds);
            let slot = slots.split(1).expect("no more jobs are claimed than slots were free");
            if sender.send(Delivery { job, slot, admission }).await.is_err() {
                // The apalis worker is gone; the lease runs out and another process takes over.
                return;
            }
        }
    }

    fn postpone(&self, postponed: sqlx::Result<u64>) {
        match postponed {
            Ok(jobs) => metrics::counter!("jobs_over_cap_total", "queue" => self.queue.as_str()).increment(jobs),
            // Their leases run out, or the relay pushes them again.
            Err(error) => tracing::warn!(queue = %self.queue, error = %error, "cannot postpone jobs of a full kind"),
        }
    }

    /// Redis gave less than asked for: perhaps there is a backlog of which it held only a slice.
    fn refill_soon(&self, refilling: &Arc<AtomicBool>) {
        if refilling.swap(true, Ordering::Relaxed) {
            return;
        }
        let (db, redis, queue) = (self.engine.state.db.clone(), self.redis.clone(), self.queue);
        let refilling = refilling.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(STATEMENT_LIMIT, relay::refill(&db, &redis, queue)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(queue = %queue, error = %error, "cannot refill"),
                Err(_) => tracing::debug!(queue = %queue, "cannot refill: a store does not answer"),
            }
            tokio::time::sleep(REFILL_PAUSE).await;
            refilling.store(false, Ordering::Relaxed);
        });
    }
}
