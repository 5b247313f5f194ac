//! Settings of the scheduler process.

use clap::Parser;
use shared::config::{DatabaseConfig, RedisConfig, TelemetryConfig};

/// Starts jobs by the clock and hands due jobs to the queues. One is enough; several are harmless:
/// each tick runs once, whoever is first.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "scheduler",
    version,
    after_help = "A schedule is changed by SCHEDULE_<NAME>, e.g. SCHEDULE_CLEANUP='0 4 * * * Europe/Berlin', or switched off by SCHEDULE_<NAME>=off."
)]
pub struct Config {
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "SCHEDULER_HEALTH_ADDR", default_value = "127.0.0.1:8083")]
    pub health_addr: std::net::SocketAddr,

    /// Check settings and connections, show the schedules and their next runs, and exit.
    #[arg(long)]
    pub check: bool,

    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub redis: RedisConfig,
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}
