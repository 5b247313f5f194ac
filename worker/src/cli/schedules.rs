//! `worker schedules …`

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use shared::{
    db::schedules::{self, ScheduleRow},
    jobs,
    queue::{Enqueued, Tx},
};

use super::{Context, Shared, table, times};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worker schedules list\n  worker schedules run cleanup\n\nWhen they run is set by \
                        SCHEDULE_<NAME> of the scheduler; see scheduler --help."
)]
pub struct SchedulesArguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What is scheduled, with the last and the next run.
    List,
    /// Enqueue a schedule's job now. Its next tick comes as usual.
    Run {
        /// As `worker schedules list` shows it.
        name: String,
    },
}

pub async fn run(arguments: SchedulesArguments) -> anyhow::Result<()> {
    let context = arguments.shared.connect().await?;
    match arguments.action {
        Action::List => {
            let rows = schedules::list(&context.db).await?;
            context.print(&rows, |rows| {
                let heads = ["NAME", "WHEN", "ZONE", "LAST RUN", "NEXT RUN", "RUN BY HAND"];
                let nothing = "Nothing is known yet: a scheduler writes down what it runs when it starts.";
                table::columns(&heads, rows.iter().map(row).collect(), nothing)
            })
        }
        Action::Run { name } => run_now(&context, &name).await,
    }
}

async fn run_now(context: &Context, name: &str) -> anyhow::Result<()> {
    let mut tx = Tx::begin(&context.db, &Context::dispatcher()).await?;
    let ran = schedules::run_now(&mut tx, name, &context.by).await?;
    tx.commit().await?;
    let ran = ran.with_context(|| format!("no schedule is named {name:?}; see `worker schedules list`"))?;
    if let Some(kind) = jobs::find(name) {
        context.deliver(kind.queue).await;
    }
    let answer = json!({ "job": ran.job_id(), "created": matches!(ran, Enqueued::Created(_)) });
    context.print(&answer, |_| match ran {
        Enqueued::Created(id) => format!("{name} is enqueued as job {id}"),
        Enqueued::DuplicateOf(id) => format!("{name} waits or runs already, as job {id}"),
    })
}

fn row(schedule: &ScheduleRow) -> Vec<String> {
    let next = if schedule.enabled { times::show_or_none(schedule.next_run) } else { "off".to_owned() };
    let by_hand = match (schedule.asked_at, &schedule.asked_by) {
        (Some(at), Some(by)) => format!("{} by {by}", times::show(at)),
        (at, _) => times::show_or_none(at),
    };
    vec![
        schedule.name.clone(),
        schedule.cron.clone(),
        schedule.zone.clone(),
        times::show_or_none(schedule.last_tick),
        next,
        by_hand,
    ]
}
