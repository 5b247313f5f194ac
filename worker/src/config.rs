//! Settings of the worker process.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use clap::{Args, Parser};
use shared::{
    config::{
        DatabaseConfig, OutboundConfig, ProvidersConfig, RedisConfig, SecretsConfig, TelemetryConfig, ZoomConfig,
    },
    jobs::Queue,
};

use crate::rates::Rates;

/// Runs the background jobs of the live-session service. Start as many as you need: replicas share
/// the work, and any of them may be killed at any time.
#[derive(Debug, Clone, Parser)]
#[command(name = "worker", version, after_help = "Example: worker --queues live,notifications --concurrency live=32")]
pub struct Config {
    /// Queues to work on, comma separated.
    #[arg(
        long,
        short = 'Q',
        env = "WORKER_QUEUES",
        value_delimiter = ',',
        default_value = "default,live,notifications"
    )]
    pub queues: Vec<Queue>,

    /// Jobs at a time: one number for each queue, or per queue as live=16,notifications=8.
    #[arg(long, short = 'c', env = "WORKER_CONCURRENCY", default_value = "default=4,live=16,notifications=8")]
    pub concurrency: Concurrency,

    /// Job starts per second over all workers, as mails=20,import-recording=0.5: what is beyond waits for its turn. Kinds
    /// of jobs that are not named, and mails, are not limited.
    #[arg(long, env = "WORKER_RATES", default_value = "")]
    pub rate: Rates,

    /// Seconds that a claimed job belongs to its worker without renewal. A killed worker's jobs are
    /// taken over after this time.
    #[arg(long, env = "JOB_LEASE", default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=300))]
    pub job_lease: u64,

    /// Seconds after which the process ends itself when jobs block its runtime, so that nothing else runs any more.
    #[arg(long, env = "WORKER_STUCK_AFTER", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub stuck_after: u64,

    /// Seconds that running jobs have to finish after SIGTERM; then they are given back.
    #[arg(long, env = "SHUTDOWN_GRACE", default_value_t = 25)]
    pub shutdown_grace: u64,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "WORKER_HEALTH_ADDR", default_value = "127.0.0.1:8082")]
    pub health_addr: std::net::SocketAddr,

    /// Address under which the API is reached, as PUBLIC_URL of the API: BigBlueButton servers are told to send their webhooks
    /// there. Without it they are not.
    #[arg(long, env = "PUBLIC_URL", default_value = "")]
    pub public_url: String,

    /// Check settings and connections, explain what is wrong, and exit.
    #[arg(long)]
    pub check: bool,

    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub redis: RedisConfig,
    #[command(flatten)]
    pub providers: ProvidersConfig,
    #[command(flatten)]
    pub zoom: ZoomConfig,
    #[command(flatten)]
    pub outbound: OutboundConfig,
    #[command(flatten)]
    pub secrets: SecretsConfig,
    #[command(flatten)]
    pub storage: StorageConfig,
    #[command(flatten)]
    pub mail: MailConfig,
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

impl Config {
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.job_lease)
    }
}

/// The object store.
#[derive(Clone, Args)]
pub struct StorageConfig {
    /// Address of an S3-compatible server; empty for Amazon's.
    #[arg(long, env = "S3_ENDPOINT", default_value = "")]
    pub s3_endpoint: String,
    /// Bucket for recordings. It has to exist.
    #[arg(long, env = "S3_BUCKET", default_value = "recordings")]
    pub s3_bucket: String,
    /// Region of the bucket; any, for most other servers.
    #[arg(long, env = "S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
    /// Credentials; when empty, the AWS SDK's usual sources are asked.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true, default_value = "")]
    pub aws_access_key_id: String,
    /// Secret of that key pair.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true, default_value = "")]
    pub aws_secret_access_key: String,
}

impl std::fmt::Debug for StorageConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageConfig")
            .field("s3_endpoint", &self.s3_endpoint)
            .field("s3_bucket", &self.s3_bucket)
            .finish_non_exhaustive()
    }
}

/// Outgoing mail.
#[derive(Debug, Clone, Args)]
pub struct MailConfig {
    /// Mail server, as smtp://user:password@host:587?tls=required, smtps://host or smtp://host:25.
    #[arg(long, env = "SMTP_URL", hide_env_values = true, default_value = "smtp://127.0.0.1:1025")]
    pub smtp_url: String,
    /// Sender of all mails, and the organizer's address in calendar entries.
    #[arg(long, env = "MAIL_FROM", default_value = "Live sessions <live-sessions@localhost>")]
    pub mail_from: String,
    /// Address of the LMS page of a session in mails and calendar entries; {id} is the session's id.
    #[arg(long, env = "SESSION_URL", default_value = "http://localhost:8080/live-sessions/{id}")]
    pub session_url: String,
}

/// Jobs at a time, per queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency(BTreeMap<Queue, usize>);

impl Concurrency {
    pub fn of(&self, queue: Queue) -> usize {
        self.0.get(&queue).copied().unwrap_or(4)
    }
}

impl FromStr for Concurrency {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let number = |n: &str| match n.trim().parse::<usize>() {
            Ok(n @ 1..=1000) => Ok(n),
            _ => Err(format!("{n:?} is no number from 1 to 1000; right is 16 or live=16,notifications=8")),
        };
        if let Ok(n) = number(s) {
            return Ok(Self(Queue::ALL.into_iter().map(|q| (q, n)).collect()));
        }
        s.split(',')
            .map(|part| match part.split_once('=') {
                Some((queue, n)) => Ok((queue.trim().parse::<Queue>()?, number(n)?)),
                None => Err(format!("{part:?} is not queue=number; right is 16 or live=16,notifications=8")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_is_one_number_or_one_per_queue() {
        let all: Concurrency = "7".parse().unwrap();
        assert_eq!(Queue::ALL.map(|q| all.of(q)), [7, 7, 7]);
        let some: Concurrency = "live=32, notifications=2".parse().unwrap();
        assert_eq!((some.of(Queue::Live), some.of(Queue::Notifications), some.of(Queue::Default)), (32, 2, 4));
        for wrong in ["0", "live", "live=x", "mail=3", "5000", ""] {
            assert!(wrong.parse::<Concurrency>().is_err(), "{wrong}");
        }
    }
}
