//! The attendance report: live while the session runs, final some moments after its end.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, FixedOffset, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use shared::{
    db::attendance,
    domain::{
        attendance::{Row, Source, Status},
        ids::SessionId,
        session::{Session, SessionStatus},
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    error::{Problem, Result, bad_parameter, conflict},
    extract::{Id, Query},
    permissions::{Right, see},
    routes::attendance_tables as tables,
    schema,
    state::AppState,
};

/// Of everybody who was invited or came.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttendanceReport {
    pub session_id: Uuid,
    /// False while the session runs, and for some moments after its end.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Of the session's actual life; all times are in the zone that was asked for.
    pub started_at: DateTime<FixedOffset>,
    pub ended_at: Option<DateTime<FixedOffset>>,
    /// The zone of the times.
    #[schema(example = "Europe/Istanbul")]
    pub timezone: String,
    pub results: Vec<AttendanceRow>,
}

/// One person.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttendanceRow {
    pub person_id: String,
    pub name: String,
    pub email: Option<String>,
    pub invited: bool,
    pub first_join_at: Option<DateTime<FixedOffset>>,
    pub last_leave_at: Option<DateTime<FixedOffset>>,
    /// Time present: the union over all connections and sources.
    pub present_seconds: i64,
    /// Of the session's actual length, 0 to 100.
    pub percent: f64,
    #[schema(schema_with = schema::attendance)]
    pub status: Status,
    pub intervals: Vec<AttendanceInterval>,
    /// How many connections the person had.
    pub connections: usize,
    /// Null where everything is as computed.
    pub corrected: Option<CorrectedAttendance>,
}

/// That somebody corrected the row, and what had been computed.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectedAttendance {
    pub by: String,
    pub at: DateTime<FixedOffset>,
    pub reason: String,
    #[schema(schema_with = schema::attendance)]
    pub original_status: Status,
    pub original_present_seconds: i64,
    pub original_percent: f64,
}

/// A stretch of presence.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttendanceInterval {
    pub start: DateTime<FixedOffset>,
    pub end: DateTime<FixedOffset>,
    /// What proves it.
    #[schema(value_type = Vec<String>, example = json!(["heartbeat", "webhook"]))]
    pub sources: Vec<Source>,
}

/// How the report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
    Xlsx,
}

/// How the report is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadAttendance {
    /// `json` (when left out), `csv` (UTF-8 with a byte order mark, RFC 4180), or `xlsx` (Excel).
    #[param(schema_with = schema::report_format)]
    format: Option<Format>,
    /// IANA name of the zone of the times; the session's when left out.
    #[param(example = "Europe/Istanbul")]
    tz: Option<String>,
}

/// Who was there, for how long. Hosts and administrators see everybody, others themselves.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/attendance/", tag = "attendance",
    params(("id" = Uuid, Path, description = "The session"), ReadAttendance),
    responses(
        (status = 200, content(
            (AttendanceReport = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        )),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-not-started`"),
    ),
)]
pub async fn get_attendance(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Query(query): Query<ReadAttendance>,
) -> Result<Response> {
    let (mut tx, seen) = see(&state, &caller, id, Right::View).await?;
    let session = seen.session;
    let zone = query.tz.clone().unwrap_or_else(|| session.timezone.clone());
    let zone: Tz = zone.parse().map_err(|_| bad_parameter("tz", "is no time zone of the IANA database"))?;
    let Some(started_at) = session.started_at else { return Err(not_started(&session).into()) };
    let is_final = session.status == SessionStatus::Ended && session.finalized_at.is_some();
    let mut rows = match is_final {
        true => attendance::load(&mut *tx, id).await?,
        false => attendance::compute(&mut tx, &session, state.clock.now()).await?,
    };
    if !seen.standing.may(Right::Inspect) {
        rows.retain(|row| row.person == caller.id);
    }
    let report = AttendanceReport {
        session_id: id.0,
        is_final,
        started_at: local(started_at, zone),
        ended_at: session.ended_at.map(|at| local(at, zone)),
        timezone: zone.name().to_owned(),
        results: rows.into_iter().map(|row| show(row, zone)).collect(),
    };
    match query.format.unwrap_or_default() {
        Format::Json => Ok(Json(report).into_response()),
        Format::Csv => tables::csv(&report),
        Format::Xlsx => tables::xlsx(&report),
    }
}

pub fn not_started(session: &Session) -> Problem {
    conflict("session-not-started", "Not started", "There is no attendance before the start.")
        .session_status(session.status)
}

fn local(at: DateTime<Utc>, zone: Tz) -> DateTime<FixedOffset> {
    at.with_timezone(&zone).fixed_offset()
}

pub fn show(row: Row, zone: Tz) -> AttendanceRow {
    AttendanceRow {
        name: row.name.unwrap_or_default(),
        person_id: row.person,
        email: row.email,
        invited: row.invited,
        first_join_at: row.first_join.map(|at| local(at, zone)),
        last_leave_at: row.last_leave.map(|at| local(at, zone)),
        present_seconds: row.present_seconds,
        percent: row.percent,
        status: row.status,
        intervals: row
            .intervals
            .into_iter()
            .map(|i| AttendanceInterval {
                start: local(i.start, zone),
                end: local(i.end, zone),
                sources: i.sources.into_iter().collect(),
            })
            .collect(),
        connections: row.connections,
        corrected: row.corrected.map(|corrected| CorrectedAttendance {
            by: corrected.by,
            at: local(corrected.at, zone),
            reason: corrected.reason,
            original_status: corrected.original_status,
            original_present_seconds: corrected.original_present_seconds,
            original_percent: corrected.original_percent,
        }),
    }
}
