//! The ledger of jobs, for operators: of all tenants, since jobs of one may hold up those of others.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    domain::ids::{JobId, TenantId},
    jobs::Queue,
    queue::control::{self, Change, DeadFilter, Filter, JobDetail, JobLine, JobState, Keyset},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::queues::deliver;
use crate::{
    body,
    error::{Problem, Result, bad_parameter, conflict, not_found},
    extract::{Id, Query, sane_time},
    input,
    page::{Address, Page, Wanted},
    permissions::Operator,
    router::BASE,
    schema,
    state::AppState,
};

/// Steps of dead letters that one request tries again; then it tells where to go on.
const STEPS: usize = 20;

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub struct JobBody {
    id: Uuid,
    tenant_id: Option<Uuid>,
    #[schema(example = "live")]
    queue: String,
    #[schema(example = "import-recording")]
    kind: String,
    #[schema(schema_with = schema::job_state)]
    state: JobState,
    /// 0 first … 3 last.
    priority: i16,
    /// When it is due, or was.
    run_at: DateTime<Utc>,
    /// Starts that counted.
    attempt: i32,
    max_attempts: i32,
    /// Starts that ended with the death of the worker; the third makes a dead letter.
    crashes: i32,
    worker: Option<String>,
    /// It runs, and its worker is about to end it.
    cancel_requested: bool,
    /// Why the newest start failed.
    last_error: Option<String>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<JobLine> for JobBody {
    fn from(job: JobLine) -> Self {
        Self {
            id: job.id.0,
            tenant_id: job.tenant_id.map(|id| id.0),
            queue: job.queue,
            kind: job.kind,
            state: job.state,
            priority: job.priority,
            run_at: job.run_at,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            crashes: job.crashes,
            worker: job.worker,
            cancel_requested: job.cancel_requested,
            last_error: job.last_error,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
        }
    }
}

/// A job with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobDetail)]
pub struct JobDetailBody {
    #[serde(flatten)]
    job: JobBody,
    /// Ids of what it is about.
    payload: serde_json::Value,
    /// While one job of this kind with this key waits or runs, there is no second one.
    unique_key: Option<String>,
    /// Until when the worker holds it without renewal.
    lease_until: Option<DateTime<Utc>>,
    /// The newest failures and what operators did, newest last: `{at, attempt, error}` or `{at, attempt, note}`.
    history: Vec<serde_json::Value>,
    /// W3C trace context of the request that caused it.
    traceparent: Option<String>,
}

impl From<JobDetail> for JobDetailBody {
    fn from(job: JobDetail) -> Self {
        Self {
            job: job.job.into(),
            payload: job.payload,
            unique_key: job.unique_key,
            lease_until: job.lease_until,
            history: job.history.as_array().cloned().unwrap_or_default(),
            traceparent: job.traceparent,
        }
    }
}

/// Which jobs, and how many at once.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListJobs {
    #[param(schema_with = schema::queue)]
    queue: Option<String>,
    /// The name of a job.
    #[param(example = "import-recording")]
    kind: Option<String>,
    #[param(schema_with = schema::job_state)]
    state: Option<JobState>,
    tenant_id: Option<Uuid>,
    /// From here on, inclusive.
    created_after: Option<DateTime<Utc>>,
    /// Up to here, exclusive.
    created_before: Option<DateTime<Utc>>,
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// Jobs, newest first. So that a page costs the same wherever it lies, it looks at 20 000 jobs at most: it may have
/// fewer results than asked for, even none, and still a `next`.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/jobs/", tag = "operations", params(ListJobs),
    responses((status = 200, body = Page<JobBody>)),
)]
pub async fn list_jobs(
    State(state): State<AppState>,
    _: Operator,
    Query(query): Query<ListJobs>,
) -> Result<Json<Page<JobBody>>> {
    let wanted = Wanted::<Uuid>::parse(query.cursor.as_deref(), query.page_size)?;
    let filter = Filter {
        queue: query.queue.as_deref().map(queue_parameter).transpose()?,
        kind: query.kind.clone(),
        state: query.state,
        tenant_id: query.tenant_id.map(TenantId),
        created_after: sane_time("created_after", query.created_after)?,
        created_before: sane_time("created_before", query.created_before)?,
    };
    let page = Keyset { after: wanted.after.map(JobId), ascending: wanted.backwards, limit: wanted.limit() };
    let listed = control::list(&state.db, &filter, page).await?;
    let address = address(&state, query);
    let resume = listed.resume.map(|id| id.0);
    Ok(Json(wanted.searched_page(listed.jobs, resume, &address, |job| job.id.0, JobBody::from)))
}

fn queue_parameter(name: &str) -> Result<Queue, Problem> {
    name.parse().map_err(|_| bad_parameter("queue", format!("is none of {:?}", schema::QUEUE)))
}

fn address(state: &AppState, query: ListJobs) -> Address {
    let parameters = [
        ("queue", query.queue),
        ("kind", query.kind),
        ("state", query.state.map(|state| state.to_string())),
        ("tenant_id", query.tenant_id.map(|id| id.to_string())),
        ("created_after", query.created_after.map(|at| at.to_rfc3339())),
        ("created_before", query.created_before.map(|at| at.to_rfc3339())),
    ];
    Address {
        path: format!("{}{BASE}/jobs/", state.config.public_url.trim_end_matches('/')),
        parameters: parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    }
}

/// One job, with its history.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/jobs/{id}/", tag = "operations",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, body = JobDetailBody)),
)]
pub async fn get_job(State(state): State<AppState>, _: Operator, Id(id): Id<JobId>) -> Result<Json<JobDetailBody>> {
    let job = control::find(&state.db, id).await?.ok_or_else(|| not_found("job"))?;
    Ok(Json(job.into()))
}

/// Makes a job due now, with all of its attempts: a dead letter, a cancelled job, or one that waits for its time.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/jobs/{id}/retry/", tag = "operations",
    params(("id" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, body = JobDetailBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`illegal-job-state`: it runs or is done; `duplicate-job`: another one does the same"),
    ),
)]
pub async fn retry_job(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Id(id): Id<JobId>,
) -> Result<Json<JobDetailBody>> {
    let mut tx = state.begin_for_all(&caller).await?;
    let job = made(control::retry(&mut tx, id, &caller.id).await?, "tried again")?;
    tx.commit().await?;
    if let Ok(queue) = job.job.queue.parse() {
        deliver(&state, queue).await;
    }
    Ok(Json(job.into()))
}

/// Ends a job for good: a waiting one at once (200); a running one (202) when its worker hears of it, within
/// seconds, unless it ends by itself before.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/jobs/{id}/cancel/", tag = "operations",
    params(("id" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, body = JobDetailBody),
        (status = 202, body = JobDetailBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`illegal-job-state`: it has ended already"),
    ),
)]
pub async fn cancel_job(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Id(id): Id<JobId>,
) -> Result<Response> {
    let mut tx = state.begin_for_all(&caller).await?;
    let job = made(control::cancel(&mut tx, id, &caller.id).await?, "cancelled")?;
    tx.commit().await?;
    let status = if job.job.state == JobState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(JobDetailBody::from(job))).into_response())
}

/// Gives a dead letter up: it is cancelled, and deleted with the finished jobs.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/jobs/{id}/discard/", tag = "operations",
    params(("id" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, body = JobDetailBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`illegal-job-state`: it is no dead letter"),
    ),
)]
pub async fn discard_job(
    State(state): State<AppState>,
    Operator(caller): Operator,
    Id(id): Id<JobId>,
) -> Result<Json<JobDetailBody>> {
    let mut tx = state.begin_for_all(&caller).await?;
    let job = made(control::discard(&mut tx, id, &caller.id).await?, "discarded")?;
    tx.commit().await?;
    Ok(Json(job.into()))
}

fn made(change: Change, what: &str) -> Result<JobDetail, Problem> {
    match change {
        Change::Made(job) => Ok(*job),
        Change::Refused(state) => Err(conflict(
            "illegal-job-state",
            "Not possible in this state",
            format!("The job is {state}: it cannot be {what}."),
        )),
        Change::DuplicateOf(other) => Err(conflict(
            "duplicate-job",
            "Another job does the same",
            format!("Job {other} has the same kind and unique key, and waits or runs already."),
        )),
        Change::NotFound => Err(not_found("job")),
    }
}

/// Which dead letters; all, where nothing is said.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryDead {
    #[schema(schema_with = schema::queue_or_null)]
    queue: Option<String>,
    #[schema(example = "send-reminder", max_length = 100)]
    kind: Option<String>,
    /// `next` of an answer, to go on.
    after: Option<Uuid>,
}

input!(RetryDead);

/// What became of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetriedDead {
    /// Due now.
    retried: i64,
    /// Left dead, because another job does the same, and waits or runs already.
    skipped: i64,
    /// There may be more: repeat the request with this as `after`.
    next: Option<Uuid>,
}

/// Makes dead letters due now, oldest first, 10 000 per request.
///
/// Those of one queue, of one kind, or all of them: the body `{}` says so.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/jobs/retry-dead/", tag = "operations", request_body = RetryDead,
    responses((status = 200, body = RetriedDead)),
)]
pub async fn retry_dead_jobs(
    State(state): State<AppState>,
    Operator(caller): Operator,
    body: body::Json<RetryDead>,
) -> Result<Json<RetriedDead>> {
    let body = body.check(|_| Vec::new())?;
    // The schema lets no other name pass.
    let queue: Option<Queue> = body.queue.and_then(|name| name.parse().ok());
    let filter = DeadFilter { queue, kind: body.kind };
    let mut answer = RetriedDead { retried: 0, skipped: 0, next: body.after };
    for _ in 0..STEPS {
        let mut tx = state.begin_for_all(&caller).await?;
        let step = control::retry_dead(&mut tx, &filter, answer.next.map(JobId), &caller.id).await?;
        tx.commit().await?;
        answer.retried += step.retried;
        answer.skipped += step.skipped;
        answer.next = step.next.map(|id| id.0);
        if answer.next.is_none() {
            break;
        }
    }
    for queue in Queue::ALL.into_iter().filter(|q| answer.retried > 0 && queue.is_none_or(|wanted| wanted == *q)) {
        deliver(&state, queue).await;
    }
    Ok(Json(answer))
}
