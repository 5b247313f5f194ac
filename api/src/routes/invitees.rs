//! Who is invited to a session.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    db::{
        invitees::{self, Invitee, InviteeRole},
        reminders, sessions,
    },
    domain::{
        ids::SessionId,
        person::is_mail_address,
        session::{Session, SessionStatus},
    },
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Caller,
    body::{Json, LARGEST},
    error::{Fault, Problem, Result, conflict},
    extract::{Etag, Id, Query},
    page::{Address, Page, Wanted},
    permissions::{self, Right, see},
    router::BASE,
    routes::sessions::body::etag,
    schema,
    state::AppState,
};

/// A person to be invited.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitee {
    /// The person's id in the LMS, the token's `sub`.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        example = "student-17"
    )]
    pub person_id: String,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 200)]
    pub name: Option<String>,
    /// Without one the person gets no mails.
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 254, format = "email")]
    pub email: Option<String>,
    /// Of mails; the tenant's when left out.
    #[schema(schema_with = schema::locale_or_null)]
    pub locale: Option<String>,
    /// IANA name, for times in mails; the tenant's when left out.
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 64)]
    pub timezone: Option<String>,
    /// `participant` when left out.
    #[schema(schema_with = schema::invitee_role_or_null)]
    pub role: Option<InviteeRole>,
    /// Excused beforehand: absence does not count.
    pub excused: Option<bool>,
}

/// The whole list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteeList {
    #[schema(max_items = 10_000)]
    pub invitees: Vec<NewInvitee>,
}

crate::input!(InviteeList, max_bytes = LARGEST);

/// Somebody who is invited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitee)]
pub struct InviteeBody {
    pub person_id: String,
    pub name: String,
    pub email: Option<String>,
    #[schema(schema_with = schema::locale_or_null)]
    pub locale: Option<String>,
    pub timezone: Option<String>,
    #[schema(schema_with = schema::invitee_role)]
    pub role: InviteeRole,
    pub excused: bool,
}

impl From<Invitee> for InviteeBody {
    fn from(i: Invitee) -> Self {
        Self {
            person_id: i.person_id,
            name: i.name,
            email: i.email,
            locale: i.locale,
            timezone: i.timezone,
            role: i.role,
            excused: i.excused,
        }
    }
}

/// What replacing the list did.
#[derive(Debug, Serialize, ToSchema)]
pub struct InviteesReplaced {
    /// People on the list now.
    pub total: usize,
    /// New people, and those who have an address for the first time.
    pub added: usize,
    pub removed: usize,
}

/// Which page of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListInvitees {
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// The invitees, by person_id.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/invitees/", tag = "invitees",
    params(("id" = uuid::Uuid, Path, description = "The session"), ListInvitees),
    responses((status = 200, body = Page<InviteeBody>)),
)]
pub async fn list_invitees(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Query(query): Query<ListInvitees>,
) -> Result<Answer<Page<InviteeBody>>> {
    let (mut tx, _) = see(&state, &caller, id, Right::Inspect).await?;
    let wanted = Wanted::<String>::parse(query.cursor.as_deref(), query.page_size)?;
    let rows = invitees::page(&mut *tx, id, wanted.after.as_deref(), !wanted.backwards, wanted.limit()).await?;
    let address = Address {
        path: format!("{}{BASE}/sessions/{id}/invitees/", state.config.public_url.trim_end_matches('/')),
        parameters: Vec::new(),
    };
    Ok(Answer(wanted.page(rows, &address, |i| i.person_id.clone(), InviteeBody::from)))
}

/// Replace the list, up to 10 000 people at once. New ones are invited by mail. Mails planned for those who are no longer
/// on it are dropped; who was told of the session gets a mail that takes it out of the calendar, and the session's
/// sequence and version rise.
#[utoipa::path(
    put, path = "/api/v1/live-sessions/sessions/{id}/invitees/", tag = "invitees",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("if-match" = Option<String>, Header, description = "Only if the session still has this ETag"),
    ),
    request_body = InviteeList,
    responses(
        (status = 200, body = InviteesReplaced, headers(("etag" = String, description = "New version of the session"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json"),
        (status = 412, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn replace_invitees(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    headers: HeaderMap,
    body: Json<InviteeList>,
) -> Result<Response> {
    // Strangers learn nothing of the session, not even by faults of their body.
    drop(see(&state, &caller, id, Right::Manage).await?);
    let list = body.check(|value| match value["invitees"].as_array() {
        Some(people) => meaning(people, "/invitees"),
        None => Vec::new(),
    })?;
    let now = state.clock.now();
    let people: Vec<Invitee> = list.invitees.iter().map(|person| row(person, now)).collect();
    let mut tx = state.begin_for(&caller).await?;
    let session = permissions::lock(&mut tx, &caller, id, Right::Manage).await?.session;
    etag(&session).allows_write(&headers)?;
    still_open(&session)?;
    let replaced = invitees::replace(&mut tx, session.tenant_id, id, &people).await?;
    reminders::follow_list(&mut tx, session, &caller.tenant, &replaced, now).await?;
    let version = sessions::raise_version(&mut *tx, id).await?;
    tx.commit().await?;
    let etag = HeaderValue::try_from(Etag::of(version).as_str()).map_err(anyhow::Error::from)?;
    let replaced =
        Answer(InviteesReplaced { total: people.len(), added: replaced.added.len(), removed: replaced.removed.len() });
    Ok(([(header::ETAG, etag)], replaced).into_response())
}

fn still_open(session: &Session) -> Result<(), Problem> {
    match session.status {
        SessionStatus::Scheduled | SessionStatus::Live => Ok(()),
        over => Err(conflict(
            "session-over",
            "The session is over",
            "Nobody is invited to a session that has ended or was cancelled.",
        )
        .session_status(over)),
    }
}

/// Faults of a list beyond its form: nobody twice, time zones that exist.
pub fn meaning(people: &[Value], at: &str) -> Vec<Fault> {
    let mut seen = std::collections::HashMap::new();
    let mut faults = Vec::new();
    for (n, person) in people.iter().enumerate() {
        if let Some(id) = person["person_id"].as_str()
            && let Some(first) = seen.insert(id, n)
        {
            faults.push(Fault::at(format!("{at}/{n}/person_id"), format!("is on the list already, as number {first}")));
        }
        if person["email"].as_str().is_some_and(|email| !email.is_empty() && !is_mail_address(email)) {
            faults.push(Fault::at(format!("{at}/{n}/email"), "must be a mail address"));
        }
        if let Some(name) = person["timezone"].as_str()
            && name.parse::<chrono_tz::Tz>().is_err()
        {
            faults.push(Fault::at(
                format!("{at}/{n}/timezone"),
                "is no time zone of the IANA database, such as Europe/Istanbul",
            ));
        }
    }
    faults
}

/// The row of a person; its session is set when it is written.
pub fn row(person: &NewInvitee, now: DateTime<Utc>) -> Invitee {
    Invitee {
        session_id: SessionId(uuid::Uuid::nil()),
        person_id: person.person_id.clone(),
        name: person.name.clone().unwrap_or_default(),
        email: person.email.clone().filter(|email| !email.is_empty()),
        locale: person.locale.clone(),
        timezone: person.timezone.clone(),
        role: person.role.unwrap_or_default(),
        excused: person.excused.unwrap_or(false),
        created_at: now,
    }
}
