//! Ends the process when its runtime is stuck: when handlers block all of its threads nothing else runs any more, no lease is
//! renewed, no signal heard, no probe answered. A thread of its own sees it; the process is started again, and
//! the job counts a crash.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const BEAT: Duration = Duration::from_millis(500);

/// Starts watching; the process aborts after `limit` without a beat of the runtime.
pub fn start(limit: Duration) {
    let beats = Arc::new(AtomicU64::new(0));
    // Gone with the runtime: then there is nothing to watch any more.
    let watched = Arc::downgrade(&beats);
    tokio::spawn(async move {
        loop {
            beats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    });
    let watching = move || {
        let mut silence = Silence::default();
        // Its own rounds are counted, not the time: a process that was stopped and goes on is not stuck.
        while silence.rounds < rounds_in(limit) {
            std::thread::sleep(BEAT);
            let Some(beats) = watched.upgrade() else { return };
            silence.look(beats.load(Ordering::Relaxed));
        }
        tracing::error!(
            limit_s = limit.as_secs(),
            "the runtime is stuck: a job blocks its threads; ending this process"
        );
        std::process::abort();
    };
    if let Err(error) = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watching) {
        tracing::warn!(error = %error, "there is no watchdog: no thread for it");
    }
}

fn rounds_in(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis() / BEAT.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Rounds without a new beat.
#[derive(Debug, Default)]
struct Silence {
    last: u64,
    rounds: u32,
}

impl Silence {
    fn look(&mut self, beats: u64) {
        self.rounds = if beats == self.last { self.rounds + 1 } else { 0 };
        self.last = beats;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rounds_in_a_row_without_a_beat_are_silence() {
        let mut silence = Silence::default();
        let rounds = [1, 1, 1, 2, 2, 3].map(|beats| {
            silence.look(beats);
            silence.rounds
        });
        assert_eq!(rounds, [0, 1, 2, 0, 1, 0]);
        assert_eq!(rounds_in(Duration::from_secs(30)), 60);
    }

    #[test]
    fn a_runtime_that_has_ended_is_not_stuck() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { start(BEAT) });
        drop(runtime);
        // Three times the limit: it would have ended this process.
        std::thread::sleep(BEAT * 3);
    }
}
