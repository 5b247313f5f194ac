//! When a failed job runs again.

use std::time::Duration;

use rand::RngExt;

/// Waits that grow from failure to failure, each ±20 % at random, so that jobs that failed together do not come back
/// together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failed start.
    pub first: Duration,
    /// How much longer each wait is than the one before.
    pub factor: u32,
    /// No wait is longer.
    pub longest: Duration,
}

impl Backoff {
    /// 5 s, 15 s, 45 s, 2 min, 7 min, 20 min, 1 h, 3 h, 6 h: ten attempts span about ten hours.
    pub const USUAL: Self = Self::starting_at(Duration::from_secs(5));

    /// Three times longer each time, up to six hours.
    pub const fn starting_at(first: Duration) -> Self {
        Self { first, factor: 3, longest: Duration::from_secs(6 * 3600) }
    }

    /// The wait after the `attempt`-th failed start, from 1.
    pub fn after(self, attempt: i32) -> Duration {
        self.base(attempt).mul_f64(rand::rng().random_range(0.8..1.2))
    }

    fn base(self, attempt: i32) -> Duration {
        let exponent = u32::try_from(attempt.max(1) - 1).unwrap_or(0);
        self.first.saturating_mul(self.factor.saturating_pow(exponent)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_triples_up_to_six_hours() {
        let seconds: Vec<_> = (1..=10).map(|n| Backoff::USUAL.base(n).as_secs()).collect();
        assert_eq!(seconds, [5, 15, 45, 135, 405, 1215, 3645, 10935, 21600, 21600]);
        assert_eq!(Backoff::USUAL.base(i32::MAX), Backoff::USUAL.longest);
        assert_eq!(Backoff::USUAL.base(0), Duration::from_secs(5));
    }

    #[test]
    fn the_jitter_stays_within_a_fifth() {
        for _ in 0..1000 {
            let wait = Backoff::USUAL.after(3).as_secs_f64();
            assert!((36.0..=54.0).contains(&wait), "{wait}");
        }
    }
}
