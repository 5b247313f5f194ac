//! `cargo run --release -p bench`: what the job engine can do on this machine, beside other job systems on the
//! same servers.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

mod bare;
mod chart;
mod figures;
mod history;
mod http;
mod install;
mod latency;
mod limits;
mod meter;
mod ours;
mod peers;
mod plans;
mod report;
mod rig;
mod run;
mod usage;

use peers::Peer;

/// Measures the job engine beside other job systems, on a Postgres and a Redis of its own.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "bench",
    version,
    after_help = "Examples:\n  cargo run --release -p bench               everything; writes docs/BENCHMARKS.md\n  \
                  cargo run --release -p bench -- --quick    a few minutes; writes below target/bench\n  \
                  cargo run --release -p bench -- --quick --peers none --only drain\n  \
                  cargo run --release -p bench -- api        requests of the API"
)]
pub struct Arguments {
    /// Smaller numbers, one run of each.
    #[arg(long)]
    quick: bool,

    /// No-op jobs per drain.
    #[arg(long)]
    jobs: Option<usize>,

    /// Due jobs of the large backlog.
    #[arg(long)]
    backlog: Option<usize>,

    /// Finished jobs beside which the ledger is measured.
    #[arg(long)]
    history: Option<usize>,

    /// Runs of each measurement.
    #[arg(long)]
    runs: Option<usize>,

    /// Jobs at a time of our worker.
    #[arg(long, default_value_t = 200, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    concurrency: usize,

    /// Which peers stand beside it, comma separated, or none.
    #[arg(long, default_value = "celery,bullmq,sidekiq,river", value_parser = peers_from)]
    peers: Peers,

    /// Only these parts, comma separated.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,

    /// Where the results are written; docs for a complete run, otherwise the bench's own directory.
    #[arg(long)]
    out: Option<PathBuf>,

    /// Where servers and peers are kept.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,

    #[command(subcommand)]
    command: Option<Inner>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Push,
    Drain,
    Sleep,
    Latency,
    Idle,
    Backlog,
    History,
    Limits,
}

impl Arguments {
    fn is_quick(&self) -> bool {
        self.quick
    }

    fn runs(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    fn jobs(&self) -> usize {
        self.jobs.unwrap_or(if self.quick { 10_000 } else { 50_000 }).max(1_000)
    }

    fn backlog(&self) -> usize {
        self.backlog.unwrap_or(if self.quick { 200_000 } else { 1_000_000 })
    }

    fn history(&self) -> usize {
        self.history.unwrap_or(if self.quick { 500_000 } else { 10_000_000 })
    }

    /// How long the measurements last that are not counted in jobs.
    fn watch(&self) -> Duration {
        Duration::from_secs(if self.quick { 5 } else { 20 })
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn out(&self) -> PathBuf {
        let whole = !self.quick && self.only.is_empty();
        self.out.clone().unwrap_or_else(|| if whole { PathBuf::from("docs") } else { self.dir.join("results") })
    }
}

#[derive(Debug, Clone)]
struct Peers(Vec<Peer>);

fn peers_from(text: &str) -> Result<Peers, String> {
    if text == "none" {
        return Ok(Peers(Vec::new()));
    }
    text.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(Peers)
}

#[derive(Debug, Clone, Subcommand)]
enum Inner {
    /// What requests of the API cost, beside a small Django REST, an empty route and the bare statement.
    Api {
        /// Sessions of all tenants together; a tenth of them one tenant's.
        #[arg(long)]
        sessions: Option<usize>,
    },
    /// Run one of the services in this process; the bench starts itself again with this.
    #[command(hide = true)]
    Service { name: String },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.command {
        Some(Inner::Service { name }) => service(name).await,
        Some(Inner::Api { sessions }) => measure_api(&arguments, *sessions).await,
        None => measure(&arguments).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures say nothing. Use cargo run --release -p bench.");
    }
    let shutdown = shared::shutdown::on_signal();
    let mut report = tokio::select! {
        report = run::all(arguments) => report?,
        () = shutdown.cancelled() => anyhow::bail!("stopped"),
    };
    report.machine = machine();
    report.servers = servers()?;
    println!("\n{}", report.markdown());
    let out = arguments.out();
    report.write(&out)?;
    println!("Written to {}.", out.display());
    Ok(())
}

async fn measure_api(arguments: &Arguments, sessions: Option<usize>) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures say nothing. Use cargo run --release -p bench -- api.");
    }
    let sessions = sessions.unwrap_or(if arguments.quick { 200_000 } else { 10_000_000 });
    let shutdown = shared::shutdown::on_signal();
    let mut report = tokio::select! {
        report = http::all(arguments, sessions) => report?,
        () = shutdown.cancelled() => anyhow::bail!("stopped"),
    };
    report.date = shared::clock::Clock::System.now().format("%Y-%m-%d").to_string();
    report.command = run::command_line();
    report.machine = machine();
    report.servers = servers()?;
    println!("\n{}", report.markdown());
    let out = arguments.out();
    report.write(&out)?;
    println!("Written to {}.", out.display());
    Ok(())
}

async fn service(name: &str) -> anyhow::Result<()> {
    let shutdown = shared::shutdown::on_signal();
    match name {
        "worker" => {
            let config = worker::Config::parse_from([name]);
            shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
            worker::run(config, shutdown).await
        }
        "scheduler" => {
            let config = scheduler::Config::parse_from([name]);
            shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
            scheduler::run(config, shutdown).await
        }
        "api" => {
            let config = api::Config::parse_from([name]);
            shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
            api::run(config, shutdown).await
        }
        "bare" => bare::run(api::Config::parse_from([name]), shutdown).await,
        _ => anyhow::bail!("there is no service {name:?}; there are api, bare, scheduler, worker"),
    }
}

/// Processor, cores, memory, kernel.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib = after(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let processor = after(&read("/proc/cpuinfo"), "model name");
    format!("{cores} cores ({processor}), {} GiB, Linux {}", kib / (1 << 20), kernel.trim())
}

fn servers() -> anyhow::Result<String> {
    let version = |program: &Path| install::run(Command::new(program).arg("--version"));
    let postgres = version(&sandbox::provision::find_postgres()?.path.join("postgres"))?;
    let redis = version(&sandbox::provision::find_redis()?.path)?;
    let postgres = postgres.split_whitespace().nth(2).context("Postgres tells no version")?.to_owned();
    let redis = redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned();
    Ok(format!("PostgreSQL {postgres} (fsync and synchronous_commit on), Redis {redis} (append-only file, everysec)"))
}
