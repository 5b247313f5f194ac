//! A private Redis on 127.0.0.1, started as a child process. No password: Redis 7 refuses to change its
//! directories or to load modules at run time unless its configuration allows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::ports::free_port;
use crate::process::{Death, Process, lock};
use crate::provision;

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a port that is in use is tried again.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// What Redis keeps on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Append-only file, written out every second: what production uses.
    AppendOnly,
    /// Nothing; a restart is empty.
    None,
}

/// A running private Redis. Dropping it stops the server; its files stay.
#[derive(Debug)]
pub struct Redis {
    dir: PathBuf,
    port: u16,
    persistence: Persistence,
    process: Mutex<Option<Arc<Process>>>,
}

impl Redis {
    /// Starts a server whose files are in `dir`, on `port` or on a free one.
    ///
    /// # Errors
    /// When Redis is missing or older than 7.0, or does not start; the message holds its last log lines.
    pub async fn start(dir: &Path, port: Option<u16>, persistence: Persistence) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let patience = Instant::now() + PORT_PATIENCE;
        loop {
            let redis = Self {
                dir: dir.clone(),
                port: port.map_or_else(free_port, Ok)?,
                persistence,
                process: Mutex::new(None),
            };
            match redis.launch().await {
                Ok(()) => return Ok(redis),
                // A free port can be taken between our look and the server's start; on a wished port the
                // server of a run that was killed just now may still be ending.
                Err(error) if Instant::now() < patience && format!("{error:#}").contains("in use") => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `redis://127.0.0.1:<port>/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the server's process; none while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.current().map(|process| process.pid())
    }

    /// Ends the server as a crash would.
    pub async fn kill9(&self) {
        if let Some(process) = self.take() {
            process.kill9().await;
        }
    }

    /// Ends the server in good order: what was written is on disk.
    pub async fn stop(&self) {
        if let Some(process) = self.take() {
            process.terminate(Signal::TERM, Duration::from_secs(10)).await;
        }
    }

    /// Stops the server, if it runs, and starts it again on the same port with the same files.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        self.launch().await
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
        let found = provision::find_redis()?;
        let append_only = match self.persistence {
            Persistence::AppendOnly => "yes",
            Persistence::None => "no",
        };
        let mut command = Command::new(&found.path);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(&self.dir)
            .args(["--save", "", "--appendonly", append_only, "--appendfsync", "everysec"])
            // A queue must refuse work rather than forget it.
            .args(["--maxmemory-policy", "noeviction", "--daemonize", "no", "--databases", "64"])
            .current_dir(&self.dir);
        let on_line = Box::new(|line: &str| tracing::debug!(target: "sandbox::redis", "{line}"));
        let on_parent_death = match self.persistence {
            Persistence::AppendOnly => Signal::TERM,
            Persistence::None => Signal::KILL,
        };
        let process = Process::spawn("redis", command, on_parent_death, on_line)?;
        self.wait_until_ready(&process).await?;
        *lock(&self.process) = Some(Arc::new(process));
        Ok(())
    }

    async fn wait_until_ready(&self, process: &Process) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let pid = process.pid();
        loop {
            if let Some(status) = process.exit_status() {
                bail!("Redis ended at its start ({status}):\n{}", process.last_lines());
            }
            // A stranger on that port would answer as well: it has to be our own process.
            if self.answering_pid().await == Some(pid) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("Redis did not answer in {START_LIMIT:?}:\n{}", process.last_lines());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The process number that the server on our port tells; none while it loads its file.
    async fn answering_pid(&self) -> Option<u32> {
        let client = redis::Client::open(self.url()).ok()?;
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok()?;
        let pong: Result<String, _> = redis::cmd("PING").query_async(&mut connection).await;
        pong.ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("process_id:"))?;
        line.trim().parse().ok()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(process) = self.take() {
            process.terminate_blocking(Signal::TERM, Duration::from_secs(5));
        }
    }
}
