//! Rate limits, per tenant and per person: leaky buckets that hold for all replicas together.
//!
//! A request is judged by what this process knows, without asking anybody: heartbeats are many, and have to stay cheap.
//! Four times a second a process tells Redis what it let in ([`Buckets`]) and hears how full the buckets are over all of
//! them. So a caller who spreads a burst over R replicas gets at most R bursts within the first quarter of a second, and
//! from then on the rate that is set. Without Redis each process goes on with what it knows alone: limits become looser,
//! nothing fails.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderName, HeaderValue, StatusCode};
use shared::{domain::person::Role, queue::buckets::Buckets};
use uuid::Uuid;

use crate::{auth::Caller, error::Problem, middleware};

/// draft-ietf-httpapi-ratelimit-headers-10.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How often processes tell each other what they let in.
const SHARED_EVERY: Duration = Duration::from_millis(250);

const EXAMPLE: &str = "right are 50:500 (50 requests per second, 500 at once) and off";

/// How many requests are let in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    per_second: f64,
    /// At once, after a time without any.
    burst: f64,
}

/// A rate, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateSetting(pub Option<Rate>);

impl FromStr for RateSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        let number = |text: &str, least: f64| match text.trim().parse::<f64>() {
            Ok(n) if (least..=1e6).contains(&n) => Ok(n),
            _ => Err(format!("{text:?} is no number from {least} to 1000000; {EXAMPLE}")),
        };
        let (per_second, burst) = text.split_once(':').ok_or_else(|| format!("{text:?} is no rate; {EXAMPLE}"))?;
        Ok(Self(Some(Rate { per_second: number(per_second, 0.001)?, burst: number(burst, 1.0)?.floor() })))
    }
}

/// The limits of this process. Cheap to clone.
#[derive(Clone)]
pub struct Rates(Arc<Inner>);

struct Inner {
    tenant: Option<Rate>,
    person: Option<Rate>,
    /// Both, for [`RATE_LIMIT_POLICY`].
    policy: HeaderValue,
    levels: Mutex<Levels>,
}

type Levels = HashMap<Uuid, Level>;

/// How full a bucket is.
struct Level {
    rate: Rate,
    requests: f64,
    at: Instant,
    /// Requests that the other processes have not heard of.
    untold: f64,
}

impl Level {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, requests: 0.0, at: now, untold: 0.0 }
    }

    fn drain(&mut self, now: Instant) {
        let drained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate.per_second;
        self.requests = (self.requests - drained).max(0.0);
        self.at = now;
    }

    /// How long until there is room for one more; zero where there is.
    fn wait(&self) -> Duration {
        Duration::from_secs_f64((self.requests + 1.0 - self.rate.burst).max(0.0) / self.rate.per_second)
    }

    fn take(&mut self) {
        self.requests += 1.0;
        self.untold += 1.0;
    }

    /// As the draft writes it: how many more are let in now, and in how many seconds it will be a whole burst.
    fn header(&self, name: &str) -> Option<HeaderValue> {
        let left = (self.rate.burst - self.requests).max(0.0).floor();
        let whole_in = (self.requests / self.rate.per_second).ceil();
        HeaderValue::try_from(format!("\"{name}\";r={left};t={whole_in}")).ok()
    }
}

impl Rates {
    pub fn new(tenant: RateSetting, person: RateSetting) -> Self {
        let (tenant, person) = (tenant.0, person.0);
        let policies = [("tenant", tenant), ("person", person)].into_iter().filter_map(|(name, rate)| {
            let rate = rate?;
            Some(format!("\"{name}\";q={};w={}", rate.burst, (rate.burst / rate.per_second).ceil()))
        });
        let policy = policies.collect::<Vec<_>>().join(", ");
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(""));
        Self(Arc::new(Inner { tenant, person, policy, levels: Mutex::default() }))
    }

    /// Lets a request in, or says when to come again. Services speak for many people: their tenant's limit is theirs.
    pub fn admit(&self, caller: &Caller) -> Result<(), Problem> {
        let tenant = caller.tenant.id.0;
        let person = (!caller.is(Role::Service)).then_some(caller.id.as_str());
        let (name, header, wait) = self.take(tenant, person, Instant::now());
        if let Some(header) = header {
            middleware::tell_rate(header, self.0.policy.clone());
        }
        if wait.is_zero() {
            return Ok(());
        }
        metrics::counter!("http_requests_over_rate_total", "limit" => name).increment(1);
        let seconds = wait.as_secs_f64().ceil() as i64;
        Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate-limited",
            "Too many requests",
            format!("There are too many requests of this {name}; wait for Retry-After, and see RateLimit-Policy."),
        )
        .retry_after(seconds))
    }

    /// The limit that speaks, what it says, and the wait; zero where the request was counted.
    fn take(&self, tenant: Uuid, person: Option<&str>, now: Instant) -> (&'static str, Option<HeaderValue>, Duration) {
        let mut levels = self.0.lock();
        let buckets = [
            // The nearest first: it is the one that is told of.
            person.zip(self.0.person).map(|(id, rate)| ("person", Uuid::new_v5(&tenant, id.as_bytes()), rate)),
            self.0.tenant.map(|rate| ("tenant", tenant, rate)),
        ];
        let buckets = || buckets.iter().flatten();
        for (name, id, rate) in buckets() {
            let level = levels.entry(*id).or_insert_with(|| Level::new(*rate, now));
            level.drain(now);
            // Nothing is counted anywhere for what is not let in.
            if level.wait() > Duration::ZERO {
                return (name, level.header(name), level.wait());
            }
        }
        let mut told = ("", None);
        for (name, id, _) in buckets() {
            if let Some(level) = levels.get_mut(id) {
                level.take();
                if told.1.is_none() {
                    told = (name, level.header(name));
                }
            }
        }
        (told.0, told.1, Duration::ZERO)
    }

    /// Lets processes know of each other, until the last clone of this is gone.
    pub fn share(&self, mut buckets: Buckets) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SHARED_EVERY).await;
                let Some(untold) = inner.upgrade().map(|inner| inner.untold(Instant::now())) else { return };
                if untold.is_empty() {
                    continue;
                }
                let amounts: Vec<_> = untold.iter().map(Untold::amount).collect();
                let answer = buckets.pour(&amounts).await;
                let Some(inner) = inner.upgrade() else { return };
                match answer {
                    Ok(left) => inner.hear(&untold, &left, Instant::now()),
                    Err(error) => {
                        metrics::counter!("rate_limits_not_shared_total").increment(1);
                        tracing::debug!(error = %error, "rate limits hold for this process alone");
                        inner.keep(&untold, Instant::now());
                    }
                }
            }
        });
    }
}

/// What was let into one bucket and nobody else has heard of.
struct Untold {
    id: Uuid,
    requests: f64,
    per_second: f64,
}

impl Untold {
    /// As a time to run out.
    fn amount(&self) -> (Uuid, Duration) {
        (self.id, Duration::from_secs_f64(self.requests / self.per_second))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is to be told, and forgets buckets that have run empty.
    fn untold(&self, now: Instant) -> Vec<Untold> {
        let mut untold = Vec::new();
        self.lock().retain(|id, level| {
            level.drain(now);
            let requests = std::mem::take(&mut level.untold);
            if requests > 0.0 {
                untold.push(Untold { id: *id, requests, per_second: level.rate.per_second });
            }
            level.requests > 0.0 || requests > 0.0
        });
        untold
    }

    /// The buckets are this full over all processes, without what was let in here since.
    fn hear(&self, told: &[Untold], left: &[Duration], now: Instant) {
        let mut levels = self.lock();
        for (told, left) in told.iter().zip(left) {
            if let Some(level) = levels.get_mut(&told.id) {
                level.drain(now);
                // Never less than what is known here: Redis may have forgotten.
                level.requests = level.requests.max(left.as_secs_f64() * told.per_second + level.untold);
            }
        }
    }

    /// It could not be told. What has run out meanwhile, nobody needs to hear later.
    fn keep(&self, untold: &[Untold], now: Instant) {
        let mut levels = self.lock();
        for kept in untold {
            if let Some(level) = levels.get_mut(&kept.id) {
                level.drain(now);
                level.untold = (level.untold + kept.requests).min(level.requests);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(tenant: &str, person: &str) -> Rates {
        Rates::new(tenant.parse().unwrap(), person.parse().unwrap())
    }

    fn admits(rates: &Rates, person: &str, now: Instant) -> bool {
        rates.take(Uuid::nil(), Some(person), now).2.is_zero()
    }

    #[test]
    fn a_rate_is_two_numbers_or_off() {
        assert_eq!("0.5:3".parse(), Ok(RateSetting(Some(Rate { per_second: 0.5, burst: 3.0 }))));
        assert_eq!("off".parse(), Ok(RateSetting(None)));
        for wrong in ["", "5", "0:5", "5:0", "-1:5", "5:NaN", "inf:5", "5:5:5", "a:b"] {
            assert!(wrong.parse::<RateSetting>().unwrap_err().contains("50:500"), "{wrong}");
        }
    }

    #[test]
    fn a_burst_is_let_in_and_then_the_rate() {
        let (rates, start) = (rates("off", "2:5"), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((0..9).filter(|_| admits(&rates, "a", at(0))).count(), 5);
        assert!(admits(&rates, "b", at(0)), "nobody pays for others");
        let (name, header, wait) = rates.take(Uuid::nil(), Some("a"), at(100));
        assert_eq!((name, wait), ("person", Duration::from_millis(400)));
        assert_eq!(header.unwrap(), "\"person\";r=0;t=3");
        assert_eq!((0..9).filter(|_| admits(&rates, "a", at(1_000))).count(), 2);
        assert_eq!((0..9).filter(|_| admits(&rates, "a", at(60_000))).count(), 5);
        assert_eq!(rates.0.policy, "\"person\";q=5;w=3");
    }

    #[test]
    fn what_a_person_is_refused_does_not_count_for_the_tenant() {
        let (rates, now) = (rates("1:4", "1:2"), Instant::now());
        assert_eq!((0..50).filter(|_| admits(&rates, "a", now)).count(), 2);
        assert_eq!((0..50).filter(|_| admits(&rates, "b", now)).count(), 2);
        assert_eq!(rates.take(Uuid::nil(), Some("c"), now).0, "tenant");
        assert_eq!(rates.take(Uuid::from_u128(1), None, now).0, "tenant", "a service of another tenant");
        assert_eq!(rates.0.policy, "\"tenant\";q=4;w=4, \"person\";q=2;w=2");
    }

    #[test]
    fn a_school_of_five_thousand_never_meets_the_defaults() {
        use clap::Parser as _;
        let config =
            crate::Config::parse_from(["api", "--database-url", "x", "--redis-url", "x", "--auth-jwt-secret", "x"]);
        let (rates, start) = (Rates::new(config.rate_limit_tenant, config.rate_limit_person), Instant::now());
        let people: Vec<String> = (0..5_000).map(|n| format!("student-{n}")).collect();
        // At nine everybody opens the page and joins, four requests each within ten seconds; then heartbeats, each 24 s.
        for (n, person) in people.iter().enumerate() {
            let now = start + Duration::from_millis(n as u64 * 2);
            assert!((0..4).all(|_| admits(&rates, person, now)), "{n}");
        }
        for minute in 1..4 {
            for (n, person) in people.iter().enumerate() {
                let now = start + Duration::from_millis(minute * 24_000 + n as u64 * 24_000 / 5_000);
                assert!(admits(&rates, person, now), "{n}");
            }
        }
        // All their connections break at once, and all come back in the same second.
        let now = start + Duration::from_secs(200);
        assert!(people.iter().all(|person| admits(&rates, person, now) && admits(&rates, person, now)));
    }

    #[test]
    fn what_others_let_in_counts_here_and_what_redis_forgot_still_does() {
        let (rates, now) = (rates("off", "1:10"), Instant::now());
        assert!((0..4).all(|_| admits(&rates, "a", now)));
        let untold = rates.0.untold(now);
        assert_eq!(untold.iter().map(|u| u.requests).collect::<Vec<_>>(), [4.0]);
        assert!(admits(&rates, "a", now), "while the others are told");
        rates.0.hear(&untold, &[Duration::from_secs(8)], now);
        assert_eq!((0..9).filter(|_| admits(&rates, "a", now)).count(), 1);
        let untold = rates.0.untold(now);
        rates.0.hear(&untold, &[Duration::ZERO], now);
        assert!(!admits(&rates, "a", now));
    }

    #[test]
    fn what_could_not_be_told_is_told_later_as_far_as_it_still_matters() {
        let (rates, start) = (rates("off", "1:10"), Instant::now());
        assert!((0..10).all(|_| admits(&rates, "a", start)));
        let untold = rates.0.untold(start);
        rates.0.keep(&untold, start + Duration::from_secs(4));
        let later: Vec<_> = rates.0.untold(start + Duration::from_secs(4)).iter().map(|u| u.requests).collect();
        assert_eq!(later, [6.0]);
        assert!(rates.0.untold(start + Duration::from_secs(60)).is_empty());
        assert!(rates.0.lock().is_empty(), "who has gone is forgotten");
    }
}
