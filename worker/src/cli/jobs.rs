//! `worker jobs …`

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use shared::{
    domain::ids::{JobId, TenantId},
    jobs::{self, Queue},
    queue::{
        Enqueued, Tx,
        control::{self, Change, DeadFilter, Filter, JobDetail, JobLine, JobState, Keyset},
    },
};

use super::{Context, Output, Shared, table, times};

/// How many times a list goes on by itself where a page finds too little.
const WINDOWS: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  worker jobs list --state dead\n  \
                        worker jobs list --kind import-recording --since 2h --output json\n  \
                        worker jobs show 019abcde-0000-7000-8000-000000000000\n  \
                        worker jobs retry 019abcde-0000-7000-8000-000000000000\n  \
                        worker jobs retry --all-dead --kind send-reminder\n  \
                        worker jobs enqueue noop '{\"note\": \"hello\"}' --in 10m")]
pub struct JobsArguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Jobs, newest first.
    List(ListArguments),
    /// A job with its history.
    Show {
        /// As `worker jobs list` shows it.
        id: JobId,
    },
    /// Make jobs due now, with all of their attempts: dead letters, cancelled ones, and those that wait for their time.
    Retry {
        /// As `worker jobs list` shows them.
        #[arg(required_unless_present = "all_dead", conflicts_with = "all_dead")]
        ids: Vec<JobId>,
        /// All dead letters, or those of --queue and --kind; each once.
        #[arg(long)]
        all_dead: bool,
        /// With --all-dead: only of default, live or notifications.
        #[arg(long, requires = "all_dead")]
        queue: Option<Queue>,
        /// With --all-dead: only of this name.
        #[arg(long, requires = "all_dead")]
        kind: Option<String>,
    },
    /// End jobs for good. Waiting ones end at once, running ones as soon as their worker hears of it (a third of
    /// JOB_LEASE, about three seconds).
    Cancel {
        /// As `worker jobs list` shows them.
        #[arg(required = true)]
        ids: Vec<JobId>,
    },
    /// Give dead letters up: they are cancelled, and deleted with the finished jobs.
    Discard {
        /// As `worker jobs list` shows them.
        #[arg(required = true)]
        ids: Vec<JobId>,
    },
    /// Enqueue a job by its name; `docs/JOBS.md` has them all.
    Enqueue {
        /// The name of a job, such as import-recording.
        kind: String,
        /// The job's data, as JSON.
        #[arg(default_value = "{}")]
        payload: String,
        /// Not before this time: 90s, 10m, 2h, 3d.
        #[arg(long = "in", value_parser = times::duration, default_value = "0s")]
        delay: Duration,
    },
}

#[derive(Debug, Args)]
struct ListArguments {
    /// default, live or notifications.
    #[arg(long)]
    queue: Option<Queue>,
    /// The name of a job, such as import-recording.
    #[arg(long)]
    kind: Option<String>,
    /// available, running, done, dead or cancelled.
    #[arg(long)]
    state: Option<JobState>,
    /// A tenant's id.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Enqueued since then: 2h (ago), or 2026-11-23T10:00:00Z.
    #[arg(long, value_parser = times::moment)]
    since: Option<DateTime<Utc>>,
    /// Enqueued before then.
    #[arg(long, value_parser = times::moment)]
    until: Option<DateTime<Utc>>,
    /// How many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Go on after this job, which an earlier list ended with.
    #[arg(long)]
    after: Option<JobId>,
}

pub async fn run(arguments: JobsArguments) -> anyhow::Result<()> {
    let context = arguments.shared.connect().await?;
    match arguments.action {
        Action::List(arguments) => list(&context, arguments).await,
        Action::Show { id } => {
            let job = control::find(&context.db, id).await?.with_context(|| format!("there is no job {id}"))?;
            context.print(&job, detail)
        }
        Action::Retry { all_dead: true, queue, kind, .. } => retry_dead(&context, DeadFilter { queue, kind }).await,
        Action::Retry { ids, .. } => {
            change(&context, &ids, "tried again", async |id| {
                control::retry(&mut *context.db.acquire().await?, id, &context.by).await
            })
            .await
        }
        Action::Cancel { ids } => {
            change(&context, &ids, "cancelled", async |id| {
                control::cancel(&mut *context.db.acquire().await?, id, &context.by).await
            })
            .await
        }
        Action::Discard { ids } => {
            change(&context, &ids, "discarded", async |id| {
                control::discard(&mut *context.db.acquire().await?, id, &context.by).await
            })
            .await
        }
        Action::Enqueue { kind, payload, delay } => enqueue(&context, &kind, &payload, delay).await,
    }
}

async fn list(context: &Context, arguments: ListArguments) -> anyhow::Result<()> {
    note_unknown(arguments.kind.as_deref());
    let filter = Filter {
        queue: arguments.queue,
        kind: arguments.kind,
        state: arguments.state,
        tenant_id: arguments.tenant,
        created_after: arguments.since,
        created_before: arguments.until,
    };
    let (mut found, mut after, mut more) = (Vec::<JobLine>::new(), arguments.after, false);
    for _ in 0..WINDOWS {
        let limit = arguments.limit + 1 - found.len() as i64;
        let listed = control::list(&context.db, &filter, Keyset { after, ascending: false, limit }).await?;
        found.extend(listed.jobs);
        after = listed.resume;
        more = found.len() as i64 > arguments.limit;
        if more || after.is_none() {
            break;
        }
    }
    found.truncate(arguments.limit as usize);
    let end = if more { found.last().map(|job| job.id) } else { after };
    context.print(&found, |jobs| {
        let heads = ["ID", "KIND", "STATE", "ATTEMPT", "ENQUEUED", "DUE", "LAST ERROR"];
        table::columns(&heads, jobs.iter().map(row).collect(), "No job fits.")
    })?;
    if let Some(end) = end {
        eprintln!("There are more, or older ones to look through: go on with --after {end}");
    }
    Ok(())
}

fn row(job: &JobLine) -> Vec<String> {
    let state = if job.cancel_requested && job.state == JobState::Running { "ending" } else { job.state.as_str() };
    vec![
        job.id.to_string(),
        job.kind.clone(),
        state.to_owned(),
        format!("{}/{}", job.attempt, job.max_attempts),
        times::show(job.created_at),
        times::show(job.run_at),
        job.last_error.clone().unwrap_or_default(),
    ]
}

fn detail(job: &JobDetail) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let line = &job.job;
    let mut text = table::pairs(&[
        ("id", line.id.to_string()),
        ("kind", line.kind.clone()),
        ("queue", line.queue.clone()),
        ("state", line.state.to_string()),
        ("cancellation", if line.cancel_requested { "asked for" } else { "-" }.to_owned()),
        ("attempts", format!("{} of {}", line.attempt, line.max_attempts)),
        ("crashes", line.crashes.to_string()),
        ("priority", line.priority.to_string()),
        ("tenant", line.tenant_id.map_or_else(|| "-".to_owned(), |id| id.to_string())),
        ("payload", job.payload.to_string()),
        ("unique key", or_none(&job.unique_key)),
        ("enqueued", times::show(line.created_at)),
        ("due", times::show(line.run_at)),
        ("started", times::show_or_none(line.started_at)),
        ("finished", times::show_or_none(line.finished_at)),
        ("worker", or_none(&line.worker)),
        ("lease until", times::show_or_none(job.lease_until)),
        ("trace", or_none(&job.traceparent)),
    ]);
    for entry in job.history.as_array().into_iter().flatten() {
        let what = entry["error"].as_str().or(entry["note"].as_str()).unwrap_or_default();
        let at = entry["at"].as_str().and_then(|at| at.parse().ok());
        text += &format!("\n{}  attempt {}: {what}", times::show_or_none(at), entry["attempt"]);
    }
    table::printable(&text)
}

/// Does the same with each job; what could not be done is told at the end.
async fn change(
    context: &Context,
    ids: &[JobId],
    done: &str,
    change: impl AsyncFn(JobId) -> sqlx::Result<Change>,
) -> anyhow::Result<()> {
    let (mut made, mut refused, mut queues) = (Vec::new(), Vec::new(), BTreeSet::new());
    for id in ids {
        match change(*id).await? {
            Change::Made(job) => {
                queues.extend(job.job.queue.parse::<Queue>());
                made.push(*job);
            }
            Change::Refused(state) => refused.push(format!("job {id} is {state}: it cannot be {done}")),
            Change::DuplicateOf(other) => {
                refused
                    .push(format!("job {id} cannot be {done}: job {other} does the same, and waits or runs already"));
            }
            Change::NotFound => refused.push(format!("there is no job {id}")),
        }
    }
    for queue in queues {
        context.deliver(queue).await;
    }
    if !made.is_empty() || context.output == Output::Json {
        context.print(&made, |made| {
            let lines = made.iter().map(|job| match job.job.state {
                JobState::Running => format!("{} runs; its worker ends it within seconds", job.job.id),
                state => format!("{} is {state}", job.job.id),
            });
            lines.collect::<Vec<_>>().join("\n")
        })?;
    }
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(())
}

async fn retry_dead(context: &Context, filter: DeadFilter) -> anyhow::Result<()> {
    note_unknown(filter.kind.as_deref());
    let (mut retried, mut skipped, mut after) = (0, 0, None);
    loop {
        let step = control::retry_dead(&mut *context.db.acquire().await?, &filter, after, &context.by).await?;
        retried += step.retried;
        skipped += step.skipped;
        after = step.next;
        if after.is_none() {
            break;
        }
        eprintln!("{retried} so far …");
    }
    for queue in filter.queue.map_or(Queue::ALL.to_vec(), |queue| vec![queue]) {
        context.deliver(queue).await;
    }
    context.print(&json!({ "retried": retried, "skipped": skipped }), |_| match skipped {
        0 => format!("{retried} dead letters are due again."),
        _ => format!(
            "{retried} dead letters are due again; {skipped} stay: others do the same, and wait or run already."
        ),
    })
}

async fn enqueue(context: &Context, kind: &str, payload: &str, delay: Duration) -> anyhow::Result<()> {
    let kind = known(kind)?;
    let payload: Value = serde_json::from_str(payload).context("the payload is no JSON")?;
    let job = match (kind.read)(payload) {
        Ok(job) => job,
        Err(error) => bail!("the payload does not fit {}: {error}", kind.name),
    };
    let mut tx = Tx::begin(&context.db, &Context::dispatcher()).await?;
    let enqueued = tx.enqueue_named(kind, &job, delay).await?;
    control::note_enqueued(&mut tx, enqueued.job_id(), &context.by).await?;
    tx.commit().await?;
    if delay.is_zero() {
        context.deliver(kind.queue).await;
    }
    let answer = json!({ "job": enqueued.job_id(), "created": matches!(enqueued, Enqueued::Created(_)) });
    context.print(&answer, |_| match enqueued {
        Enqueued::Created(id) => format!("enqueued as job {id}"),
        Enqueued::DuplicateOf(id) => format!("nothing new: job {id} does the same, and waits or runs already"),
    })
}

/// Jobs of other versions are in the ledger too, and names are misspelt.
fn note_unknown(kind: Option<&str>) {
    if let Some(Err(error)) = kind.map(known) {
        eprintln!("note: {error}");
    }
}

fn known(kind: &str) -> anyhow::Result<&'static jobs::JobKind> {
    jobs::find(kind).with_context(|| {
        let names: Vec<_> = jobs::ALL.iter().map(|kind| kind.name).collect();
        format!("no job is named {kind:?}; there are {}", names.join(", "))
    })
}
