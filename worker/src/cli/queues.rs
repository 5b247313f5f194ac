//! `worker queues …`

use clap::{Args, Subcommand};
use shared::{
    jobs::Queue,
    queue::control::{self, QueueState},
};

use super::{Context, Shared, table, times};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  worker queues list\n  worker queues pause notifications\n  \
                        worker queues resume notifications")]
pub struct QueuesArguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How the queues stand. Counts end at 10000 ("10000+"), so that the answer costs the same whatever waits.
    List,
    /// No worker takes a job of this queue from now on, until it is resumed. What runs goes on, what is enqueued waits.
    Pause {
        /// default, live or notifications.
        queue: Queue,
    },
    /// Jobs of this queue are taken again.
    Resume {
        /// default, live or notifications.
        queue: Queue,
    },
}

pub async fn run(arguments: QueuesArguments) -> anyhow::Result<()> {
    let context = arguments.shared.connect().await?;
    match arguments.action {
        Action::List => {}
        Action::Pause { queue } => control::pause(&context.db, queue, &context.by).await?,
        Action::Resume { queue } => {
            control::resume(&context.db, queue, &context.by).await?;
            context.deliver(queue).await;
        }
    }
    list(&context).await
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let states = control::queue_states(&context.db).await?;
    context.print(&states, |states| {
        let heads = ["QUEUE", "DUE", "OLDEST", "SCHEDULED", "RUNNING", "DEAD", "PAUSED"];
        table::columns(&heads, states.iter().map(row).collect(), "There are no queues.")
    })
}

fn row(state: &QueueState) -> Vec<String> {
    let paused = match (state.paused_at, &state.paused_by) {
        (Some(at), Some(by)) => format!("since {} by {by}", times::show(at)),
        (Some(at), None) => format!("since {}", times::show(at)),
        (None, _) => "no".to_owned(),
    };
    vec![
        state.queue.clone(),
        state.due.to_string(),
        state.oldest_due_seconds.map_or_else(|| "-".to_owned(), times::show_seconds),
        state.scheduled.to_string(),
        state.running.to_string(),
        state.dead.to_string(),
        paused,
    ]
}
