//! When a failed job runs again.

use std::time::Duration;

use rand::RngExt;

/// The longest wait between two attempts.
pub const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// The wait after the `attempt`-th failed start (from 1): 5 s · 3^(attempt−1), at most six hours, ±20 %
/// at random so that jobs that failed together do not come back together.
///
/// 5 s, 15 s, 45 s, 2 min, 7 min, 20 min, 1 h, 3 h, 6 h: ten attempts span about ten hours.
pub fn after(attempt: i32) -> Duration {
    jittered(base(attempt), rand::rng().random_range(0.8..1.2))
}

fn base(attempt: i32) -> Duration {
    let exponent = u32::try_from(attempt.max(1) - 1).unwrap_or(0).min(20);
    Duration::from_secs(5).saturating_mul(3u32.saturating_pow(exponent)).min(LONGEST)
}

fn jittered(base: Duration, factor: f64) -> Duration {
    base.mul_f64(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_triples_up_to_six_hours() {
        let seconds: Vec<_> = (1..=10).map(|n| base(n).as_secs()).collect();
        assert_eq!(seconds, [5, 15, 45, 135, 405, 1215, 3645, 10935, 21600, 21600]);
        assert_eq!(base(i32::MAX), LONGEST);
        assert_eq!(base(0), Duration::from_secs(5));
    }

    #[test]
    fn the_jitter_stays_within_a_fifth() {
        for _ in 0..1000 {
            let wait = after(3).as_secs_f64();
            assert!((36.0..=54.0).contains(&wait), "{wait}");
        }
    }
}
