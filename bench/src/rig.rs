//! The servers and services that are measured: one durable Postgres and one Redis for all, our worker and
//! scheduler as processes of their own. Between two measurements everything is forgotten.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{
    ports::free_port,
    postgres::{Durability, Postgres},
    provision::{self, Tool},
    redis::{Persistence, Redis},
    services::{Launcher, OnServiceLine, Service, Supervised},
};
use shared::{
    config::DatabaseConfig,
    db,
    jobs::{Job, Noop},
    queue::{Dispatcher, Tx, redis::RedisQueues},
};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{http, usage};

const DATABASE: &str = "bench";
const PREFIX: &str = "bench";
/// Jobs per transaction of a push in bulk.
pub const BULK: usize = 1_000;
const LONGEST_DRAIN: Duration = Duration::from_secs(1_800);

/// Everything that runs during the bench.
pub struct Rig {
    pub postgres: Postgres,
    pub redis: Redis,
    pub pool: PgPool,
    /// As the owner of the tables, for what the services may not do.
    pub owner: PgPool,
    pub queues: RedisQueues,
    pub dispatcher: Dispatcher,
    pub dir: PathBuf,
    /// Jobs at a time of our worker, in the queue that is measured.
    pub concurrency: usize,
}

impl Rig {
    /// Starts the servers in `dir`, which is emptied first.
    pub async fn start(dir: &Path, concurrency: usize) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(|| provision::ensure(&Tool::ALL)).await??;
        let servers = dir.join("servers");
        forget(&servers)?;
        std::fs::create_dir_all(&servers).with_context(|| format!("cannot make {}", servers.display()))?;
        let servers = servers.canonicalize()?;
        let postgres = Postgres::start(&servers.join("postgres"), None, Durability::Durable).await?;
        let redis = Redis::start(&servers.join("redis"), None, Persistence::AppendOnly).await?;
        postgres.create_database(DATABASE).await?;
        let config = DatabaseConfig { database_url: postgres.url(DATABASE), database_pool: 20 };
        db::migrate(&config).await?;
        let pool = db::connect(&config, "bench").await?;
        let owner = PgPoolOptions::new().max_connections(20).connect(&config.database_url).await?;
        let queues = RedisQueues::connect(&redis.url(), PREFIX)?;
        let dispatcher = Dispatcher::start(queues.clone());
        Ok(Self { postgres, redis, pool, owner, queues, dispatcher, dir: servers, concurrency })
    }

    /// Forgets all jobs, ours and those of peers.
    pub async fn clear(&self) -> anyhow::Result<()> {
        sqlx::query("truncate jobs").execute(&self.owner).await?;
        // What the last measurement left to be written must not be paid by the next one.
        sqlx::query("checkpoint").execute(&self.owner).await?;
        let _: () = ::redis::cmd("FLUSHALL").query_async(&mut self.redis_connection().await?).await?;
        Ok(())
    }

    pub async fn redis_connection(&self) -> anyhow::Result<::redis::aio::MultiplexedConnection> {
        let client = ::redis::Client::open(self.redis.url())?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// Bytes that Redis uses for data and clients now.
    pub async fn redis_memory(&self, connection: &mut ::redis::aio::MultiplexedConnection) -> anyhow::Result<u64> {
        let info: String = ::redis::cmd("INFO").arg("memory").query_async(connection).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.and_then(|n| n.trim().parse().ok()).context("Redis does not tell its memory")
    }

    /// Of our database, as the owner of its tables.
    pub fn url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    pub fn postgres_pid(&self) -> u32 {
        self.postgres.pid().unwrap_or(0)
    }

    pub fn redis_pid(&self) -> u32 {
        self.redis.pid().unwrap_or(0)
    }

    /// Writes `count` jobs in transactions of [`BULK`].
    pub async fn enqueue_bulk(&self, count: usize, sleep_ms: u64) -> anyhow::Result<()> {
        let jobs: Vec<Noop> = (0..BULK).map(|n| Noop { note: n.to_string(), sleep_ms }).collect();
        let mut left = count;
        while left > 0 {
            let step = left.min(BULK);
            let mut tx = Tx::begin(&self.pool, &self.dispatcher).await?;
            tx.enqueue_all(&jobs[..step]).await?;
            tx.commit().await?;
            left -= step;
        }
        Ok(())
    }

    /// Until Redis holds `count` ids of the measured queue: the pushes go on behind the enqueuing.
    pub async fn wait_for_pushes(&self, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.queues.depth(Noop::QUEUE).await? < count {
            ensure!(Instant::now() < deadline, "the pushes do not arrive in Redis");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Until no job waits or runs; the largest memory of Redis seen meanwhile, in bytes.
    pub async fn wait_until_drained(&self) -> anyhow::Result<u64> {
        let mut connection = self.redis_connection().await?;
        let deadline = Instant::now() + LONGEST_DRAIN;
        let mut peak = 0;
        loop {
            peak = peak.max(self.redis_memory(&mut connection).await?);
            // The ledger is asked only when Redis is empty, so that looking costs next to nothing.
            if self.queues.depth(Noop::QUEUE).await? == 0 {
                let open: bool = sqlx::query_scalar(
                    "select exists (select 1 from jobs where state = 'running') \
                     or exists (select 1 from jobs where state = 'available' and queue = 'default' \
                     and run_at <= now())",
                )
                .fetch_one(&self.pool)
                .await?;
                if !open {
                    return Ok(peak);
                }
            }
            ensure!(Instant::now() < deadline, "the jobs are not drained after {LONGEST_DRAIN:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts our worker, or our scheduler, and waits until it is ready.
    pub async fn service(&self, kind: &'static str, log: &str, on_line: OnServiceLine) -> anyhow::Result<Supervised> {
        self.service_at(free_port()?, kind, log, on_line).await
    }

    /// The same on this port.
    pub async fn service_at(
        &self,
        port: u16,
        kind: &'static str,
        log: &str,
        on_line: OnServiceLine,
    ) -> anyhow::Result<Supervised> {
        let address = format!("127.0.0.1:{port}");
        let launcher = Launcher {
            program: std::env::current_exe().context("where this program lies")?,
            env: self.environment(log),
            pid_dir: self.dir.clone(),
            on_line,
        };
        let variable = match kind {
            "worker" => "WORKER_HEALTH_ADDR",
            "scheduler" => "SCHEDULER_HEALTH_ADDR",
            _ => "API_ADDR",
        };
        let service = Service {
            name: kind.to_owned(),
            kind,
            ready_url: format!("http://{address}/readyz"),
            env: BTreeMap::from([(variable.to_owned(), address)]),
        };
        let supervised = Supervised::start(&launcher, service)?;
        supervised.ready().await?;
        Ok(supervised)
    }

    fn environment(&self, log: &str) -> BTreeMap<String, String> {
        [
            ("DATABASE_URL", self.postgres.url(DATABASE)),
            ("REDIS_URL", self.redis.url()),
            ("REDIS_PREFIX", PREFIX.to_owned()),
            ("WORKER_CONCURRENCY", format!("default={}", self.concurrency)),
            ("LOG_FORMAT", "json".to_owned()),
            ("RUST_LOG", log.to_owned()),
            // Nothing here stores or mails; the settings only have to be there.
            ("S3_ENDPOINT", "http://127.0.0.1:9".to_owned()),
            ("AWS_ACCESS_KEY_ID", "unused".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "unused".to_owned()),
            ("AUTH_JWT_SECRET", http::TOKEN_SECRET.to_owned()),
            ("JITSI_DOMAIN", "meet.bench".to_owned()),
            ("JITSI_APP_ID", "bench".to_owned()),
            ("JITSI_JWT_SECRET", http::TOKEN_SECRET.to_owned()),
            ("JITSI_WEBHOOK_SECRET", http::WEBHOOK_SECRET.to_owned()),
            // They are kept, and reached by nobody.
            ("RATE_LIMIT_TENANT", "1000000:1000000".to_owned()),
            ("RATE_LIMIT_PERSON", "100000:100000".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// The log lines of services that nobody reads, but for problems.
pub fn problems_only() -> OnServiceLine {
    Arc::new(|name, line| {
        if line.contains("\"ERROR\"") || line.contains("ended (") {
            eprintln!("  {name}: {line}");
        }
    })
}

/// The usual logging of production.
pub const USUAL_LOG: &str = "info,sqlx=warn";

/// Stops a process and its descendants in place, so that a queue can be filled before anything is taken out.
pub struct Frozen(u32);

impl Frozen {
    pub fn new(root: u32) -> Self {
        signal(root, Signal::STOP);
        Self(root)
    }

    /// Lets them go on.
    pub fn thaw(self) {}
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

fn signal(root: u32, signal: Signal) {
    for pid in usage::tree(root) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended since we looked.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Removes what an earlier run left. Postgres' data may lie elsewhere, where its user can reach it.
fn forget(dir: &Path) -> anyhow::Result<()> {
    if let Ok(target) = std::fs::read_link(dir.join("postgres")) {
        std::fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
