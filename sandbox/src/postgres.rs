//! A private Postgres on 127.0.0.1, started as a child process: its own data directory, port and password.
//! How a data directory is made is in `cluster`.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::ports::free_port;
use crate::process::{Death, Process, lock};

/// How long a start may take; replaying a long write-ahead log after a crash takes its time.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a port or a memory segment that is in use is waited for.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// What survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Everything that was committed, as in production.
    Durable,
    /// Nothing is promised: for tests. A crash of Postgres alone still loses nothing.
    Fast,
}

/// Removes the data of a stopped server from `dir`, ending one that an earlier run has left there. Where `dir` is the
/// link that [`Cluster::open`] made, what it leads to goes as well; any other link is removed alone.
///
/// # Errors
/// What could not be removed.
pub fn remove_data(dir: &Path) -> anyhow::Result<()> {
    crate::cluster::remove(dir)
}

/// A running private Postgres. Dropping it stops the server; its data stay.
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
    durability: Durability,
    port: u16,
    process: Mutex<Option<Arc<Process>>>,
}

impl Postgres {
    /// Starts a server whose data are in `dir`, made when it is not there, on `port` or on a free one. A server
    /// that an earlier run has left in `dir` is ended first.
    ///
    /// # Errors
    /// When Postgres is missing or does not start; the message holds its last log lines.
    pub async fn start(dir: &Path, port: Option<u16>, durability: Durability) -> anyhow::Result<Self> {
        let owned_dir = dir.to_owned();
        let cluster = tokio::task::spawn_blocking(move || Cluster::open(&owned_dir, durability)).await??;
        let patience = Instant::now() + BUSY_LIMIT;
        let mut postgres = Self { cluster, durability, port: 0, process: Mutex::new(None) };
        loop {
            postgres.port = port.map_or_else(free_port, Ok)?;
            match postgres.launch().await {
                Ok(()) => return Ok(postgres),
                Err(error) if Instant::now() < patience && is_passing(&error) => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `postgres://postgres:<password>@127.0.0.1:<port>/<database>`, for the superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.cluster.password(), self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the server's first process; none while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.current().map(|process| process.pid())
    }

    /// Where its data are. Not always below the directory that was asked for: see [`Cluster::open`].
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        self.cluster.data()
    }

    /// Makes an empty database, when it is not there yet.
    ///
    /// # Errors
    /// When the server does not answer or refuses the name.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let there: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !there {
            let statement = format!("create database {}", quoted(name));
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// Makes the database `name` a copy of `template`, to which nobody may be connected.
    ///
    /// # Errors
    /// When `name` is there already or `template` is in use.
    pub async fn copy_database(&self, template: &str, name: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let statement = format!("create database {} template {}", quoted(name), quoted(template));
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Ends the server in good order; open connections are cut.
    pub async fn stop(&self) {
        self.end_with(Signal::INT).await;
    }

    /// Ends the server at once without a checkpoint; the next start replays its log.
    pub async fn stop_immediate(&self) {
        self.end_with(Signal::QUIT).await;
    }

    /// Kills the server's first process with signal 9; its connections break off.
    pub async fn kill9(&self) {
        if let Some(process) = self.take() {
            process.kill9().await;
        }
    }

    /// Stops the server, if it runs, and starts it again on the same port with the same data.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        let patience = Instant::now() + BUSY_LIMIT;
        loop {
            match self.launch().await {
                Err(error) if Instant::now() < patience && is_passing(&error) => {
                    sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }

    async fn end_with(&self, signal: Signal) {
        if let Some(process) = self.take() {
            process.terminate(signal, Duration::from_secs(20)).await;
        }
    }

    /// Resolves when the server's process has ended although nobody asked for it by a method of this type.
    pub async fn died(&self) -> Death {
        loop {
            let process = self.current();
            if let Some(process) = &process {
                let status = process.ended().await;
                if self.current().is_some_and(|current| Arc::ptr_eq(&current, process)) {
                    return Death { status, last_lines: process.last_lines() };
                }
            }
            // Stopped on purpose, perhaps to be started again.
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn current(&self) -> Option<Arc<Process>> {
        lock(&self.process).clone()
    }

    fn take(&self) -> Option<Arc<Process>> {
        lock(&self.process).take()
    }

    async fn launch(&self) -> anyhow::Result<()> {
        let mut command = self.cluster.command();
        self.add_settings(&mut command);
        let on_line = Box::new(|line: &str| tracing::debug!(target: "sandbox::postgres", "{line}"));
        let on_parent_death = match self.durability {
            Durability::Durable => Signal::INT,
            // At once: nobody reads these data again.
            Durability::Fast => Signal::QUIT,
        };
        let process = Process::spawn("postgres", command, on_parent_death, on_line)?;
        self.wait_until_ready(&process).await?;
        *lock(&self.process) = Some(Arc::new(process));
        Ok(())
    }

    fn add_settings(&self, command: &mut Command) {
        let mut set = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        set("listen_addresses", "127.0.0.1");
        set("port", &self.port.to_string());
        // TCP alone: a socket's path may be at most about 100 bytes long.
        set("unix_socket_directories", "");
        set("max_connections", "300");
        set("timezone", "UTC");
        set("log_timezone", "UTC");
        set("logging_collector", "off");
        set("shared_buffers", "128MB");
        if self.durability == Durability::Fast {
            for (name, value) in [
                ("fsync", "off"),
                ("full_page_writes", "off"),
                ("wal_level", "minimal"),
                ("max_wal_senders", "0"),
                ("checkpoint_timeout", "1h"),
            ] {
                set(name, value);
            }
        }
    }

    async fn wait_until_ready(&self, process: &Process) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let url = self.url("postgres");
        loop {
            if let Some(status) = process.exit_status() {
                bail!("Postgres ended at its start ({status}):\n{}", process.last_lines());
            }
            match PgConnection::connect(&url).await {
                // A stranger on the port does not know the password, which was made for this directory alone.
                Ok(connection) => {
                    connection.close().await?;
                    if process.exit_status().is_none() {
                        return Ok(());
                    }
                }
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).with_context(|| {
                        format!("Postgres did not answer in {START_LIMIT:?}:\n{}", process.last_lines())
                    });
                }
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = self.take() {
            let signal = match self.durability {
                Durability::Durable => Signal::INT,
                Durability::Fast => Signal::QUIT,
            };
            process.terminate_blocking(signal, Duration::from_secs(10));
        }
    }
}

/// Reasons that go away by waiting: the port was taken meanwhile, or processes of a server that was killed
/// still hold its shared memory.
fn is_passing(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["could not bind", "still in use", "Address already in use", "lock file \"postmaster.pid\""]
        .iter()
        .any(|reason| text.contains(reason))
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
