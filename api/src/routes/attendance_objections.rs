//! What people say against their own row of the attendance report. A correction upholds it; who does not correct, says why not.

use axum::{
    Json as Answer,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, FixedOffset};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use shared::{
    db::{
        self,
        attendance_objections::{self, Filter, Objection, ObjectionState},
    },
    domain::{ids::SessionId, session::Session},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    body::Json,
    error::{Result, conflict, forbidden},
    extract::{Id, Person, Query},
    page::{Address, Page, Wanted},
    permissions::{self, Right, see},
    reports::local,
    router::BASE,
    routes::attendance::not_started,
    schema,
    state::AppState,
};

/// An objection, and what became of it. Times are in the zone of the report, or the session's.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = AttendanceObjection)]
pub struct ObjectionBody {
    pub person_id: String,
    pub reason: String,
    /// `open`; `upheld`: the row was corrected; `refused`.
    #[schema(schema_with = schema::objection)]
    pub state: ObjectionState,
    pub made_at: DateTime<FixedOffset>,
    /// The correction's reason, or why it was refused.
    pub answer: Option<String>,
    pub answered_by: Option<String>,
    pub answered_at: Option<DateTime<FixedOffset>>,
}

impl ObjectionBody {
    pub fn of(objection: Objection, zone: Tz) -> Self {
        Self {
            person_id: objection.person_id,
            reason: objection.reason,
            state: objection.state,
            made_at: local(objection.made_at, zone),
            answer: objection.answer,
            answered_by: objection.answered_by,
            answered_at: objection.answered_at.map(|at| local(at, zone)),
        }
    }

    fn of_session(objection: Objection, session: &Session) -> Self {
        Self::of(objection, session.timezone.parse().unwrap_or(Tz::UTC))
    }
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectionReason {
    /// For the host, or from the host: both see it.
    #[schema(
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u2028\u2029][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        max_length = 500,
        example = "I was there from my phone"
    )]
    pub reason: String,
}

crate::input!(ObjectionReason);

/// Contest the own row of the attendance report, from the start of the session on. Hosts and administrators see it in the
/// report and in the list; a correction of the row upholds it, or they refuse it with a reason. One is open at a time.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/attendance-objections/", tag = "attendance",
    params(("id" = Uuid, Path, description = "The session")),
    request_body = ObjectionReason,
    responses(
        (status = 201, body = ObjectionBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-not-started`, or `objection-open`: an earlier one is not answered yet"),
    ),
)]
pub async fn object_to_attendance(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    body: Json<ObjectionReason>,
) -> Result<Response> {
    let (mut tx, seen) = see(&state, &caller, id, Right::View).await?;
    if seen.part.is_none() {
        return Err(forbidden("A service attends nothing; send the person's token.").into());
    }
    let objection = body.check(|_| Vec::new())?;
    if seen.session.started_at.is_none() {
        return Err(not_started(&seen.session).into());
    }
    let made = attendance_objections::insert(&mut *tx, &seen.session, &caller.id, objection.reason.trim()).await;
    let made = made.map_err(|error| match db::is_violation(&error, attendance_objections::ONE_OPEN) {
        true => conflict("objection-open", "Not answered yet", "An earlier objection is not answered yet.").into(),
        false => crate::error::Error::from(error),
    })?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Answer(ObjectionBody::of_session(made, &seen.session))).into_response())
}

/// Which objections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListObjections {
    #[param(schema_with = schema::objection)]
    state: Option<ObjectionState>,
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// Objections to the report, oldest first. Hosts, co-hosts and administrators see everybody's, others their own.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/attendance-objections/", tag = "attendance",
    params(("id" = Uuid, Path, description = "The session"), ListObjections),
    responses((status = 200, body = Page<ObjectionBody>)),
)]
pub async fn list_attendance_objections(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Query(query): Query<ListObjections>,
) -> Result<Answer<Page<ObjectionBody>>> {
    let (mut tx, seen) = see(&state, &caller, id, Right::View).await?;
    let wanted = Wanted::<Uuid>::parse(query.cursor.as_deref(), query.page_size)?;
    let person = (!seen.standing.may(Right::Inspect)).then_some(caller.id.as_str());
    let filter = Filter { person, state: query.state };
    let rows =
        attendance_objections::page(&mut *tx, id, filter, wanted.after, !wanted.backwards, wanted.limit()).await?;
    let address = Address {
        path: format!("{}{BASE}/sessions/{id}/attendance-objections/", state.config.public_url.trim_end_matches('/')),
        parameters: query.state.map(|state| ("state", state.as_str().to_owned())).into_iter().collect(),
    };
    Ok(Answer(wanted.page(rows, &address, |o| o.id, |o| ObjectionBody::of_session(o, &seen.session))))
}

/// Refuse a person's open objection. To uphold it, correct the row.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/attendance-objections/{person_id}/refuse/", tag = "attendance",
    params(
        ("id" = Uuid, Path, description = "The session"),
        ("person_id" = String, Path, description = "The LMS's id of the person", example = "student-17"),
    ),
    request_body = ObjectionReason,
    responses(
        (status = 200, body = ObjectionBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`no-open-objection`"),
    ),
)]
pub async fn refuse_attendance_objection(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Person(person): Person,
    body: Json<ObjectionReason>,
) -> Result<Answer<ObjectionBody>> {
    let mut tx = state.begin_for(&caller).await?;
    let session = permissions::see_on(&mut tx, &caller, id, Right::Manage).await?.session;
    let refusal = body.check(|_| Vec::new())?;
    let of_session = (session.tenant_id, id);
    let answer = (refusal.reason.trim(), caller.id.as_str());
    let refused = attendance_objections::answer(&mut *tx, of_session, &person, ObjectionState::Refused, answer).await?;
    let Some(refused) = refused else {
        let detail = "The person has no objection that waits for an answer.";
        return Err(conflict("no-open-objection", "Nothing to answer", detail).into());
    };
    tx.commit().await?;
    Ok(Answer(ObjectionBody::of_session(refused, &session)))
}
