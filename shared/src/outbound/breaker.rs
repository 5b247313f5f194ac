//! Circuit breakers: a server that has not answered several times is left alone for a while, so that nobody waits for it and
//! it has the quiet to come back. One of those who ask after that while tries it; the others wait for what comes of it.
//!
//! Each process has its own: what one has seen of the network need not be true for another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// So many failures, one after the other, and it opens …
const FAILURES: u32 = 3;
/// … for this long; when the next try fails too, for twice as long, …
const SHORTEST: Duration = Duration::from_secs(5);
/// … and so on, up to this.
const LONGEST: Duration = Duration::from_secs(60);
/// What was left alone for this long is forgotten, when there are many.
const MOST: usize = 10_000;

/// One breaker for each server that is asked. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Breakers {
    known: Arc<Mutex<HashMap<String, Breaker>>>,
}

#[derive(Debug, Clone, Copy)]
struct Breaker {
    failures: u32,
    /// Nobody asks until then.
    closed_until: Instant,
    /// Somebody tries it at the moment, until then at most: who tries may be dropped.
    tried_until: Instant,
}

/// Leave to ask. Whoever has it says how it went; saying nothing says nothing.
#[derive(Debug)]
pub struct Pass<'a> {
    breakers: &'a Breakers,
    server: &'a str,
}

impl Breakers {
    /// Leave to ask a server, for a call that takes `limit` at most; else how long it is left alone.
    pub fn admit<'a>(&'a self, server: &'a str, limit: Duration) -> Result<Pass<'a>, Duration> {
        self.admit_at(Instant::now(), server, limit)
    }

    fn admit_at<'a>(&'a self, now: Instant, server: &'a str, limit: Duration) -> Result<Pass<'a>, Duration> {
        if let Some(breaker) = self.lock().get_mut(server).filter(|breaker| breaker.failures >= FAILURES) {
            let free_at = breaker.closed_until.max(breaker.tried_until);
            if now < free_at {
                return Err(free_at - now);
            }
            breaker.tried_until = now + limit;
        }
        Ok(Pass { breakers: self, server })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Breaker>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// It is there, whatever it said.
    pub fn answered(self) {
        if self.breakers.lock().remove(self.server).is_some_and(|breaker| breaker.failures >= FAILURES) {
            tracing::info!(server = self.server, "a provider's server answers again");
        }
    }

    /// It is not there, or has trouble of its own.
    pub fn failed(self) {
        self.failed_at(Instant::now());
    }

    fn failed_at(self, now: Instant) {
        let mut known = self.breakers.lock();
        if known.len() >= MOST {
            known.retain(|_, breaker| now < breaker.closed_until);
        }
        let breaker =
            known.entry(self.server.to_owned()).or_insert(Breaker { failures: 0, closed_until: now, tried_until: now });
        // Of those who had asked before it opened, one failure is as good as many.
        if now < breaker.closed_until {
            return;
        }
        breaker.failures += 1;
        if let Some(again) = breaker.failures.checked_sub(FAILURES) {
            let alone = SHORTEST.saturating_mul(1 << again.min(8)).min(LONGEST);
            breaker.closed_until = now + alone;
            breaker.tried_until = now;
            tracing::warn!(
                server = self.server,
                seconds = alone.as_secs(),
                "a provider's server does not answer: it is left alone"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    /// A breaker and the time that its test has come to.
    struct Course {
        breakers: Breakers,
        now: Instant,
    }

    impl Course {
        fn new() -> Self {
            Self { breakers: Breakers::default(), now: Instant::now() }
        }

        fn ask(&self) -> Result<Pass<'_>, Duration> {
            self.breakers.admit_at(self.now, "a", LIMIT)
        }

        fn fail(&self) {
            self.ask().unwrap().failed_at(self.now);
        }

        fn left_alone(&self) -> Duration {
            self.ask().unwrap_err()
        }
    }

    #[test]
    fn after_three_failures_nobody_asks_until_one_may_try() {
        let mut course = Course::new();
        course.fail();
        course.fail();
        course.ask().unwrap().answered();
        // An answer between them makes them no row.
        course.fail();
        course.fail();
        course.fail();
        assert_eq!(course.left_alone(), SHORTEST);
        assert!(course.breakers.admit_at(course.now, "b", LIMIT).is_ok(), "another server");
        course.now += SHORTEST;
        let tries = course.ask().unwrap();
        assert_eq!(course.left_alone(), LIMIT, "the others wait for what comes of it");
        tries.failed_at(course.now);
        assert_eq!(course.left_alone(), 2 * SHORTEST);
        course.now += 2 * SHORTEST;
        // Whoever tried it went away without a word.
        let _ = course.ask().unwrap();
        assert_eq!(course.left_alone(), LIMIT);
        course.now += LIMIT;
        course.ask().unwrap().answered();
        course.fail();
        assert!(course.ask().is_ok(), "it begins anew");
    }

    #[test]
    fn it_is_never_left_alone_for_longer_than_a_minute() {
        let mut course = Course::new();
        for _ in 0..40 {
            let left = course.ask().map(|pass| pass.failed_at(course.now)).err().unwrap_or_default();
            assert!(left <= LONGEST, "{left:?}");
            course.now += left;
        }
        course.fail();
        // Failures of those who had asked before it opened do not keep it shut.
        for _ in 0..5 {
            Pass { breakers: &course.breakers, server: "a" }.failed_at(course.now);
        }
        assert_eq!(course.left_alone(), LONGEST);
    }
}
