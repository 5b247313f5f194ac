//! Who is in a session now.

use std::collections::HashMap;

use axum::{Json, extract::State};
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use shared::{
    db::{attendance, invitees, participants},
    domain::{
        attendance::Source,
        ids::SessionId,
        person::{Part, is_guest},
        session::SessionStatus,
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    error::Result,
    extract::{Id, Query},
    permissions::{Right, see},
    reports::{self, local},
    schema,
    state::AppState,
};

/// Everybody who is there at this moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct Present {
    pub session_id: Uuid,
    #[schema(schema_with = schema::status)]
    pub session_status: SessionStatus,
    /// The moment; all times are in the zone that was asked for.
    pub at: DateTime<FixedOffset>,
    #[schema(example = "Europe/Istanbul")]
    pub timezone: String,
    /// How many are there …
    pub present: usize,
    /// … how many of them are guests, whom the provider does not name …
    pub guests: usize,
    /// … and how many of the invited are not there.
    pub missing: usize,
    /// First comers first.
    pub results: Vec<PresentPerson>,
}

/// Somebody who is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresentPerson {
    pub person_id: String,
    pub name: String,
    #[schema(schema_with = schema::part)]
    pub role: Part,
    pub invited: bool,
    /// Somebody whom the provider does not name.
    pub guest: bool,
    /// Since when, without a gap.
    pub since: DateTime<FixedOffset>,
    /// Through how many connections.
    pub connections: usize,
    /// What proves it.
    #[schema(value_type = Vec<String>, example = json!(["heartbeat", "webhook"]))]
    pub sources: Vec<Source>,
}

/// In which zone.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListPresent {
    /// IANA name of the zone of the times; the session's when left out.
    #[param(example = "Europe/Istanbul")]
    tz: Option<String>,
}

/// Who is in now: people, not connections, by all that pages and the provider have told. Empty unless the session is live.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/present/", tag = "presence",
    params(("id" = Uuid, Path, description = "The session"), ListPresent),
    responses((status = 200, body = Present)),
)]
pub async fn list_present(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Query(query): Query<ListPresent>,
) -> Result<Json<Present>> {
    let (mut tx, seen) = see(&state, &caller, id, Right::Inspect).await?;
    let session = seen.session;
    let zone = reports::zone(query.tz.as_deref(), &session.timezone)?;
    let now = state.clock.now();
    let here = match session.status {
        SessionStatus::Live => attendance::present_now(&mut tx, &session, now).await?,
        _ => Vec::new(),
    };
    let invited = invitees::list(&mut *tx, id).await?;
    let names: HashMap<String, String> = participants::names(&mut *tx, id).await?.into_iter().collect();
    let mut invited: HashMap<String, _> = invited.into_iter().map(|i| (i.person_id.clone(), i)).collect();
    let started_at = session.started_at.unwrap_or(now);
    let results: Vec<PresentPerson> = here
        .into_iter()
        .map(|here| {
            let invitee = invited.remove(&here.person);
            let hosts = here.person == session.host_id;
            let invited_as = invitee.as_ref().map_or("", |i| i.name.as_str());
            let called = if hosts { session.host_name.as_str() } else { invited_as };
            let name = if called.is_empty() { names.get(&here.person).cloned() } else { Some(called.to_owned()) };
            PresentPerson {
                name: name.unwrap_or_default(),
                role: if hosts { Part::Host } else { invitee.as_ref().map_or(Part::Participant, |i| i.role.into()) },
                invited: hosts || invitee.is_some(),
                guest: is_guest(&here.person),
                since: local(here.since.max(started_at), zone),
                connections: here.connections,
                sources: here.sources.into_iter().collect(),
                person_id: here.person,
            }
        })
        .collect();
    Ok(Json(Present {
        session_id: id.0,
        session_status: session.status,
        at: local(now, zone),
        timezone: zone.name().to_owned(),
        present: results.len(),
        guests: results.iter().filter(|person| person.guest).count(),
        missing: invited.len(),
        results,
    }))
}
