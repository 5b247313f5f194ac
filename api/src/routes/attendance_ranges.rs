//! Attendance over many sessions: of a course, of a person, of a time. Final reports alone count.

use axum::{extract::State, response::Response};
use chrono::{DateTime, FixedOffset, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use shared::{
    db::attendance_ranges::{self as ranges, Attended, Counts, OfPerson, OfSession, Range},
    domain::person::Role,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    error::Result,
    extract::{Query, sane_time},
    reports::{self, BATCH, Cell, Format, Record, Rows, local, rounded},
    routes::analytics::Verdicts,
    schema,
    state::AppState,
};

/// Which sessions and people.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadRange {
    /// Only sessions of this course.
    #[param(example = "course-7")]
    course_id: Option<String>,
    /// Only this person.
    #[param(example = "student-17")]
    person_id: Option<String>,
    /// Sessions planned from here on, inclusive.
    starts_after: Option<DateTime<Utc>>,
    /// Up to here, exclusive.
    starts_before: Option<DateTime<Utc>>,
    /// `json` (when left out), `csv` (UTF-8 with a byte order mark, RFC 4180), or `xlsx` (Excel).
    #[param(schema_with = schema::report_format)]
    format: Option<Format>,
    /// IANA name of the zone of the times; the tenant's when left out.
    #[param(example = "Europe/Istanbul")]
    tz: Option<String>,
}

/// One row per person and session, by planned start, session and person.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttendanceRange {
    #[schema(example = "Europe/Istanbul")]
    pub timezone: String,
    pub results: Vec<AttendedSession>,
}

/// One person in one session.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttendedSession {
    pub session_id: Uuid,
    pub title: String,
    pub course_id: Option<String>,
    pub starts_at: DateTime<FixedOffset>,
    pub person_id: String,
    pub name: String,
    pub invited: bool,
    #[schema(example = "present")]
    pub status: String,
    pub first_join_at: Option<DateTime<FixedOffset>>,
    pub last_leave_at: Option<DateTime<FixedOffset>>,
    pub present_seconds: i64,
    /// Of the session's actual length, 0 to 100.
    pub percent: f64,
    /// Somebody corrected it.
    pub corrected: bool,
}

impl AttendedSession {
    fn of(row: Attended, zone: Tz) -> Self {
        Self {
            session_id: row.session_id,
            title: row.title,
            course_id: row.course_id,
            starts_at: local(row.starts_at, zone),
            person_id: row.person_id,
            name: row.name,
            invited: row.invited,
            status: row.status,
            first_join_at: row.first_join_at.map(|at| local(at, zone)),
            last_leave_at: row.last_leave_at.map(|at| local(at, zone)),
            present_seconds: row.present_seconds,
            percent: row.percent,
            corrected: row.is_corrected,
        }
    }
}

impl Record for AttendedSession {
    const NAME: &'static str = "attendance";
    const COLUMNS: &'static [&'static str] = &[
        "session_id",
        "title",
        "course_id",
        "starts_at",
        "person_id",
        "name",
        "invited",
        "status",
        "first_join_at",
        "last_leave_at",
        "present_seconds",
        "percent",
        "corrected",
    ];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::Text(self.session_id.to_string()),
            self.title.as_str().into(),
            self.course_id.as_deref().unwrap_or_default().into(),
            Cell::Time(self.starts_at),
            self.person_id.as_str().into(),
            self.name.as_str().into(),
            Cell::Bool(self.invited),
            self.status.as_str().into(),
            Cell::time(self.first_join_at),
            Cell::time(self.last_leave_at),
            Cell::Whole(self.present_seconds),
            Cell::Number(self.percent),
            Cell::Bool(self.corrected),
        ]
    }
}

/// Attendance over many sessions, from their final reports: of a course, of a person, of a time. Administrators and services
/// get everybody's, hosts and co-hosts that of their sessions, others their own.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/attendance/", tag = "attendance", params(ReadRange),
    responses((status = 200, content(
        (AttendanceRange = "application/json"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ))),
)]
pub async fn list_attendance(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<ReadRange>,
) -> Result<Response> {
    let Wanted { range, zone, format } = wanted(&caller, query)?;
    let head = AttendanceRange { timezone: zone.name().to_owned(), results: Vec::new() };
    let rows: Rows<Attended> = reports::in_batches(move |behind: Option<(DateTime<Utc>, Uuid, String)>| {
        let (state, caller, range) = (state.clone(), caller.clone(), range.clone());
        async move {
            let mut tx = state.begin_for(&caller).await?;
            let rows = ranges::page(&mut *tx, &range, behind.as_ref(), BATCH).await?;
            let next = reports::next(&rows, |row| (row.starts_at, row.session_id, row.person_id.clone()));
            Ok((rows, next))
        }
    });
    let rows = reports::map(rows, move |row| AttendedSession::of(row, zone));
    reports::respond(format, &head, "attendance", rows).await
}

/// What was counted over sessions or people.
#[derive(Debug, Serialize, ToSchema)]
pub struct Participation {
    pub verdicts: Verdicts,
    pub present_seconds: i64,
    /// Mean of the percents, those where excused left out; null where there are no others.
    pub average_percent: Option<f64>,
    /// Median of the first joins, seconds after the actual start; null where nobody came.
    pub median_delay_seconds: Option<i64>,
}

impl Participation {
    const COLUMNS: [&'static str; 9] = [
        "present",
        "late",
        "left_early",
        "partial",
        "absent",
        "excused",
        "present_seconds",
        "average_percent",
        "median_delay_seconds",
    ];

    fn of(counts: Counts, average_percent: Option<f64>) -> Self {
        Self {
            verdicts: Verdicts {
                present: counts.present,
                late: counts.late,
                left_early: counts.left_early,
                partial: counts.partial,
                absent: counts.absent,
                excused: counts.excused,
            },
            present_seconds: counts.present_seconds,
            average_percent: average_percent.map(rounded),
            median_delay_seconds: counts.median_delay_seconds,
        }
    }

    fn cells(&self) -> [Cell; Self::COLUMNS.len()] {
        let Verdicts { present, late, left_early, partial, absent, excused } = self.verdicts;
        [
            Cell::Whole(present),
            Cell::Whole(late),
            Cell::Whole(left_early),
            Cell::Whole(partial),
            Cell::Whole(absent),
            Cell::Whole(excused),
            Cell::Whole(self.present_seconds),
            Cell::number(self.average_percent),
            Cell::whole(self.median_delay_seconds),
        ]
    }
}

/// One row per person, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeopleAnalytics {
    pub results: Vec<PersonAnalytics>,
}

/// One person over all sessions of the range.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonAnalytics {
    pub person_id: String,
    pub name: String,
    /// To how many sessions the person was invited, or came.
    pub sessions: i64,
    #[serde(flatten)]
    pub participation: Participation,
}

impl PersonAnalytics {
    fn of(row: OfPerson) -> Self {
        Self {
            person_id: row.person_id,
            name: row.name,
            sessions: row.sessions,
            participation: Participation::of(row.counts, row.average_percent),
        }
    }
}

impl Record for PersonAnalytics {
    const NAME: &'static str = "people";
    const COLUMNS: &'static [&'static str] = &{
        let mut columns = ["person_id", "name", "sessions", "", "", "", "", "", "", "", "", ""];
        let mut at = 0;
        while at < Participation::COLUMNS.len() {
            columns[3 + at] = Participation::COLUMNS[at];
            at += 1;
        }
        columns
    };

    fn cells(&self) -> Vec<Cell> {
        let own = [self.person_id.as_str().into(), self.name.as_str().into(), Cell::Whole(self.sessions)];
        own.into_iter().chain(self.participation.cells()).collect()
    }
}

/// How each person took part over many sessions, from their final reports. Administrators and services get everybody's, hosts
/// and co-hosts that in their sessions, others their own.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/analytics/people/", tag = "attendance", params(ReadRange),
    responses((status = 200, content(
        (PeopleAnalytics = "application/json"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ))),
)]
pub async fn list_analytics_of_people(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<ReadRange>,
) -> Result<Response> {
    let Wanted { range, format, .. } = wanted(&caller, query)?;
    let rows: Rows<OfPerson> = reports::in_batches(move |behind: Option<String>| {
        let (state, caller, range) = (state.clone(), caller.clone(), range.clone());
        async move {
            let mut tx = state.begin_for(&caller).await?;
            let rows = ranges::page_of_people(&mut *tx, &range, behind.as_deref(), BATCH).await?;
            let next = reports::next(&rows, |row| row.person_id.clone());
            Ok((rows, next))
        }
    });
    let head = PeopleAnalytics { results: Vec::new() };
    reports::respond(format, &head, "analytics-people", reports::map(rows, PersonAnalytics::of)).await
}

/// One row per session, by planned start.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionsAnalytics {
    #[schema(example = "Europe/Istanbul")]
    pub timezone: String,
    pub results: Vec<OneSessionAnalytics>,
}

/// One session of the range, all people together.
#[derive(Debug, Serialize, ToSchema)]
pub struct OneSessionAnalytics {
    pub session_id: Uuid,
    pub title: String,
    pub course_id: Option<String>,
    pub starts_at: DateTime<FixedOffset>,
    pub started_at: DateTime<FixedOffset>,
    pub ended_at: DateTime<FixedOffset>,
    /// How many were invited, or came.
    pub people: i64,
    #[serde(flatten)]
    pub participation: Participation,
}

impl OneSessionAnalytics {
    fn of(row: OfSession, zone: Tz) -> Self {
        Self {
            session_id: row.session_id,
            title: row.title,
            course_id: row.course_id,
            starts_at: local(row.starts_at, zone),
            started_at: local(row.started_at, zone),
            ended_at: local(row.ended_at, zone),
            people: row.people,
            participation: Participation::of(row.counts, row.average_percent),
        }
    }
}

impl Record for OneSessionAnalytics {
    const NAME: &'static str = "sessions";
    const COLUMNS: &'static [&'static str] = &{
        let mut columns = [""; 16];
        let own = ["session_id", "title", "course_id", "starts_at", "started_at", "ended_at", "people"];
        let mut at = 0;
        while at < columns.len() {
            columns[at] = if at < own.len() { own[at] } else { Participation::COLUMNS[at - own.len()] };
            at += 1;
        }
        columns
    };

    fn cells(&self) -> Vec<Cell> {
        let own = [
            Cell::Text(self.session_id.to_string()),
            self.title.as_str().into(),
            self.course_id.as_deref().unwrap_or_default().into(),
            Cell::Time(self.starts_at),
            Cell::Time(self.started_at),
            Cell::Time(self.ended_at),
            Cell::Whole(self.people),
        ];
        own.into_iter().chain(self.participation.cells()).collect()
    }
}

/// How each session was attended, from the final reports. Administrators and services get all, hosts and co-hosts their
/// sessions; others get what they attended, with themselves alone counted.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/analytics/sessions/", tag = "attendance", params(ReadRange),
    responses((status = 200, content(
        (SessionsAnalytics = "application/json"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ))),
)]
pub async fn list_analytics_of_sessions(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<ReadRange>,
) -> Result<Response> {
    let Wanted { range, zone, format } = wanted(&caller, query)?;
    let rows: Rows<OfSession> = reports::in_batches(move |behind: Option<(DateTime<Utc>, Uuid)>| {
        let (state, caller, range) = (state.clone(), caller.clone(), range.clone());
        async move {
            let mut tx = state.begin_for(&caller).await?;
            let rows = ranges::page_of_sessions(&mut *tx, &range, behind, BATCH).await?;
            let next = reports::next(&rows, |row| (row.starts_at, row.session_id));
            Ok((rows, next))
        }
    });
    let head = SessionsAnalytics { timezone: zone.name().to_owned(), results: Vec::new() };
    let rows = reports::map(rows, move |row| OneSessionAnalytics::of(row, zone));
    reports::respond(format, &head, "analytics-sessions", rows).await
}

struct Wanted {
    range: Range,
    zone: Tz,
    format: Format,
}

fn wanted(caller: &Caller, query: ReadRange) -> Result<Wanted> {
    let zone = reports::zone(query.tz.as_deref(), &caller.tenant.timezone)?;
    let sees_all = caller.is(Role::Admin) || caller.is(Role::Service);
    let range = Range {
        tenant: caller.tenant.id,
        viewer: (!sees_all).then(|| caller.id.clone()),
        course_id: query.course_id,
        person_id: query.person_id,
        starts_after: sane_time("starts_after", query.starts_after)?,
        starts_before: sane_time("starts_before", query.starts_before)?,
    };
    Ok(Wanted { range, zone, format: query.format.unwrap_or_default() })
}
