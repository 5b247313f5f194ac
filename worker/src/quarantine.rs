//! A job that was running when a worker died may be the one that killed it, or have run beside it. One whose next crash
//! would be its last starts alone: nothing else starts in this process before it has run for a while. So the guilty
//! one takes nobody with it, and an innocent one is not given up for the deeds of others. After a first crash, jobs start
//! at once: most workers die of no job at all.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shared::queue::ledger::MAX_CRASHES;
use tokio::{sync::watch, time::Instant};

/// How long a suspect holds up others: what has run for so long without a death kills nobody.
const WATCHED: Duration = Duration::from_secs(10);
/// How long what started before runs on before a suspect starts: what kills, kills soon.
const SETTLED: Duration = Duration::from_millis(500);

/// One per process; cheap to clone.
#[derive(Clone)]
pub struct Quarantine {
    ward: Arc<watch::Sender<Ward>>,
    watched: Duration,
}

#[derive(Clone, Copy)]
struct Ward {
    /// Since when a suspect is in it and nothing else may start.
    closed: Option<Instant>,
    /// When it may be closed again: others get as much time as they had to wait.
    open_until: Instant,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self::new(WATCHED)
    }
}

/// The right to run a job; to be kept until it has ended.
#[derive(Default)]
pub struct Admission {
    /// To be slept before the start.
    pub settle: Duration,
    /// A suspect's; emptied when it has run for so long that it holds up nobody any more.
    _stay: Option<Arc<Mutex<Option<Stay>>>>,
}

/// In the ward until dropped.
struct Stay(Quarantine);

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.ward.send_modify(|ward| {
            let now = Instant::now();
            ward.open_until = now + ward.closed.take().map_or(Duration::ZERO, |since| now - since);
        });
    }
}

impl Quarantine {
    fn new(watched: Duration) -> Self {
        let ward = Ward { closed: None, open_until: Instant::now() };
        Self { ward: Arc::new(watch::Sender::new(ward)), watched }
    }

    /// Admits a job that saw so many workers die; `None`: not now.
    pub fn admit(&self, crashes: i32) -> Option<Admission> {
        if crashes < MAX_CRASHES - 1 {
            return self.ward.borrow().closed.is_none().then(Admission::default);
        }
        let now = Instant::now();
        let entered = self.ward.send_if_modified(|ward| {
            let free = ward.closed.is_none() && now >= ward.open_until;
            if free {
                ward.closed = Some(now);
            }
            free
        });
        entered.then(|| {
            let stay = Arc::new(Mutex::new(Some(Stay(self.clone()))));
            let weak = Arc::downgrade(&stay);
            let watched = self.watched;
            tokio::spawn(async move {
                tokio::time::sleep(watched).await;
                if let Some(stay) = weak.upgrade() {
                    stay.lock().unwrap_or_else(PoisonError::into_inner).take();
                }
            });
            Admission { settle: SETTLED, _stay: Some(stay) }
        })
    }

    /// Until jobs may start.
    pub async fn opened(&self) {
        // The sender lives as long as `self`.
        let _ = self.ward.subscribe().wait_for(|ward| ward.closed.is_none()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_before_its_last_crash_starts_alone_and_holds_up_nobody_for_long() {
        let quarantine = Quarantine::new(Duration::from_millis(600));
        let (fresh, crashed_once) = (quarantine.admit(0), quarantine.admit(1));
        assert!(fresh.is_some() && crashed_once.is_some());
        assert_eq!(crashed_once.unwrap().settle, Duration::ZERO);

        let suspect = quarantine.admit(2).expect("nobody is in the ward");
        assert!(suspect.settle > Duration::ZERO, "what started before runs on first");
        assert!((0..3).all(|crashes| quarantine.admit(crashes).is_none()));
        assert!(tokio::time::timeout(Duration::from_millis(200), quarantine.opened()).await.is_err(), "closed");
        tokio::time::timeout(WATCHED, quarantine.opened()).await.expect("opened by itself");
        assert!(quarantine.admit(0).is_some());
        assert!(quarantine.admit(2).is_none(), "others have their turn first");
        tokio::time::sleep(Duration::from_millis(700)).await;
        let next = quarantine.admit(2).expect("their turn is over");
        drop(suspect);
        assert!(quarantine.admit(0).is_none(), "one that left long ago opens nothing");
        drop(next);
        assert!(quarantine.admit(0).is_some());
    }
}
