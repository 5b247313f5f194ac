//! The command line: without a subcommand the worker works; `worker jobs …`, `worker queues …` and `worker schedules …`
//! are what an operator does by hand, on the database itself, so that they work while everything else is down.

use std::{ffi::OsString, io::Write as _, time::Duration};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Subcommand, ValueEnum};
use shared::{
    config::{DatabaseConfig, RedisConfig},
    db,
    jobs::Queue,
    queue::{Dispatcher, redis::RedisQueues, relay},
};
use sqlx::PgPool;

use crate::Config;

mod jobs;
mod queues;
mod rotate_secrets;
mod schedules;
mod table;
mod tenants;
mod times;

/// How long Redis may take to be told of a job; the relay does it otherwise.
const PUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What the process was started for.
pub enum Invocation {
    /// To work.
    Serve(Box<Config>),
    /// For one command.
    Control(Box<Command>),
}

/// What an operator does by hand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at jobs; try them again, cancel, discard, enqueue them.
    Jobs(jobs::JobsArguments),
    /// See how the queues stand; pause and resume them.
    Queues(queues::QueuesArguments),
    /// See what is scheduled, or run it now.
    Schedules(schedules::SchedulesArguments),
    /// See the tenants, make one.
    Tenants(tenants::TenantsArguments),
    /// Seal the secrets of all provider configurations anew, with the first of SECRETS_KEYS.
    RotateSecrets(rotate_secrets::RotateSecretsArguments),
}

/// Reads the command line; ends the process where it is wrong, or asks for help.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Invocation {
    let worker = Config::command();
    let (about, long_about) =
        (worker.get_about().cloned().unwrap_or_default(), worker.get_long_about().cloned().unwrap_or_default());
    let command = Command::augment_subcommands(worker)
        .about(about)
        .long_about(long_about)
        .subcommand_required(false)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true);
    let matches = command.get_matches_from(arguments);
    let parsed = match matches.subcommand() {
        Some(_) => Command::from_arg_matches(&matches).map(|command| Invocation::Control(Box::new(command))),
        None => Config::from_arg_matches(&matches).map(|config| Invocation::Serve(Box::new(config))),
    };
    parsed.unwrap_or_else(|error| error.exit())
}

/// Does what was asked; the answer goes to standard output.
///
/// # Errors
/// What was not done, and why.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Jobs(arguments) => jobs::run(arguments).await,
        Command::Queues(arguments) => queues::run(arguments).await,
        Command::Schedules(arguments) => schedules::run(arguments).await,
        Command::Tenants(arguments) => tenants::run(arguments).await,
        Command::RotateSecrets(arguments) => rotate_secrets::run(arguments).await,
    }
}

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
struct Shared {
    /// Postgres, as postgres://user:password@host:5432/database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
    /// Redis; with it, jobs that become due start at once, without it within a quarter of a second.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, global = true)]
    redis_url: Option<String>,
    /// First part of the keys in Redis.
    #[arg(long, env = "REDIS_PREFIX", default_value = "live-sessions", global = true)]
    redis_prefix: String,
    /// PEM file with the authority that signed Redis' certificate, where it is none that browsers know.
    #[arg(long, env = "REDIS_CA_FILE", global = true)]
    redis_ca_file: Option<std::path::PathBuf>,
    /// How the answer looks.
    #[arg(long, short, value_enum, default_value = "table", global = true)]
    output: Output,
    /// Who does it, for the job's history.
    #[arg(long, env = "USER", default_value = "the command line", global = true)]
    by: String,
}

/// What the commands work with.
struct Context {
    db: PgPool,
    redis: Option<RedisQueues>,
    output: Output,
    by: String,
}

impl Shared {
    async fn connect(self) -> anyhow::Result<Context> {
        let database_url = self.database_url.filter(|url| !url.is_empty()).context(
            "DATABASE_URL is missing: set it, or give --database-url postgres://user:password@localhost:5432/live",
        )?;
        let db = db::connect(&DatabaseConfig { database_url, database_pool: 2 }, "operator").await?;
        let redis = match self.redis_url.filter(|url| !url.is_empty()) {
            Some(url) => Some(RedisQueues::open(&RedisConfig {
                redis_url: url,
                redis_prefix: self.redis_prefix,
                redis_ca_file: self.redis_ca_file,
            })?),
            None => None,
        };
        Ok(Context { db, redis, output: self.output, by: self.by })
    }
}

impl Context {
    /// For transactions that enqueue; [`Context::deliver`] follows.
    fn dispatcher() -> Dispatcher {
        // This process ends before a push in the background would be done.
        Dispatcher::to_relay()
    }

    /// Brings due jobs of a queue to the workers; what is not done here, the scheduler does.
    async fn deliver(&self, queue: Queue) {
        let Some(redis) = &self.redis else { return };
        let refilled = tokio::time::timeout(PUSH_TIMEOUT, relay::refill(&self.db, redis, queue)).await;
        if !matches!(refilled, Ok(Ok(_))) {
            eprintln!("note: Redis does not answer; the scheduler delivers the job when it does");
        }
    }

    /// The answer: as JSON, or as the table that `table` makes of it.
    fn print<T: serde::Serialize>(&self, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let mut text = match self.output {
            Output::Json => serde_json::to_string_pretty(value)?,
            Output::Table => table(value),
        };
        text.push('\n');
        match std::io::stdout().write_all(text.as_bytes()) {
            // The reader has seen enough (`… | head`).
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Command::augment_subcommands(Config::command()).debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_works_and_with_one_it_needs_no_setting() {
        let url = ["--database-url", "postgres://x/y"];
        let serve = ["worker", "--queues", "live", "--concurrency", "live=3"].into_iter().chain(url);
        let Invocation::Serve(config) = parse(serve) else { panic!("it works") };
        assert_eq!((config.queues.as_slice(), config.concurrency.of(Queue::Live)), ([Queue::Live].as_slice(), 3));
        for command in [
            "jobs list --state dead -o json",
            "jobs show 019abcde-0000-7000-8000-000000000000",
            "jobs retry --all-dead --kind noop",
            "jobs cancel 019abcde-0000-7000-8000-000000000000 --by ayse",
            "jobs enqueue noop {}",
            "queues list --database-url postgres://x/y",
            "queues pause live",
            "schedules run cleanup",
            "tenants list",
            "tenants add okul --name Okul --timezone Europe/London",
            "rotate-secrets --dry-run",
        ] {
            let parsed = parse(std::iter::once("worker").chain(command.split(' ')));
            assert!(matches!(parsed, Invocation::Control(_)), "{command}");
        }
    }
}
