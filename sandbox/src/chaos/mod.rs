//! `cargo run -- chaos --seed N --minutes M`: load as callers make it, while processes are killed and stores fail at
//! random; then a judge counts what the outside saw: mails in the mailbox, objects in the store. It never asks the
//! ledger of jobs what is true.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::ensure;
use clap::Args;
use sandbox::{postgres::Durability, process::lock, system::System};
use tokio_util::sync::CancellationToken;

mod faults;
mod judge;
mod load;

/// What `chaos` can be told.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Decides which faults come when; the same seed gives the same sequence.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long faults and load go on; settling comes on top.
    #[arg(long, default_value_t = 1.0)]
    pub minutes: f64,
    /// How many workers.
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Show what the services log.
    #[arg(long)]
    pub logs: bool,
}

/// What callers were told: only what was answered with 2xx counts as accepted.
#[derive(Debug, Default)]
pub struct Accepted {
    pub sessions: Vec<Planned>,
    /// Names and seeds of recordings whose webhook was accepted.
    pub recordings: Vec<(String, u64)>,
    /// Requests without an answer, or with a refusal: these may have had their effect or not.
    pub unanswered: usize,
}

/// A session, and who must get mails of it.
#[derive(Debug)]
pub struct Planned {
    pub id: String,
    pub addresses: Vec<String>,
    /// So many different ones for each …
    pub mails: usize,
    /// … and no more than these: whether its recording was taken may be unknown.
    pub at_most: usize,
}

pub type Ledger = Arc<Mutex<Accepted>>;

/// Runs it in a directory of its own.
///
/// # Errors
/// When something accepted was lost, or done twice in a way that cannot be explained.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let dir: PathBuf = std::env::temp_dir().join(format!("live-sessions-chaos-{}", std::process::id()));
    let _removed_at_the_end = RemoveDir(dir.clone());
    let mut options = crate::options(&dir)?;
    options.workers = arguments.workers;
    options.durability = Durability::Durable;
    options.env = [("RUST_LOG", "warn"), ("JOB_LEASE", "5")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    if !arguments.logs {
        options.on_line = Arc::new(|_, _| {});
    }
    println!("Starting the system for a chaos run with seed {} …", arguments.seed);
    let system = Arc::new(System::start(options).await?);

    let accepted = Ledger::default();
    let stop = CancellationToken::new();
    let load = tokio::spawn(load::run(system.clone(), accepted.clone(), stop.clone()));
    let faults = tokio::spawn(faults::run(system.clone(), arguments.seed, stop.clone()));
    let progress = async {
        let mut tick = tokio::time::interval(Duration::from_secs(10));
        loop {
            tick.tick().await;
            let (sessions, recordings, unanswered) = {
                let so_far = lock(&accepted);
                (so_far.sessions.len(), so_far.recordings.len(), so_far.unanswered)
            };
            println!(
                "  accepted so far: {sessions} sessions, {recordings} recordings; {unanswered} requests without a good answer"
            );
        }
    };
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs_f64(arguments.minutes * 60.0)) => {}
        () = progress => {}
    }
    stop.cancel();
    load.await?;
    let faults = faults.await??;
    println!("No more faults after {faults}; settling …");
    let verdict = judge::judge(&system, &accepted).await?;
    println!("\n{verdict}");
    if verdict.lost > 0 {
        explain(&system).await?;
    }
    let verdict = (verdict.lost, verdict.doubled_objects, verdict.doubled_with_other_id);
    if let Ok(system) = Arc::try_unwrap(system).map_err(|_| ()) {
        system.stop().await;
    }
    ensure!(verdict == (0, 0, 0), "something was lost or doubled");
    Ok(())
}

/// Where something is missing, what the ledger says of it: for whoever looks for the fault, not for the verdict.
async fn explain(system: &System) -> anyhow::Result<()> {
    let db = sqlx::PgPool::connect(system.var("DATABASE_URL")).await?;
    let jobs: Vec<(String, String, i32, i32, Option<String>)> = sqlx::query_as(
        "select kind || ' ' || payload, state, attempt, crashes, errors -> -1 ->> 'error' from jobs \
         where state in ('available', 'running', 'dead') and kind <> 'close-stale-attendance' order by id limit 50",
    )
    .fetch_all(&db)
    .await?;
    println!("\njobs that are not done:");
    for (job, state, attempt, crashes, error) in jobs {
        println!("  {state} {job}: attempt {attempt}, {crashes} crashes, {}", error.unwrap_or_default());
    }
    let mails: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select mail || ' to ' || person_id, state, note from reminders where state <> 'sent' order by id limit 50",
    )
    .fetch_all(&db)
    .await?;
    println!("mails that are not sent:");
    for (mail, state, note) in mails {
        println!("  {state} {mail}: {}", note.unwrap_or_default());
    }
    Ok(())
}

struct RemoveDir(PathBuf);

impl Drop for RemoveDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
