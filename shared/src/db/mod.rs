//! Functions on tables, one file per table; each takes an executor, so that several can share a
//! transaction. No layer above: tests run against a real Postgres.

use std::{
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use sqlx::{
    ConnectOptions, Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::config::DatabaseConfig;

pub mod api_keys;
pub mod api_pauses;
pub mod attendance;
pub mod attendance_corrections;
pub mod attendance_objections;
pub mod attendance_ranges;
pub mod audit_log;
pub mod erasures;
pub mod idempotency_keys;
pub mod invitees;
pub mod meeting_registrants;
pub mod meetings;
pub mod participants;
pub mod personal_data;
pub mod provider_configs;
pub mod provider_health;
pub mod provider_secrets;
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

/// After a statement was given up, so many connections that come back to the pool have to answer within this time:
/// their peer may have vanished without a word, and they would count as in use for ever.
const SUSPECTS: u32 = 1_000;
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);
static SUSPECTS_LEFT: AtomicU32 = AtomicU32::new(0);

/// What a session of this service begins with: the role that the tables' policies are about (migration `isolate_tenants`),
/// and how long the server keeps transactions, and with them the locks, of a process that vanished without a word.
const SESSION: &str = "set role live_sessions_service; set idle_in_transaction_session_timeout = '60s'; set tcp_keepalives_idle = 30; \
    set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3";

/// What a statement may take whose answer is waited for without another limit.
pub const STATEMENT_LIMIT: Duration = Duration::from_secs(10);

/// Gives a statement up after [`STATEMENT_LIMIT`]: the connection may have fallen silent. It may have been carried out
/// all the same.
pub async fn limited<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    limited_to(STATEMENT_LIMIT, statement).await
}

/// The same with a limit of its own.
pub async fn limited_to<T>(limit: Duration, statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    // Lives until the return, and with it its connection: by then that is a suspect.
    let mut statement = std::pin::pin!(statement);
    tokio::time::timeout(limit, statement.as_mut()).await.unwrap_or_else(|_| {
        SUSPECTS_LEFT.store(SUSPECTS, Ordering::SeqCst);
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "Postgres does not answer")))
    })
}

/// Whether Postgres is there and takes the address; the error says what to do.
pub async fn check(config: &DatabaseConfig) -> anyhow::Result<()> {
    Ok(reach(config).await?.0.close().await?)
}

/// Brings the tables up to date, as the user of the address. Processes that do it at once wait for each other.
pub async fn migrate(config: &DatabaseConfig) -> anyhow::Result<()> {
    let (mut connection, _) = reach(config).await?;
    MIGRATOR.run_direct(None, &mut connection, false).await.context("the migrations cannot be applied")?;
    Ok(connection.close().await?)
}

/// A connection, and how another one is made.
async fn reach(config: &DatabaseConfig) -> anyhow::Result<(PgConnection, PgConnectOptions)> {
    const EXAMPLE: &str = "example of a right value: postgres://user:password@localhost:5432/live";
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| config.database_url.starts_with(scheme));
    anyhow::ensure!(is_postgres, "DATABASE_URL does not begin with postgres://; {EXAMPLE}");
    let options = PgConnectOptions::from_str(&config.database_url)
        .map_err(|e| anyhow::anyhow!("DATABASE_URL: {e}; {EXAMPLE}"))?
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(2));
    let address = format!("{}:{}", options.get_host(), options.get_port());
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => Ok((connection, options)),
        Ok(Err(error)) => anyhow::bail!("cannot reach Postgres at {address} (DATABASE_URL): {error}"),
        Err(_) => anyhow::bail!("Postgres at {address} (DATABASE_URL) does not answer within {CONNECT_TIMEOUT:?}"),
    }
}

/// Connects a pool to a database that is up to date. `process` is shown in `pg_stat_activity`.
pub async fn connect(config: &DatabaseConfig, process: &str) -> anyhow::Result<PgPool> {
    // A pool hides why it cannot connect; one connection tells.
    let (connection, options) = reach(config).await?;
    connection.close().await?;
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
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::raw_sql(SESSION).execute(connection).await.map(|_| ()) })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                let suspect =
                    SUSPECTS_LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                match suspect {
                    Ok(_) => Ok(tokio::time::timeout(RETURN_TIMEOUT, connection.ping()).await.is_ok_and(|p| p.is_ok())),
                    Err(_) => Ok(true),
                }
            })
        })
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options.application_name(process))
        .await?;
    Ok(pool)
}

/// Whether an error is the violation of this constraint; so that nobody checks before inserting.
pub fn is_violation(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(|e| e.constraint()) == Some(constraint)
}
