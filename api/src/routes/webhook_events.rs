//! The inbox of webhooks: what providers told, what became of it, and once more.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    db::webhook_events::{self, Filter, WebhookEvent, WebhookState},
    domain::{
        ids::{ProviderConfigId, SessionId, WebhookEventId},
        provider::ProviderKind,
    },
    jobs::ProcessWebhook,
    providers::without_credentials,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    error::{Result, not_found},
    extract::{Id, Query, sane_time},
    page::{Address, Page, Wanted},
    permissions::Overseer,
    router::BASE,
    schema,
    state::AppState,
};

/// A webhook whose signature was right.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEvent)]
pub struct WebhookEventBody {
    id: Uuid,
    /// Null where nobody knows whose it is: the environment's secret verified it, and no session meets in its room.
    tenant_id: Option<Uuid>,
    /// The session that it changed, or whose room it names.
    session_id: Option<Uuid>,
    #[schema(schema_with = schema::provider)]
    provider: String,
    /// By whose secret it was verified; null: the environment's.
    provider_config_id: Option<Uuid>,
    /// The provider's name of it.
    #[schema(example = "muc-occupant-joined")]
    event_type: String,
    /// By the provider's clock.
    occurred_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    /// `stored` until it is processed; `ignored` where it changed nothing.
    #[schema(schema_with = schema::webhook_state)]
    state: WebhookState,
    /// Why it was ignored.
    #[schema(example = "no session meets in this room")]
    note: Option<String>,
    processed_at: Option<DateTime<Utc>>,
}

impl From<WebhookEvent> for WebhookEventBody {
    fn from(event: WebhookEvent) -> Self {
        Self {
            id: event.id.0,
            tenant_id: event.tenant_id.map(|id| id.0),
            session_id: event.session_id.map(|id| id.0),
            provider: event.provider,
            provider_config_id: event.provider_config_id.map(|id| id.0),
            event_type: event.event_type,
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            state: event.state,
            note: event.note,
            processed_at: event.processed_at,
        }
    }
}

/// A webhook with what it said.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEventDetail)]
pub struct WebhookEventDetailBody {
    #[serde(flatten)]
    event: WebhookEventBody,
    /// As the provider sent it; `…` stands for passwords, tokens and links that carry one.
    #[schema(value_type = Object)]
    body: Value,
}

impl From<WebhookEvent> for WebhookEventDetailBody {
    fn from(mut event: WebhookEvent) -> Self {
        let body = without_credentials(std::mem::take(&mut event.body));
        Self { event: event.into(), body }
    }
}

/// Which webhooks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListWebhookEvents {
    session_id: Option<Uuid>,
    provider_config_id: Option<Uuid>,
    #[param(schema_with = schema::provider)]
    provider: Option<ProviderKind>,
    #[param(schema_with = schema::webhook_state)]
    state: Option<WebhookState>,
    #[param(example = "muc-occupant-joined")]
    event_type: Option<String>,
    /// From here on, inclusive.
    received_after: Option<DateTime<Utc>>,
    /// Up to here, exclusive.
    received_before: Option<DateTime<Utc>>,
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// Webhooks that came, newest first: those of the tenant; for operators those of all tenants, and those that are nobody's.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/webhook-events/", tag = "webhooks", params(ListWebhookEvents),
    responses((status = 200, body = Page<WebhookEventBody>)),
)]
pub async fn list_webhook_events(
    State(state): State<AppState>,
    overseer: Overseer,
    Query(query): Query<ListWebhookEvents>,
) -> Result<Json<Page<WebhookEventBody>>> {
    let wanted = Wanted::<Uuid>::parse(query.cursor.as_deref(), query.page_size)?;
    let filter = Filter {
        tenant: overseer.tenant(),
        session: query.session_id.map(SessionId),
        config: query.provider_config_id.map(ProviderConfigId),
        provider: query.provider,
        state: query.state,
        event_type: query.event_type.clone(),
        received_after: sane_time("received_after", query.received_after)?,
        received_before: sane_time("received_before", query.received_before)?,
    };
    let mut tx = overseer.begin(&state).await?;
    let after = wanted.after.map(WebhookEventId);
    let rows = webhook_events::page(&mut *tx, &filter, after, wanted.backwards, wanted.limit()).await?;
    let parameters = [
        ("session_id", query.session_id.map(|id| id.to_string())),
        ("provider_config_id", query.provider_config_id.map(|id| id.to_string())),
        ("provider", query.provider.map(|kind| kind.as_str().to_owned())),
        ("state", query.state.map(|state| state.as_str().to_owned())),
        ("event_type", query.event_type),
        ("received_after", query.received_after.map(|at| at.to_rfc3339())),
        ("received_before", query.received_before.map(|at| at.to_rfc3339())),
    ];
    let address = Address {
        path: format!("{}{BASE}/webhook-events/", state.config.public_url.trim_end_matches('/')),
        parameters: parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    };
    Ok(Json(wanted.page(rows, &address, |event| event.id.0, WebhookEventBody::from)))
}

/// One webhook, with what it said.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/webhook-events/{id}/", tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook event")),
    responses((status = 200, body = WebhookEventDetailBody)),
)]
pub async fn get_webhook_event(
    State(state): State<AppState>,
    overseer: Overseer,
    Id(id): Id<WebhookEventId>,
) -> Result<Json<WebhookEventDetailBody>> {
    let mut tx = overseer.begin(&state).await?;
    let event = webhook_events::find(&mut *tx, id).await?.ok_or_else(|| not_found("webhook event"))?;
    Ok(Json(event.into()))
}

/// Process a webhook again, as if it had just come: after a session was moved to another room, a configuration or a defect
/// was mended. What it had already changed stays as it is; nothing is counted twice.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhook-events/{id}/replay/", tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook event")),
    responses((status = 200, body = WebhookEventBody, description = "It waits to be processed")),
)]
pub async fn replay_webhook_event(
    State(state): State<AppState>,
    overseer: Overseer,
    Id(id): Id<WebhookEventId>,
) -> Result<Json<WebhookEventBody>> {
    let mut tx = overseer.begin(&state).await?;
    let event = webhook_events::reopen(&mut *tx, id).await?.ok_or_else(|| not_found("webhook event"))?;
    tx.enqueue(&ProcessWebhook { webhook_event_id: id }).await?;
    tx.commit().await?;
    Ok(Json(event.into()))
}
