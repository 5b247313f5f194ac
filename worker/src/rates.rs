//! Rates of job starts over all workers, as the settings have them (`shared::queue::rates`).

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use shared::{
    jobs,
    queue::{ledger::Claimed, rates},
};
use sqlx::PgPool;

use crate::run::with_patience;

const EXAMPLE: &str = "right is mails=20 or mails=20,import-recording=0.5";

/// Starts per second, per rate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates(BTreeMap<&'static str, Duration>);

impl Rates {
    /// Those of the jobs that may start now; the others are given back until it is their turn.
    pub async fn in_turn(&self, db: &PgPool, mut claimed: Vec<Claimed>) -> Vec<Claimed> {
        for (name, interval) in &self.0 {
            let limited = |job: &Claimed| !job.has_turn && jobs::find(&job.kind).is_some_and(|kind| kind.rate == *name);
            let leases: Vec<_> = claimed.iter().filter(|job| limited(job)).map(Claimed::lease).collect();
            if leases.is_empty() {
                continue;
            }
            // Without an answer nobody starts: the leases run out, and the jobs come again.
            let now = with_patience(|| rates::take_turns(db, name, *interval, &leases)).await.unwrap_or_default();
            let waiting = (leases.len() - now.len()) as u64;
            metrics::counter!("jobs_over_rate_total", "rate" => *name).increment(waiting);
            claimed.retain(|job| !limited(job) || now.contains(&job.id));
        }
        claimed
    }
}

impl FromStr for Rates {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let rate = |part: &str| {
            let (name, per_second) = part.split_once('=').ok_or(format!("{part:?} is not rate=number; {EXAMPLE}"))?;
            let known = jobs::ALL.iter().map(|kind| kind.rate).find(|known| *known == name.trim());
            let name = known.ok_or_else(|| format!("there is no rate {name:?}; there are {}", names().join(", ")))?;
            match per_second.trim().parse::<f64>() {
                Ok(n) if (0.001..=10_000.0).contains(&n) => Ok((name, Duration::from_secs_f64(1.0 / n))),
                _ => Err(format!("{per_second:?} is no number from 0.001 to 10000; {EXAMPLE}")),
            }
        };
        s.split(',').filter(|part| !part.trim().is_empty()).map(rate).collect::<Result<_, _>>().map(Self)
    }
}

/// All rates there are.
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = jobs::ALL.iter().map(|kind| kind.rate).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_named_numbers_per_second() {
        let rates: Rates = "mails=20, import-recording=0.5".parse().unwrap();
        let expected = [("import-recording", Duration::from_secs(2)), ("mails", Duration::from_millis(50))];
        assert_eq!(rates, Rates(expected.into()));
        assert_eq!("".parse(), Ok(Rates::default()));
        for wrong in ["20", "mails", "mails=", "mails=0", "mails=-1", "mails=inf", "mails=NaN", "send-reminder=3"] {
            assert!(wrong.parse::<Rates>().is_err(), "{wrong}");
        }
        assert!("letters=3".parse::<Rates>().unwrap_err().contains("mails"));
    }
}
