//! What the schedulers run, for operators.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    db::schedules::{self, ScheduleRow},
    queue::Enqueued,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::{Result, not_found},
    extract::Name,
    permissions::Operator,
    state::AppState,
};

/// A schedule, as the scheduler has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub struct ScheduleBody {
    #[schema(example = "cleanup")]
    name: String,
    /// Minute, hour, day, month, weekday; with six fields the second comes first.
    #[schema(example = "0 3 * * *")]
    cron: String,
    #[schema(example = "Europe/Istanbul")]
    zone: String,
    /// False where the configuration switches it off.
    enabled: bool,
    next_run: Option<DateTime<Utc>>,
    /// The newest tick that became a job.
    last_tick: Option<DateTime<Utc>>,
    last_job: Option<Uuid>,
    /// The newest run by hand.
    asked_at: Option<DateTime<Utc>>,
    asked_by: Option<String>,
    asked_job: Option<Uuid>,
}

impl From<ScheduleRow> for ScheduleBody {
    fn from(row: ScheduleRow) -> Self {
        Self {
            name: row.name,
            cron: row.cron,
            zone: row.zone,
            enabled: row.enabled,
            next_run: row.next_run,
            last_tick: row.last_tick,
            last_job: row.last_job.map(|id| id.0),
            asked_at: row.asked_at,
            asked_by: row.asked_by,
            asked_job: row.asked_job.map(|id| id.0),
        }
    }
}

/// The schedules.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleList {
    results: Vec<ScheduleBody>,
}

/// What is scheduled; empty before a scheduler has run.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/schedules/", tag = "operations",
    responses((status = 200, body = ScheduleList)),
)]
pub async fn list_schedules(State(state): State<AppState>, _: Operator) -> Result<Json<ScheduleList>> {
    let rows = schedules::list(&state.db).await?;
    Ok(Json(ScheduleList { results: rows.into_iter().map(ScheduleBody::from).collect() }))
}

/// The job of a schedule that was run by hand.
#[derive(Debug, Serialize, ToSchema)]
pub struct RanSchedule {
    job_id: Uuid,
    /// False where the schedule's job waits or runs already: it is that one.
    created: bool,
}

/// Enqueues a schedule's job now. Its next tick comes as usual.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/schedules/{name}/run/", tag = "operations",
    params(("name" = String, Path, description = "The schedule")),
    responses((status = 202, body = RanSchedule)),
)]
pub async fn run_schedule(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Name(name): Name,
) -> Result<(StatusCode, Json<RanSchedule>)> {
    let mut tx = state.begin_for_all(&caller).await?;
    let ran = schedules::run_now(&mut tx, &name, &caller.id).await?.ok_or_else(|| not_found("schedule"))?;
    tx.commit().await?;
    let created = matches!(ran, Enqueued::Created(_));
    Ok((StatusCode::ACCEPTED, Json(RanSchedule { job_id: ran.job_id().0, created })))
}
