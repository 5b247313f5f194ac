//! Keeps the Postgres and the Redis of `cargo run` running: one that ends by itself is started again on its port
//! with its data. Not for tests, which end these servers on purpose: a server alone is never restarted.

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use crate::{postgres::Postgres, process::Death, redis::Redis};

/// So many ends, each soon after the one before, and the server is given up.
const LIMIT: u32 = 5;
/// A server that ran this long was well again: what comes later is another trouble.
const STEADY: Duration = Duration::from_secs(30);

/// What has to be known of a server.
trait Server {
    const NAME: &'static str;

    async fn died(&self) -> Death;
    async fn start_again(&self) -> anyhow::Result<()>;
}

impl Server for Postgres {
    const NAME: &'static str = "Postgres";

    async fn died(&self) -> Death {
        Postgres::died(self).await
    }

    async fn start_again(&self) -> anyhow::Result<()> {
        self.restart().await
    }
}

impl Server for Redis {
    const NAME: &'static str = "Redis";

    async fn died(&self) -> Death {
        Redis::died(self).await
    }

    async fn start_again(&self) -> anyhow::Result<()> {
        self.restart().await
    }
}

/// Starts either server again whenever it has died, telling so. Returns only when one cannot be kept running, with
/// the reason.
pub(crate) async fn keep_running(postgres: &Postgres, redis: &Redis, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Error {
    tokio::select! {
        error = keep(postgres, tell) => error,
        error = keep(redis, tell) => error,
    }
}

async fn keep<S: Server>(server: &S, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Error {
    let mut ends = 0;
    loop {
        let since = Instant::now();
        let death = server.died().await;
        if since.elapsed() > STEADY {
            ends = 0;
        }
        let mut trouble = anyhow!("ended ({})", death.status);
        let mut last_lines = death.last_lines;
        loop {
            ends += 1;
            if ends >= LIMIT {
                let lines =
                    if last_lines.is_empty() { String::new() } else { format!("; its last lines:\n{last_lines}") };
                return anyhow!("{} {trouble:#}, for the {LIMIT}th time in a row{lines}", S::NAME);
            }
            let pause = pause_after(ends);
            let when = if pause.is_zero() { String::new() } else { format!(" in {} s", pause.as_secs()) };
            tell(&format!("{} {}; starting it again{when}", S::NAME, first_line(&trouble)));
            sleep(pause).await;
            match server.start_again().await {
                Ok(()) => break,
                Err(error) => (trouble, last_lines) = (anyhow!("does not start: {error:#}"), String::new()),
            }
        }
        tell(&format!("{} is ready again", S::NAME));
    }
}

/// At once the first time, then 1, 2, 4 s.
fn pause_after(ends: u32) -> Duration {
    ends.checked_sub(2).map_or(Duration::ZERO, |doublings| Duration::from_secs(1 << doublings))
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_longer_than_the_one_before() {
        let pauses: Vec<_> = (1..LIMIT).map(|ends| pause_after(ends).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4]);
    }
}
