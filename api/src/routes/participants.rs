//! Connections to a session, for hosts who want to see who is there.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    db::participants::{self, Participant},
    domain::{ids::SessionId, person::Part},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    error::Result,
    extract::{Id, Query},
    page::{Address, Page, Wanted},
    permissions::{Right, see},
    router::BASE,
    schema,
    state::AppState,
};

/// One stretch of presence of one connection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Participant)]
pub struct ParticipantBody {
    pub id: Uuid,
    pub person_id: String,
    pub name: String,
    #[schema(schema_with = schema::part)]
    pub role: Part,
    /// Who told us: `heartbeat` is the person's page, `webhook` the provider.
    #[schema(schema_with = schema::source)]
    pub source: String,
    pub joined_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    /// Null while the connection is open.
    pub left_at: Option<DateTime<Utc>>,
    /// `left`, `stale` (fell silent) or `ended` (with the session).
    pub left_reason: Option<String>,
}

impl From<Participant> for ParticipantBody {
    fn from(p: Participant) -> Self {
        Self {
            id: p.id.0,
            person_id: p.person_id,
            name: p.name,
            role: p.role,
            source: p.source,
            joined_at: p.joined_at,
            last_seen_at: p.last_seen_at,
            left_at: p.left_at,
            left_reason: p.left_reason,
        }
    }
}

/// Which connections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParticipants {
    /// `true`: only those who are there now.
    open: Option<bool>,
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// Connections, by time of joining.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/participants/", tag = "presence",
    params(("id" = Uuid, Path, description = "The session"), ListParticipants),
    responses((status = 200, body = Page<ParticipantBody>)),
)]
pub async fn list_participants(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Query(query): Query<ListParticipants>,
) -> Result<Json<Page<ParticipantBody>>> {
    let (mut tx, _) = see(&state, &caller, id, Right::Inspect).await?;
    let wanted = Wanted::<(DateTime<Utc>, Uuid)>::parse(query.cursor.as_deref(), query.page_size)?;
    let open = query.open.unwrap_or(false);
    let rows = participants::page(&mut *tx, id, open, wanted.after, !wanted.backwards, wanted.limit()).await?;
    let address = Address {
        path: format!("{}{BASE}/sessions/{id}/participants/", state.config.public_url.trim_end_matches('/')),
        parameters: query.open.map(|open| ("open", open.to_string())).into_iter().collect(),
    };
    Ok(Json(wanted.page(rows, &address, |p| (p.joined_at, p.id.0), ParticipantBody::from)))
}
