use clap::Args;

use crate::telemetry::LogFormat;

/// Logs.
#[derive(Debug, Clone, Args)]
pub struct TelemetryConfig {
    /// How log lines are written.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// Which log lines are written, in RUST_LOG syntax.
    #[arg(long, env = "RUST_LOG", default_value = "info,sqlx=warn")]
    pub log_filter: String,
}
