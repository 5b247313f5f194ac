//! The kinds of meeting software, and what each can do.

use axum::{Json, extract::State};
use serde::Serialize;
use shared::{domain::provider::ProviderKind, providers::Capabilities};
use utoipa::ToSchema;

use crate::{auth::Caller, error::Result, schema, state::AppState};

/// What can be done where a session is held.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capabilities)]
pub struct CapabilitiesBody {
    /// The first join makes the meeting. Else a room is there whenever somebody is in it.
    makes_meetings: bool,
    /// Ending a session ends the meeting for everybody in it.
    ends_meetings: bool,
    /// A person can be removed from a running meeting.
    removes_people: bool,
    /// A join gives a credential with which a page embeds the meeting, beside the link.
    embeds: bool,
    /// Participants wait until somebody who hosts lets them in, as it is configured.
    lobby: bool,
    /// Tells who comes and who leaves, as it happens.
    tells_people: bool,
    /// Can be asked who is there, so that a lost event does no harm.
    polls_people: bool,
    /// Tells once more, when a meeting is over, who was there and when.
    reports_at_end: bool,
    /// Recordings are fetched from it, or handed over by it.
    records: bool,
    /// Minutes after the end until a recording is usually there; null where none is.
    #[schema(example = 60)]
    recording_delay_minutes: Option<u32>,
}

/// A kind of meeting software.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
pub struct ProviderBody {
    #[schema(schema_with = schema::provider)]
    provider: ProviderKind,
    /// Whether sessions can be held at the operator's own, without a provider configuration.
    configured: bool,
    /// Whether a session that names neither provider nor configuration is held there, where the tenant has no default.
    is_default: bool,
    /// Of the operator's own; a provider configuration shows its own.
    #[schema(value_type = CapabilitiesBody)]
    capabilities: Capabilities,
}

/// All kinds of meeting software, and what each can do.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/providers/", tag = "provider-configs",
    responses((status = 200, body = Vec<ProviderBody>)),
)]
pub async fn list_providers(State(state): State<AppState>, _: Caller) -> Result<Json<Vec<ProviderBody>>> {
    let shown = |provider| ProviderBody {
        provider,
        configured: state.providers.configured(provider),
        is_default: state.providers.default_kind() == provider,
        capabilities: state.providers.capabilities(provider),
    };
    Ok(Json(ProviderKind::ALL.into_iter().map(shown).collect()))
}
