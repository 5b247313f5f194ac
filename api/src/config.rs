//! Settings of the API process.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser};
use shared::config::{
    AuthConfig, DatabaseConfig, OutboundConfig, ProvidersConfig, RedisConfig, SecretsConfig, TelemetryConfig,
    ZoomConfig,
};

use crate::rates::RateSetting;

/// Serves the HTTP API of the live-session service. Start as many as you need behind a load balancer.
#[derive(Debug, Clone, Parser)]
#[command(name = "api", version)]
pub struct Config {
    /// Where the API is served.
    #[arg(long, env = "API_ADDR", default_value = "127.0.0.1:8080")]
    pub api_addr: SocketAddr,

    /// Where /metrics is served, with /livez and /readyz, instead of at API_ADDR.
    #[arg(long, env = "API_METRICS_ADDR")]
    pub api_metrics_addr: Option<SocketAddr>,

    /// Address under which callers reach the API, e.g. https://lms.example.org; links in answers begin
    /// with it, or are relative when it is empty. BigBlueButton's webhooks and callbacks need it: their signatures cover it.
    #[arg(long, env = "PUBLIC_URL", default_value = "")]
    pub public_url: String,

    /// Address of the LMS page of a session in calendar entries; {id} is the session's id.
    #[arg(long, env = "SESSION_URL", default_value = "http://localhost:8080/live-sessions/{id}")]
    pub session_url: String,

    /// Sender of all mails, and the organizer's address in calendar entries.
    #[arg(long, env = "MAIL_FROM", default_value = "Live sessions <live-sessions@localhost>")]
    pub mail_from: String,

    /// Seconds after which a request is given up; its body has two thirds of them to arrive.
    #[arg(long, env = "REQUEST_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub request_timeout: u64,

    /// Requests at a time, a quarter of them webhooks; more are turned away with 503.
    #[arg(long, env = "API_MAX_IN_FLIGHT", default_value_t = 1024)]
    pub api_max_in_flight: usize,

    /// Connections at a time; further ones wait to be accepted. Each needs a file descriptor (`ulimit -n`).
    #[arg(
        long,
        env = "API_MAX_CONNECTIONS",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub api_max_connections: u32,

    /// Requests that one tenant may make over all replicas: per second, and at once after a quiet time; off for any number.
    #[arg(long, env = "RATE_LIMIT_TENANT", default_value = "1000:20000")]
    pub rate_limit_tenant: RateSetting,

    /// Requests that one person may make over all replicas: per second, and at once after a quiet time; off for any number.
    /// Services (the LMS itself) have their tenant's limit alone.
    #[arg(long, env = "RATE_LIMIT_PERSON", default_value = "50:500")]
    pub rate_limit_person: RateSetting,

    /// Origins whose pages may call the API, comma separated, e.g. https://lms.example.org.
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<String>,

    /// Seconds that running requests have to finish after SIGTERM.
    #[arg(long, env = "SHUTDOWN_GRACE", default_value_t = 25)]
    pub shutdown_grace: u64,

    /// Check settings and connections, explain what is wrong, and exit.
    #[arg(long)]
    pub check: bool,

    #[command(flatten)]
    pub auth: AuthConfig,
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub redis: RedisConfig,
    #[command(flatten)]
    pub providers: ProvidersConfig,
    #[command(flatten)]
    pub zoom: ZoomConfig,
    #[command(flatten)]
    pub secrets: SecretsConfig,
    #[command(flatten)]
    pub outbound: OutboundConfig,
    #[command(flatten)]
    pub storage: StorageConfig,
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

impl Config {
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout)
    }

    /// Refuses what would only fail, or be unsafe, later.
    pub fn validate(&self) -> anyhow::Result<()> {
        self.auth.validate()?;
        for origin in &self.cors_origins {
            anyhow::ensure!(
                url::Url::parse(origin).is_ok_and(|u| u.origin().ascii_serialization() == *origin),
                "CORS_ORIGINS: {origin:?} is no origin; example of a right value: https://lms.example.org"
            );
        }
        anyhow::ensure!(
            self.public_url.is_empty() || url::Url::parse(&self.public_url).is_ok_and(|u| u.has_host()),
            "PUBLIC_URL: {:?} is no address; example of a right value: https://live.example.org",
            self.public_url
        );
        crate::storage::Storage::new(&self.storage).map(|_| ())
    }
}

/// The object store, for download links.
#[derive(Clone, Args)]
pub struct StorageConfig {
    /// Address of an S3-compatible server; empty for Amazon's.
    #[arg(long, env = "S3_ENDPOINT", default_value = "")]
    pub s3_endpoint: String,
    /// Address of that server as callers reach it, when it is another one: download links lead there.
    #[arg(long, env = "S3_PUBLIC_ENDPOINT", default_value = "")]
    pub s3_public_endpoint: String,
    /// Bucket of the recordings.
    #[arg(long, env = "S3_BUCKET", default_value = "recordings")]
    pub s3_bucket: String,
    /// Region of the bucket; any, for most other servers.
    #[arg(long, env = "S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
    /// Credentials that may read the bucket's objects.
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
            .field("s3_public_endpoint", &self.s3_public_endpoint)
            .field("s3_bucket", &self.s3_bucket)
            .finish_non_exhaustive()
    }
}
