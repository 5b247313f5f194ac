//! How a session was attended as a whole: who was there when, how many, how punctual.

use axum::{extract::State, response::Response};
use chrono::{DateTime, Duration, FixedOffset};
use serde::{Deserialize, Serialize};
use shared::{
    db::attendance,
    domain::{
        attendance::{self as domain, Status},
        ids::SessionId,
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    error::{Result, bad_parameter},
    extract::{Id, Query},
    permissions::{Right, see},
    reports::{self, Cell, Format, Record, local},
    routes::attendance::{is_final, not_started},
    schema,
    state::AppState,
};

const SLICE_SECONDS: u32 = 60;
const LEAST_SLICE: u32 = 10;
const LARGEST_SLICE: u32 = 3_600;

/// A session's participation.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionAnalytics {
    pub session_id: Uuid,
    /// False while the session runs, and for some moments after its end.
    #[serde(rename = "final")]
    pub is_final: bool,
    pub started_at: DateTime<FixedOffset>,
    pub ended_at: Option<DateTime<FixedOffset>>,
    /// The zone of the times.
    #[schema(example = "Europe/Istanbul")]
    pub timezone: String,
    /// How many people have each verdict, corrections included.
    pub verdicts: Verdicts,
    /// Most people who were there at one instant, and when that was first so.
    pub peak: usize,
    pub peak_at: Option<DateTime<FixedOffset>>,
    /// Mean number of people over the session.
    pub average: f64,
    /// Of those who came: within the tenant's `late_after` of the start, …
    pub on_time: usize,
    /// … later …
    pub late: usize,
    /// … and gone before the tenant's `left_early_before`; zero while the session runs.
    pub left_early: usize,
    /// Median of the first joins, seconds after the start; null where nobody came.
    pub median_delay_seconds: Option<i64>,
    /// Seconds of each slice of the timeline; the last one may be shorter.
    pub slice: u32,
    /// The timeline.
    pub results: Vec<Slice>,
}

/// How many people have each verdict.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Verdicts {
    pub present: i64,
    pub late: i64,
    pub left_early: i64,
    pub partial: i64,
    pub absent: i64,
    pub excused: i64,
}

impl Verdicts {
    fn count(&mut self, status: Status) {
        *match status {
            Status::Present => &mut self.present,
            Status::Late => &mut self.late,
            Status::LeftEarly => &mut self.left_early,
            Status::Partial => &mut self.partial,
            Status::Absent => &mut self.absent,
            Status::Excused => &mut self.excused,
        } += 1;
    }
}

/// A slice of the timeline.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimelineSlice)]
pub struct Slice {
    pub start: DateTime<FixedOffset>,
    /// Mean number of people.
    pub average: f64,
    /// Most people at one instant.
    pub peak: usize,
}

impl Record for Slice {
    const NAME: &'static str = "timeline";
    const COLUMNS: &'static [&'static str] = &["start", "average", "peak"];

    fn cells(&self) -> Vec<Cell> {
        let peak = i64::try_from(self.peak).unwrap_or(i64::MAX);
        vec![Cell::Time(self.start), Cell::Number(self.average), Cell::Whole(peak)]
    }
}

/// How the analysis is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadAnalytics {
    /// `json` (when left out); `csv` and `xlsx` hold the timeline.
    #[param(schema_with = schema::report_format)]
    format: Option<Format>,
    /// IANA name of the zone of the times; the session's when left out.
    #[param(example = "Europe/Istanbul")]
    tz: Option<String>,
    /// Seconds of each slice of the timeline; 60 when left out.
    #[param(minimum = 10, maximum = 3600)]
    slice: Option<u32>,
}

/// How many people were there over the course of a session, most, on average; and how punctual they were.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/analytics/", tag = "attendance",
    params(("id" = Uuid, Path, description = "The session"), ReadAnalytics),
    responses(
        (status = 200, content(
            (SessionAnalytics = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        )),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-not-started`"),
    ),
)]
pub async fn get_session_analytics(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Query(query): Query<ReadAnalytics>,
) -> Result<Response> {
    let (mut tx, seen) = see(&state, &caller, id, Right::Inspect).await?;
    let session = seen.session;
    let zone = reports::zone(query.tz.as_deref(), &session.timezone)?;
    let slice = query.slice.unwrap_or(SLICE_SECONDS);
    if !(LEAST_SLICE..=LARGEST_SLICE).contains(&slice) {
        return Err(bad_parameter("slice", format!("is not from {LEAST_SLICE} to {LARGEST_SLICE}")).into());
    }
    let now = state.clock.now();
    let Some(span) = attendance::span(&session, now) else { return Err(not_started(&session).into()) };
    let rules = attendance::rules(&mut tx, &session).await?;
    let is_final = is_final(&session);
    let rows = match is_final {
        true => attendance::load(&mut tx, id).await?,
        false => attendance::compute(&mut tx, &session, now).await?,
    };
    drop(tx);
    let found = domain::analytics(span, &rows, Duration::seconds(i64::from(slice)));
    let punctuality = domain::punctuality(span, &rows, &rules);
    let mut verdicts = Verdicts::default();
    rows.iter().for_each(|row| verdicts.count(row.status));
    let analytics = SessionAnalytics {
        session_id: id.0,
        is_final,
        started_at: local(span.start, zone),
        ended_at: session.ended_at.map(|at| local(at, zone)),
        timezone: zone.name().to_owned(),
        verdicts,
        peak: found.peak,
        peak_at: found.peak_at.map(|at| local(at, zone)),
        average: found.average,
        on_time: punctuality.on_time,
        late: punctuality.late,
        left_early: punctuality.left_early,
        median_delay_seconds: punctuality.median_delay_seconds,
        slice,
        results: Vec::new(),
    };
    let timeline = found.timeline.into_iter().map(|slice| Slice {
        start: local(slice.start, zone),
        average: slice.average,
        peak: slice.peak,
    });
    let rows = reports::at_once(timeline.collect());
    reports::respond(query.format.unwrap_or_default(), &analytics, &format!("analytics-{id}"), rows).await
}
