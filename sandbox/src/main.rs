//! `cargo run`: the whole live-session service on one machine.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use place::Place;
use sandbox::{
    ports,
    postgres::Durability,
    system::{Options, System},
};
use tokio_util::sync::CancellationToken;
use worker::cli::Invocation;

mod chaos;
mod demo;
mod place;
mod ready;

/// Starts the whole live-session service on this machine: Postgres, Redis, object store, mailbox, api,
/// worker and scheduler, all private to it and bound to 127.0.0.1. Ctrl-C ends all.
#[derive(Parser)]
#[command(
    name = "sandbox",
    version,
    after_help = "Examples:\n  cargo run                      start everything; the ready message shows how to go on\n  \
                  cargo run -- --fresh           the same, forgetting everything from before\n  \
                  cargo run -- demo              a class from plan to recording, step by step\n  \
                  cargo run -- demo --break      the same, while worker and Redis are killed and flushed\n  \
                  cargo run -- chaos             kills and failures at random under load, then a count of what was lost\n  \
                  cargo run -- jobs list         what the running sandbox has in its ledger; also queues, schedules, tenants"
)]
struct Arguments {
    /// Forget everything from before and start anew.
    #[arg(long)]
    fresh: bool,

    /// Port of the API; a free one, when absent.
    #[arg(long, env = "SANDBOX_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// How many workers.
    #[arg(long, default_value_t = 1)]
    workers: usize,

    /// Where everything is kept.
    #[arg(long, global = true, default_value = ".sandbox")]
    dir: PathBuf,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Show a class from plan to recording, step by step, against the running sandbox (or one of its own, when
    /// none runs).
    Demo {
        /// Meanwhile kill the worker with signal 9 and flush Redis: it still has to end well.
        #[arg(long = "break")]
        break_things: bool,
    },
    /// Kill processes and fail stores at random under load, then count what was accepted, done, lost and doubled; in
    /// a directory of its own.
    Chaos(chaos::Arguments),
    /// Look at the running sandbox's jobs, retry, cancel, enqueue them; as `worker jobs`.
    #[command(disable_help_flag = true)]
    Jobs(Passed),
    /// See how the running sandbox's queues stand, pause and resume them; as `worker queues`.
    #[command(disable_help_flag = true)]
    Queues(Passed),
    /// See what the running sandbox has scheduled, run it now; as `worker schedules`.
    #[command(disable_help_flag = true)]
    Schedules(Passed),
    /// See the running sandbox's tenants, make one; as `worker tenants`.
    #[command(disable_help_flag = true)]
    Tenants(Passed),
    /// Run one of the services in this process; the sandbox starts itself again with this.
    #[command(hide = true)]
    Service {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// What is passed on.
#[derive(clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        // One line that says what to do, without a backtrace.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Service { name, arguments }) => service(&name, arguments).await,
        Some(Command::Jobs(passed)) => operate(&arguments.dir, "jobs", passed.arguments).await,
        Some(Command::Queues(passed)) => operate(&arguments.dir, "queues", passed.arguments).await,
        Some(Command::Schedules(passed)) => operate(&arguments.dir, "schedules", passed.arguments).await,
        Some(Command::Tenants(passed)) => operate(&arguments.dir, "tenants", passed.arguments).await,
        Some(Command::Chaos(arguments)) => chaos::run(arguments).await,
        Some(Command::Demo { break_things }) => demo::run(&arguments.dir, break_things).await,
        None => stay(arguments).await,
    }
}

/// The worker's command line, on the sandbox that runs in `dir`.
async fn operate(dir: &Path, what: &str, passed: Vec<String>) -> anyhow::Result<()> {
    let mut arguments = vec!["worker".to_owned(), what.to_owned()];
    let wants_help = passed.is_empty() || passed.iter().any(|a| matches!(a.as_str(), "-h" | "--help" | "help"));
    arguments.extend(passed);
    match demo::read_env(&dir.join("env")) {
        Ok(env) => {
            for (flag, name) in [("--database-url", "DATABASE_URL"), ("--redis-url", "REDIS_URL")] {
                arguments.extend(env.get(name).map(|value| format!("{flag}={value}")));
            }
        }
        Err(_) if wants_help => {}
        Err(error) if dir.join("env").exists() => return Err(error),
        Err(_) => anyhow::bail!("no sandbox runs in {}; start one with `cargo run` in another terminal", dir.display()),
    }
    match worker::cli::parse(arguments) {
        Invocation::Control(command) => worker::cli::run(*command).await,
        Invocation::Serve(_) => anyhow::bail!("{what} is no command of the worker"),
    }
}

async fn stay(arguments: Arguments) -> anyhow::Result<()> {
    let shutdown = shared::shutdown::on_signal();
    // A sandbox that runs here already is what uses the port, more often than not.
    if let Some(port) = arguments.port.filter(|_| !place::is_in_use(&arguments.dir)) {
        ports::ensure_free(port)?;
    }
    let place = Place::take(&arguments.dir)?;
    if arguments.fresh {
        place.forget()?;
    }
    say(format_args!("Starting the live-session service in {} …", arguments.dir.display()));
    let mut options = options(&arguments.dir)?;
    options.port = arguments.port;
    options.workers = arguments.workers;
    let system = tokio::select! {
        system = System::start(options) => system?,
        () = shutdown.cancelled() => anyhow::bail!("stopped before it was ready"),
    };
    say(ready::message(&system, &arguments.dir)?);
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = system.keep_running(&|line| say(format_args!("{:<9} | {line}", "sandbox"))) => Err(error),
    };
    if let Err(error) = &ended {
        // With its last lines at the very end, below what is logged meanwhile.
        say(format_args!("sandbox   | cannot go on: {}", error.to_string().lines().next().unwrap_or_default()));
    }
    say("Stopping …");
    system.stop().await;
    say("Everything has ended.");
    ended
}

/// A line on standard output, at once; whether anybody still reads it is no reason to end.
fn say(line: impl std::fmt::Display) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Log lines of services with their names in front, progress as it comes.
fn options(dir: &Path) -> anyhow::Result<Options> {
    Ok(Options {
        dir: dir.to_owned(),
        program: std::env::current_exe().context("where this program lies")?,
        port: None,
        workers: 1,
        durability: Durability::Durable,
        env: Default::default(),
        on_line: Arc::new(|name, line| say(format_args!("{name:<9} | {line}"))),
        on_progress: Arc::new(|line| say(format_args!("  {line}"))),
    })
}

async fn service(name: &str, arguments: Vec<String>) -> anyhow::Result<()> {
    let shutdown: CancellationToken = shared::shutdown::on_signal();
    let arguments = std::iter::once(name.to_owned()).chain(arguments);
    match name {
        "api" => {
            let config = api::Config::parse_from(arguments);
            shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
            api::run(config, shutdown).await
        }
        "worker" => {
            let config = match worker::cli::parse(arguments) {
                Invocation::Serve(config) => *config,
                Invocation::Control(command) => return worker::cli::run(*command).await,
            };
            shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
            worker::run(config, shutdown).await
        }
        "scheduler" => {
            let config = scheduler::Config::parse_from(arguments);
            shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
            scheduler::run(config, shutdown).await
        }
        _ => anyhow::bail!("there is no service {name:?}; there are api, worker, scheduler"),
    }
}
