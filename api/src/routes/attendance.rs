//! The attendance report: live while the session runs, final some moments after its end.

use std::collections::HashMap;

use axum::{extract::State, response::Response};
use chrono::{DateTime, FixedOffset};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use shared::{
    db::{
        attendance::{self, Behind},
        attendance_objections,
    },
    domain::{
        attendance::{Row, Source, Status},
        ids::SessionId,
        person::is_guest,
        session::{Session, SessionStatus},
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    error::{Problem, Result, conflict},
    extract::{Id, Query},
    permissions::{Right, see},
    reports::{self, BATCH, Cell, Format, Record, Rows, local},
    routes::attendance_objections::ObjectionBody,
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
    /// Somebody whom the provider does not name: came without a link of their own.
    pub guest: bool,
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
    /// What the person said against the row last.
    pub objection: Option<ObjectionBody>,
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
    let zone = reports::zone(query.tz.as_deref(), &session.timezone)?;
    let Some(started_at) = session.started_at else { return Err(not_started(&session).into()) };
    let is_final = is_final(&session);
    let only = (!seen.standing.may(Right::Inspect)).then(|| caller.id.clone());
    let objections = attendance_objections::newest(&mut tx, id, only.as_deref()).await?;
    let objections = objections.into_iter().map(|o| (o.person_id.clone(), ObjectionBody::of(o, zone))).collect();
    let report = AttendanceReport {
        session_id: id.0,
        is_final,
        started_at: local(started_at, zone),
        ended_at: session.ended_at.map(|at| local(at, zone)),
        timezone: zone.name().to_owned(),
        results: Vec::new(),
    };
    let rows = if is_final {
        drop(tx);
        stored(state, caller, Stored { session: id, only, zone, objections })
    } else {
        let mut rows = attendance::compute(&mut tx, &session, state.clock.now()).await?;
        rows.retain(|row| only.as_ref().is_none_or(|person| row.person == *person));
        let mut objections = objections;
        reports::at_once(rows.into_iter().map(|row| with_objection(row, zone, &mut objections)).collect())
    };
    reports::respond(query.format.unwrap_or_default(), &report, &format!("attendance-{id}"), rows).await
}

/// Whether the stored report is the report.
pub fn is_final(session: &Session) -> bool {
    session.status == SessionStatus::Ended && session.finalized_at.is_some()
}

/// A stored report, or what one person sees of it.
struct Stored {
    session: SessionId,
    only: Option<String>,
    zone: Tz,
    objections: HashMap<String, ObjectionBody>,
}

fn stored(state: AppState, caller: Caller, report: Stored) -> Rows<AttendanceRow> {
    let Stored { session, only, zone, mut objections } = report;
    let pages = reports::in_batches(move |behind: Option<Behind>| {
        let (state, caller, only) = (state.clone(), caller.clone(), only.clone());
        async move {
            let mut tx = state.begin_for(&caller).await?;
            let rows = attendance::page(&mut *tx, session, only.as_deref(), behind.as_ref(), BATCH).await?;
            let next = reports::next(&rows, Behind::row);
            Ok((rows, next))
        }
    });
    reports::map(pages, move |row| with_objection(row, zone, &mut objections))
}

fn with_objection(row: Row, zone: Tz, objections: &mut HashMap<String, ObjectionBody>) -> AttendanceRow {
    let objection = objections.remove(&row.person);
    AttendanceRow { objection, ..show(row, zone) }
}

pub fn not_started(session: &Session) -> Problem {
    conflict("session-not-started", "Not started", "There is no attendance before the start.")
        .session_status(session.status)
}

pub fn show(row: Row, zone: Tz) -> AttendanceRow {
    AttendanceRow {
        name: row.name.unwrap_or_default(),
        guest: is_guest(&row.person),
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
        objection: None,
    }
}

impl Record for AttendanceRow {
    const NAME: &'static str = "attendance";
    const COLUMNS: &'static [&'static str] = &[
        "person_id",
        "name",
        "email",
        "invited",
        "status",
        "first_join_at",
        "last_leave_at",
        "present_seconds",
        "percent",
        "connections",
        "corrected_by",
        "correction_reason",
        "guest",
        "objection",
        "objection_state",
    ];

    fn cells(&self) -> Vec<Cell> {
        let corrected = self.corrected.as_ref();
        let objection = self.objection.as_ref();
        vec![
            self.person_id.as_str().into(),
            self.name.as_str().into(),
            self.email.as_deref().unwrap_or_default().into(),
            Cell::Bool(self.invited),
            self.status.as_str().into(),
            Cell::time(self.first_join_at),
            Cell::time(self.last_leave_at),
            Cell::Whole(self.present_seconds),
            Cell::Number(self.percent),
            Cell::Whole(i64::try_from(self.connections).unwrap_or(i64::MAX)),
            corrected.map_or("", |corrected| &corrected.by).into(),
            corrected.map_or("", |corrected| &corrected.reason).into(),
            Cell::Bool(self.guest),
            objection.map_or("", |objection| &objection.reason).into(),
            objection.map_or("", |objection| objection.state.as_str()).into(),
        ]
    }
}
