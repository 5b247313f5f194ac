//! What hosts say against the computed attendance: a line went dead, somebody sat beside a friend.

use axum::{
    Json as Answer,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::Value;
use shared::{
    db::{
        attendance,
        attendance_corrections::{self, NewCorrection},
        attendance_objections::{self, ObjectionState},
    },
    domain::{attendance::Status, ids::SessionId, session::SessionStatus},
};
use utoipa::ToSchema;

use crate::{
    auth::Caller,
    body::Json,
    error::{Fault, Result},
    extract::{Id, Person},
    permissions::{self, Right},
    routes::attendance::{AttendanceRow, not_started, show},
    schema,
    state::AppState,
};

/// What counts instead of what was computed. With neither `status` nor `present_seconds` it takes an earlier correction back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttendanceCorrection {
    /// As computed when left out.
    #[schema(schema_with = schema::attendance_or_null)]
    #[serde(default)]
    pub status: Option<Status>,
    /// As computed when left out; not more than the session was long.
    #[schema(minimum = 0, maximum = 86_400)]
    #[serde(default)]
    pub present_seconds: Option<i64>,
    /// Why. The person sees it.
    #[schema(
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u2028\u2029][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        max_length = 500,
        example = "The line was dead; seen in the room"
    )]
    pub reason: String,
}

crate::input!(AttendanceCorrection);

/// Correct what was computed for one person, who need not have been seen. The row says who corrected it, when and why, and what
/// had been computed; all corrections are in the audit log. The newest counts. An open objection of the person is upheld by it.
#[utoipa::path(
    patch, path = "/api/v1/live-sessions/sessions/{id}/attendance/{person_id}/", tag = "attendance",
    params(
        ("id" = Uuid, Path, description = "The session"),
        ("person_id" = String, Path, description = "The LMS's id of the person", example = "student-17"),
    ),
    request_body = AttendanceCorrection,
    responses(
        (status = 200, body = AttendanceRow),
        (status = 204, description = "The correction that was taken back was all that was known of the person"),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-not-started`"),
    ),
)]
pub async fn correct_attendance(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Person(person): Person,
    body: Json<AttendanceCorrection>,
) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    // The end of the session and the computation of its report wait, or are waited for.
    let session = permissions::lock(&mut tx, &caller, id, Right::Manage).await?.session;
    let now = state.clock.now();
    let Some(started_at) = session.started_at else { return Err(not_started(&session).into()) };
    let longest = (session.ended_at.unwrap_or(now) - started_at).num_seconds();
    let correction = body.check(|body| too_long(body, longest))?;
    let new = NewCorrection {
        tenant: session.tenant_id,
        session: id,
        person: &person,
        status: correction.status,
        present_seconds: correction.present_seconds,
        reason: correction.reason.trim(),
        by: &caller.id,
    };
    attendance_corrections::insert(&mut *tx, &new).await?;
    let of_session = (session.tenant_id, id);
    attendance_objections::answer(&mut *tx, of_session, &person, ObjectionState::Upheld, (new.reason, new.by)).await?;
    let rows = attendance::compute(&mut tx, &session, now).await?;
    if session.status == SessionStatus::Ended && session.finalized_at.is_some() {
        attendance::replace(&mut tx, &session, &rows).await?;
    }
    tx.commit().await?;
    let zone = session.timezone.parse().unwrap_or(Tz::UTC);
    Ok(match rows.into_iter().find(|row| row.person == person) {
        Some(row) => Answer(show(row, zone)).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

fn too_long(body: &Value, longest: i64) -> Vec<Fault> {
    let longer = body["present_seconds"].as_f64().is_some_and(|seconds| seconds > longest as f64);
    longer
        .then(|| Fault::at("/present_seconds", format!("is more than the {longest} s that the session was long")))
        .into_iter()
        .collect()
}
