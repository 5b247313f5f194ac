//! Settings, one small struct per concern, read from the environment (or the flag of the same name).
//! Each process flattens those that it needs; `--help` explains them all.

mod auth;
mod database;
mod outbound;
mod providers;
mod redis;
mod secrets;
mod telemetry;
mod zoom;

pub use auth::AuthConfig;
pub use database::DatabaseConfig;
pub use outbound::OutboundConfig;
pub use providers::ProvidersConfig;
pub use redis::RedisConfig;
pub use secrets::SecretsConfig;
pub use telemetry::TelemetryConfig;
pub use zoom::ZoomConfig;
