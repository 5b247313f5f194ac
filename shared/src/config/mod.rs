//! Settings, one small struct per concern, read from the environment (or the flag of the same name).
//! Each process flattens those that it needs; `--help` explains them all.

mod auth;
mod database;
mod providers;
mod redis;
mod telemetry;

pub use auth::AuthConfig;
pub use database::DatabaseConfig;
pub use providers::ProvidersConfig;
pub use redis::RedisConfig;
pub use telemetry::TelemetryConfig;
