//! Other job systems on the same servers, driven by the small programs in `bench/peers`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use redis::aio::MultiplexedConnection;
use rustix::process::Signal;
use sandbox::process::Process;
use sqlx::{Connection, PgConnection};

use crate::{
    install,
    meter::{Meter, Roles, Used},
    ours::Batch,
    rig::{Frozen, Rig},
    usage,
};

/// Each of the programs writes it when its worker takes jobs.
const READY_LINE: &str = "peer ready";
const READY_WITHIN: Duration = Duration::from_secs(60);
const LONGEST_DRAIN: Duration = Duration::from_secs(900);
/// Its own database number, so that its keys are not among ours.
const REDIS_DATABASE: i64 = 1;
/// The same in Postgres.
const DATABASE: &str = "peer";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Celery,
    BullMq,
    Sidekiq,
    River,
}

impl Peer {
    pub const ALL: [Self; 4] = [Self::Celery, Self::BullMq, Self::Sidekiq, Self::River];

    pub fn name(self) -> &'static str {
        match self {
            Self::Celery => "celery",
            Self::BullMq => "bullmq",
            Self::Sidekiq => "sidekiq",
            Self::River => "river",
        }
    }

    /// How its worker is set up, and what that promises.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Celery => "Celery, prefork 2, acks_late",
            Self::BullMq => "BullMQ, concurrency 100",
            Self::Sidekiq => "Sidekiq (free), 10 threads; a crash loses running jobs",
            Self::River => "River for Rust, 1,000 workers, durable in Postgres",
        }
    }

    /// Fewer jobs for the slow ones: the rate is steady.
    pub fn jobs(self, wanted: usize) -> usize {
        match self {
            Self::Celery => (wanted / 10).max(500),
            Self::BullMq | Self::Sidekiq | Self::River => wanted,
        }
    }

    /// Installs what is missing; the versions.
    pub fn install(self, dir: &Path) -> anyhow::Result<String> {
        match self {
            Self::Celery => install::celery(dir),
            Self::BullMq => install::bullmq(dir),
            Self::Sidekiq => install::sidekiq(),
            Self::River => install::river(dir),
        }
    }

    fn producer(self, dir: &Path) -> Command {
        let program = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name);
        let mut command = match self {
            Self::Celery => Command::new(dir.join("venv/bin/python")),
            Self::BullMq => Command::new("node"),
            Self::Sidekiq => Command::new("ruby"),
            Self::River => Command::new(install::river_program(dir)),
        };
        match self {
            Self::Celery => command.arg(program("celery_peer.py")),
            Self::BullMq => command.arg(program("bullmq_peer.cjs")).env("NODE_PATH", dir.join("node/node_modules")),
            Self::Sidekiq => command.arg(program("sidekiq_peer.rb")),
            Self::River => &mut command,
        };
        command
    }

    fn worker(self, dir: &Path) -> Command {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        match self {
            Self::Celery => {
                let mut command = Command::new(dir.join("venv/bin/celery"));
                command.args(["-A", "celery_peer", "worker", "--pool", "prefork", "--concurrency", "2"]);
                // Lean, and without log lines per task.
                command.args(["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]);
                command.current_dir(peers).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Self::BullMq => {
                let mut command = self.producer(dir);
                command.args(["work", "100"]);
                command
            }
            Self::River => {
                let mut command = self.producer(dir);
                command.args(["work", "1000"]);
                command
            }
            Self::Sidekiq => {
                let mut command = Command::new("sidekiq");
                command.args(["--require", "./sidekiq_peer.rb", "--concurrency", "10"]).current_dir(peers);
                command
            }
        }
    }

    /// Jobs that wait or run, as far as its store knows.
    async fn open(self, stores: &mut Stores) -> anyhow::Result<i64> {
        let mut pipe = redis::pipe();
        match self {
            Self::Celery => pipe.cmd("LLEN").arg("celery").cmd("HLEN").arg("unacked"),
            Self::BullMq => pipe.cmd("LLEN").arg("bull:peer:wait").cmd("LLEN").arg("bull:peer:active"),
            Self::Sidekiq => pipe.cmd("LLEN").arg("queue:default"),
            Self::River => {
                // By its index on the state; the smaller class first.
                let open: bool = sqlx::query_scalar(
                    "select exists (select 1 from river_job where state = 'available') \
                     or exists (select 1 from river_job where state = 'running')",
                )
                .fetch_one(&mut stores.postgres)
                .await?;
                return Ok(i64::from(open));
            }
        };
        let counts: Vec<i64> = pipe.query_async(&mut stores.redis).await?;
        Ok(counts.iter().sum())
    }

    /// Latencies that its worker has noted, in milliseconds.
    async fn samples(self, stores: &mut Stores) -> anyhow::Result<Vec<f64>> {
        Ok(match self {
            Self::River => sqlx::query_scalar("select ms from samples").fetch_all(&mut stores.postgres).await?,
            _ => redis::cmd("LRANGE").arg("bench:samples").arg(0).arg(-1).query_async(&mut stores.redis).await?,
        })
    }
}

/// Looks into a peer's queue.
struct Stores {
    redis: MultiplexedConnection,
    postgres: PgConnection,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|peer| peer.name() == s)
            .ok_or_else(|| format!("no peer {s:?}; there are {}", known()))
    }
}

/// A peer that is on this machine.
pub struct Installed {
    pub peer: Peer,
    pub versions: String,
    /// Where it was installed.
    pub dir: PathBuf,
}

/// What its pushing program says of itself.
#[derive(serde::Deserialize)]
struct Pushed {
    seconds: f64,
    cpu: f64,
}

impl Installed {
    /// Pushes, single ones by `pushers` at once, or in bulk when there is none.
    pub async fn push(&self, rig: &Rig, jobs: usize, pushers: Option<usize>) -> anyhow::Result<Batch> {
        self.clear(rig).await?;
        let meter = Meter::start(self.servers(rig));
        let pushed = match pushers {
            Some(pushers) => self.produce(rig, &["push", &jobs.to_string(), &pushers.to_string()]).await?,
            None => self.produce(rig, &["bulk", &jobs.to_string()]).await?,
        };
        let used = meter.stop();
        // Its interpreter's start is not its fault.
        let used = Used { seconds: pushed.seconds, own_cpu: pushed.cpu, ..used };
        Ok(Batch { jobs, used, worker_memory: 0, redis_memory: 0, commits: 0 })
    }

    /// As our own drain: filled while the worker stands still, then measured until nothing is left.
    pub async fn drain(&self, rig: &Rig, jobs: usize, sleep_ms: u64) -> anyhow::Result<Batch> {
        self.clear(rig).await?;
        let worker = self.start_worker(rig).await?;
        let mut stores = self.stores(rig).await?;
        let frozen = Frozen::new(worker.pid());
        self.produce(rig, &["bulk", &jobs.to_string(), &sleep_ms.to_string()]).await?;
        usage::forget_peak(worker.pid());
        let mut roles = self.servers(rig);
        roles.push(("worker", worker.pid()));
        let meter = Meter::start(roles);
        frozen.thaw();
        let deadline = Instant::now() + LONGEST_DRAIN;
        let mut redis_memory = 0;
        while self.peer.open(&mut stores).await? > 0 {
            ensure!(Instant::now() < deadline, "{} did not drain its queue", self.peer.name());
            redis_memory = redis_memory.max(rig.redis_memory(&mut stores.redis).await?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let used = meter.stop();
        let worker_memory = usage::peak_memory(worker.pid());
        stop(&worker).await;
        Ok(Batch { jobs, used, worker_memory, redis_memory, commits: 0 })
    }

    /// Milliseconds from the call to enqueue until the job starts, on an idle worker; sorted.
    pub async fn latency(&self, rig: &Rig, rate: u32, time: Duration) -> anyhow::Result<Vec<f64>> {
        self.clear(rig).await?;
        let worker = self.start_worker(rig).await?;
        self.produce(rig, &["pace", &rate.to_string(), &time.as_secs().to_string()]).await?;
        let mut stores = self.stores(rig).await?;
        let wanted = rate as usize * time.as_secs() as usize;
        let deadline = Instant::now() + Duration::from_secs(10);
        let samples = loop {
            let samples = self.peer.samples(&mut stores).await?;
            if samples.len() >= wanted {
                break samples;
            }
            ensure!(Instant::now() < deadline, "{} ran {} of {wanted} jobs", self.peer.name(), samples.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        stop(&worker).await;
        let mut samples = samples;
        samples.sort_by(f64::total_cmp);
        Ok(samples)
    }

    async fn start_worker(&self, rig: &Rig) -> anyhow::Result<Process> {
        let mut command = self.peer.worker(&self.dir);
        self.environment(rig, &mut command);
        let ready = Arc::new(AtomicBool::new(false));
        let seen = ready.clone();
        let on_line = Box::new(move |line: &str| {
            if line.contains(READY_LINE) {
                seen.store(true, Ordering::Relaxed);
            }
        });
        let worker = Process::spawn(self.peer.name(), command, Signal::KILL, on_line)?;
        let deadline = Instant::now() + READY_WITHIN;
        while !ready.load(Ordering::Relaxed) {
            let runs = worker.exit_status().is_none() && Instant::now() < deadline;
            ensure!(runs, "{}'s worker does not get ready:\n{}", self.peer.name(), worker.last_lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(worker)
    }

    async fn produce(&self, rig: &Rig, arguments: &[&str]) -> anyhow::Result<Pushed> {
        let mut command = self.peer.producer(&self.dir);
        self.environment(rig, command.args(arguments));
        let text = tokio::task::spawn_blocking(move || install::run(&mut command)).await??;
        let line = text.lines().rev().find(|line| line.starts_with('{')).context("the pushing program says nothing")?;
        Ok(serde_json::from_str(line)?)
    }

    fn environment(&self, rig: &Rig, command: &mut Command) {
        command.env("PEER_REDIS_URL", url(rig)).env("PEER_DATABASE_URL", rig.postgres.url(DATABASE));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8");
    }

    /// The servers that it works with.
    fn servers(&self, rig: &Rig) -> Roles {
        match self.peer {
            Peer::River => vec![("postgres", rig.postgres_pid())],
            Peer::Celery | Peer::BullMq | Peer::Sidekiq => vec![("redis", rig.redis_pid())],
        }
    }

    async fn clear(&self, rig: &Rig) -> anyhow::Result<()> {
        rig.clear().await?;
        if self.peer == Peer::River {
            rig.postgres.create_database(DATABASE).await?;
            // Its worker makes the tables.
            stop(&self.start_worker(rig).await?).await;
            let mut stores = self.stores(rig).await?;
            sqlx::raw_sql("truncate river_job; truncate samples").execute(&mut stores.postgres).await?;
        }
        Ok(())
    }

    async fn stores(&self, rig: &Rig) -> anyhow::Result<Stores> {
        let client = redis::Client::open(url(rig))?;
        let database = if self.peer == Peer::River { DATABASE } else { "postgres" };
        Ok(Stores {
            redis: client.get_multiplexed_async_connection().await?,
            postgres: PgConnection::connect(&rig.postgres.url(database)).await?,
        })
    }
}

fn url(rig: &Rig) -> String {
    format!("{}{REDIS_DATABASE}", rig.redis.url())
}

async fn stop(worker: &Process) {
    worker.terminate(Signal::TERM, Duration::from_secs(15)).await;
}
