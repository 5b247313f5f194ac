//! One look at the whole: which parts are up, and, for operators, how the queues stand.

use std::time::Instant;

use axum::{
    Json,
    extract::{FromRequestParts, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use shared::{domain::person::Role, queue::control};
use utoipa::ToSchema;

use super::health::PATIENCE;
use crate::{auth::Caller, error::Result, state::AppState};

/// The state of the service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ops {
    /// `up`, `degraded` (Redis is down: jobs are delivered late) or `down` (Postgres is).
    #[schema(example = "up")]
    status: &'static str,
    version: &'static str,
    parts: Vec<OpsPart>,
    /// For operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    queues: Option<Vec<OpsQueue>>,
}

/// A part that the service needs.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpsPart {
    #[schema(example = "postgres")]
    name: &'static str,
    #[schema(example = "up")]
    status: &'static str,
    /// How long it took to answer.
    latency_ms: f64,
}

/// A queue of jobs. Counts end at 10 000 per state.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpsQueue {
    #[schema(example = "live")]
    name: String,
    /// Jobs that wait, due or not.
    waiting: i64,
    due: i64,
    running: i64,
    dead: i64,
    /// How long the first due job has been due.
    oldest_due_seconds: Option<f64>,
}

/// Which parts are up. Open to everybody; an operator's token shows the queues as well.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/ops/", tag = "operations",
    responses((status = 200, body = Ops), (status = 503, body = Ops)),
    security((), ("bearer" = [])),
)]
pub async fn get_ops(State(state): State<AppState>, request: Request) -> Result<Response> {
    let (mut parts, _) = request.into_parts();
    let operator = match parts.headers.contains_key(axum::http::header::AUTHORIZATION) {
        // Without Postgres nobody can be recognised; the summary is told all the same.
        true => match Caller::from_request_parts(&mut parts, &state).await {
            Ok(caller) => caller.is(Role::Operator),
            Err(crate::error::Error::Database(_)) => false,
            Err(error) => return Err(error),
        },
        false => false,
    };
    let (postgres, redis) = tokio::join!(
        ask("postgres", async { sqlx::query("select 1").execute(&state.db).await.is_ok() }),
        ask("redis", async { state.redis.ping().await.is_ok() }),
    );
    let status = match (postgres.status, redis.status) {
        ("up", "up") => "up",
        ("up", _) => "degraded",
        _ => "down",
    };
    let queues = if operator && postgres.status == "up" { Some(queues(&state).await?) } else { None };
    let code = if status == "down" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = Ops { status, version: env!("CARGO_PKG_VERSION"), parts: vec![postgres, redis], queues };
    Ok((code, Json(body)).into_response())
}

async fn ask(name: &'static str, answer: impl Future<Output = bool>) -> OpsPart {
    let started = Instant::now();
    let up = tokio::time::timeout(PATIENCE, answer).await.unwrap_or(false);
    let latency_ms = (started.elapsed().as_secs_f64() * 1e5).round() / 100.0;
    OpsPart { name, status: if up { "up" } else { "down" }, latency_ms }
}

async fn queues(state: &AppState) -> Result<Vec<OpsQueue>> {
    let states = control::queue_states(&state.db).await?;
    Ok(states
        .into_iter()
        .map(|q| OpsQueue {
            name: q.queue,
            waiting: q.due.value() + q.scheduled.value(),
            due: q.due.value(),
            running: q.running.value(),
            dead: q.dead.value(),
            oldest_due_seconds: q.oldest_due_seconds,
        })
        .collect())
}
