//! Functions on tables, one file per table; each takes an executor, so that several can share a
//! transaction. No layer above: tests run against a real Postgres.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection as _, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::config::DatabaseConfig;

pub mod attendance;
pub mod invitees;
pub mod participants;
pub mod recordings;
pub mod reminders;
pub mod schedule_ticks;
pub mod schedules;
pub mod sessions;
pub mod sightings;
pub mod tenants;
pub mod webhook_events;

/// The migrations, part of the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is taken without a test for this long. Shorter than a restart of Postgres, so that
/// hardly a statement meets a connection that died while nobody used it.
const TRUSTED_FOR: Duration = Duration::from_millis(250);

/// Connects a pool. `process` is shown in `pg_stat_activity`.
pub async fn connect(config: &DatabaseConfig, process: &str) -> anyhow::Result<PgPool> {
    const EXAMPLE: &str = "example of a right value: postgres://user:password@localhost:5432/live";
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| config.database_url.starts_with(scheme));
    anyhow::ensure!(is_postgres, "DATABASE_URL does not begin with postgres://; {EXAMPLE}");
    let options = PgConnectOptions::from_str(&config.database_url)
        .map_err(|e| anyhow::anyhow!("DATABASE_URL: {e}; {EXAMPLE}"))?
        .application_name(process)
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(2));
    // A pool hides why it cannot connect; one connection tells.
    let address = format!("{}:{}", options.get_host(), options.get_port());
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => connection.close().await?,
        Ok(Err(error)) => anyhow::bail!("cannot reach Postgres at {address} (DATABASE_URL): {error}"),
        Err(_) => anyhow::bail!("Postgres at {address} (DATABASE_URL) does not answer within {CONNECT_TIMEOUT:?}"),
    }
    let pool = PgPoolOptions::new()
        .max_connections(config.database_pool)
        // A round trip less for each acquire: what answered a moment ago needs no test.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Whether an error is the violation of this constraint; so that nobody checks before inserting.
pub fn is_violation(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(|e| e.constraint()) == Some(constraint)
}
