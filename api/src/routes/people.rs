//! What is held about one person: to be handed out, and to be erased. For the tenant's administrators, who answer for it.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    db::{
        erasures::{self, Erasure},
        personal_data,
    },
    domain::ids::ErasureId,
    jobs::ErasePerson,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::{Result, conflict, not_found},
    extract::{Id, Person},
    permissions::Admin,
    router::BASE,
    state::AppState,
};

/// All that is held about a person.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonalData {
    #[schema(example = "student-17")]
    pub person_id: String,
    pub exported_at: DateTime<Utc>,
    /// By table, the rows that are about the person, as they are stored.
    #[schema(value_type = Object, example = json!({"invitees": [{"session_id": "019abcde-0000-7000-8000-000000000000", "name": "Ali"}]}))]
    pub data: Map<String, Value>,
}

/// Everything that is held about one person, over all tables; recordings by name, they are downloaded apart. Empty lists for
/// somebody who is not known.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/people/{person_id}/", tag = "people",
    params(("person_id" = String, Path, description = "The LMS's id of the person", example = "student-17")),
    responses((status = 200, body = PersonalData)),
)]
pub async fn export_person(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Person(person): Person,
) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let data = personal_data::export(&mut tx, caller.tenant.id, &person).await?;
    let file = HeaderValue::from_static("attachment; filename=\"personal-data.json\"");
    let body = PersonalData { person_id: person, exported_at: state.clock.now(), data };
    Ok((
        [(header::CONTENT_DISPOSITION, file), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        Json(body),
    )
        .into_response())
}

/// A request to erase a person, and, once it is done, its receipt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub struct ErasureBody {
    pub id: Uuid,
    /// Whom; null once it is done.
    pub person_id: Option<String>,
    /// What the person is called in the counts that stay.
    #[schema(example = "erased:6f1c2b7e-9b1d-4c39-8f64-2d1f0a9c5e11")]
    pub pseudonym: String,
    pub requested_at: DateTime<Utc>,
    /// Null while it waits.
    pub finished_at: Option<DateTime<Utc>>,
    /// How many rows were erased so far, by table.
    #[schema(value_type = Object, example = json!({"participants": 12, "audit_log": 3}))]
    pub erased: Value,
    /// What was kept, and why; null while it waits.
    #[schema(value_type = Option<Vec<Object>>, example = json!([{"what": "attendance, under a pseudonym", "why": "the counts of sessions stay right"}]))]
    pub kept: Option<Value>,
}

impl From<Erasure> for ErasureBody {
    fn from(erasure: Erasure) -> Self {
        Self {
            id: erasure.id.0,
            person_id: erasure.person_id,
            pseudonym: erasure.pseudonym,
            requested_at: erasure.requested_at,
            finished_at: erasure.finished_at,
            erased: erasure.erased,
            kept: erasure.kept,
        }
    }
}

/// Erase a person: a job puts a pseudonym in their place in all tables and in the audit log, and empties names, addresses and
/// reasons. It waits while the person is in a live session. It cannot be undone.
///
/// What comes later about the person, by a token of the LMS or by a provider, is held again.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/people/{person_id}/erase/", tag = "people",
    params(("person_id" = String, Path, description = "The LMS's id of the person", example = "student-17")),
    responses(
        (status = 202, body = ErasureBody, headers(("location" = String, description = "Where the receipt will be"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`person-hosts-sessions`: planned or live ones"),
    ),
)]
pub async fn erase_person(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Person(person): Person,
) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    if personal_data::hosts(&mut *tx, caller.tenant.id, &person).await? {
        let detail =
            "The person holds sessions that are planned or live: give these another host, or cancel or end them.";
        return Err(conflict("person-hosts-sessions", "They are needed", detail).into());
    }
    let erasure = erasures::request(&mut *tx, caller.tenant.id, &person, &caller.id).await?;
    tx.enqueue(&ErasePerson { erasure_id: erasure.id }).await?;
    tx.commit().await?;
    let location = format!("{BASE}/erasures/{}/", erasure.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(ErasureBody::from(erasure))).into_response())
}

/// How far an erasure is; its receipt, once it is done.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/erasures/{id}/", tag = "people",
    params(("id" = Uuid, Path, description = "The erasure")),
    responses((status = 200, body = ErasureBody)),
)]
pub async fn get_erasure(
    State(state): State<AppState>,
    Admin(caller): Admin,
    Id(id): Id<ErasureId>,
) -> Result<Json<ErasureBody>> {
    let mut tx = state.begin_for(&caller).await?;
    let erasure = erasures::find(&mut *tx, caller.tenant.id, id).await?;
    Ok(Json(erasure.ok_or_else(|| not_found("erasure"))?.into()))
}
