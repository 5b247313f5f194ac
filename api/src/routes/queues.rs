//! The queues of jobs, for operators.

use std::time::Duration;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    jobs::Queue,
    queue::{
        Tx,
        control::{self, QueueState},
        relay,
    },
};
use utoipa::ToSchema;

use crate::{
    error::{Result, not_found},
    extract::Name,
    idempotency,
    permissions::Operator,
    schema,
    state::AppState,
};

/// How long a request waits for Redis; the scheduler delivers otherwise.
const DELIVERY: Duration = Duration::from_millis(500);

/// How a queue stands. Counts end at 10 000.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub struct QueueBody {
    #[schema(schema_with = schema::queue)]
    name: String,
    /// No worker takes jobs of it.
    paused: bool,
    paused_at: Option<DateTime<Utc>>,
    paused_by: Option<String>,
    /// Jobs that could run now.
    due: i64,
    /// Jobs that are due later.
    scheduled: i64,
    running: i64,
    dead: i64,
    /// Names of the counts that are more than the 10 000 shown.
    #[schema(example = json!(["due"]))]
    at_least: Vec<&'static str>,
    /// How long the first due job has been due.
    oldest_due_seconds: Option<f64>,
}

impl From<QueueState> for QueueBody {
    fn from(q: QueueState) -> Self {
        Self {
            at_least: q.at_least(),
            paused: q.paused_at.is_some(),
            name: q.queue,
            paused_at: q.paused_at,
            paused_by: q.paused_by,
            due: q.due.value(),
            scheduled: q.scheduled.value(),
            running: q.running.value(),
            dead: q.dead.value(),
            oldest_due_seconds: q.oldest_due_seconds,
        }
    }
}

/// The queues.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueList {
    results: Vec<QueueBody>,
}

/// How the queues stand.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/queues/", tag = "operations",
    responses((status = 200, body = QueueList)),
)]
pub async fn list_queues(State(state): State<AppState>, _: Operator) -> Result<Json<QueueList>> {
    let states = control::queue_states(&state.db).await?;
    Ok(Json(QueueList { results: states.into_iter().map(QueueBody::from).collect() }))
}

/// From now on no worker takes a job of this queue. What runs goes on, what is enqueued waits.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/queues/{name}/pause/", tag = "operations",
    params(("name" = String, Path, description = "default, live or notifications")),
    responses((status = 200, body = QueueBody)),
)]
pub async fn pause_queue(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Name(name): Name,
) -> Result<Json<QueueBody>> {
    let queue = named(&name)?;
    let mut tx = state.begin_for_all(&caller).await?;
    control::pause(&mut *tx, queue, &caller.id).await?;
    let shown = show(&mut tx, queue).await?;
    tx.commit().await?;
    Ok(shown)
}

/// Jobs of this queue are taken again.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/queues/{name}/resume/", tag = "operations",
    params(("name" = String, Path, description = "default, live or notifications")),
    responses((status = 200, body = QueueBody)),
)]
pub async fn resume_queue(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Name(name): Name,
) -> Result<Json<QueueBody>> {
    let queue = named(&name)?;
    let mut tx = state.begin_for_all(&caller).await?;
    control::resume(&mut *tx, queue, &caller.id).await?;
    let shown = show(&mut tx, queue).await?;
    tx.commit().await?;
    deliver(&state, queue).await;
    Ok(shown)
}

fn named(name: &str) -> Result<Queue> {
    Ok(name.parse().map_err(|_| not_found("queue"))?)
}

async fn show(tx: &mut Tx, queue: Queue) -> Result<Json<QueueBody>> {
    let states = control::queue_states(&mut **tx).await?;
    let shown = states.into_iter().find(|s| s.queue == queue.as_str()).ok_or_else(|| not_found("queue"))?;
    Ok(Json(shown.into()))
}

/// Brings due jobs of a queue to the workers; what fails here, the scheduler does a moment later.
pub async fn deliver(state: &AppState, queue: Queue) {
    if idempotency::joint().is_some() {
        // Nothing is committed yet.
        return;
    }
    let refilled = tokio::time::timeout(DELIVERY, relay::refill(&state.db, &state.redis, queue)).await;
    if !matches!(refilled, Ok(Ok(_))) {
        metrics::counter!("queue_pushes_left_to_relay_total").increment(1);
    }
}
