//! Who changed what, for the tenant's administrators and for operators.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::db::audit_log::{self, AuditEntry, Filter};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    error::Result,
    extract::{Query, sane_time},
    page::{Address, Page, Wanted},
    permissions::Overseer,
    router::BASE,
    state::AppState,
};

/// One change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditEntryBody {
    #[schema(example = "4711")]
    id: String,
    /// Null where it belongs to no tenant.
    tenant_id: Option<Uuid>,
    at: DateTime<Utc>,
    /// `person:` and the token's `sub`, `api-key:` and its id, `job:` and its kind, `operator:` and who; `sql:` and a
    /// database user where it was done by hand.
    #[schema(example = "person:ayse")]
    actor: String,
    /// The request's `x-request-id`, or the job's id.
    request_id: Option<String>,
    /// What happened to what.
    #[schema(example = "session.cancelled")]
    action: String,
    /// The id of what was changed; of invitees, their session's.
    subject_id: String,
    /// By field: the value before and the value after. Neither secrets nor mail addresses.
    #[schema(value_type = Object, example = json!({"status": ["scheduled", "cancelled"]}))]
    changes: Value,
}

impl From<AuditEntry> for AuditEntryBody {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            tenant_id: entry.tenant_id.map(|id| id.0),
            at: entry.at,
            actor: entry.actor,
            request_id: entry.request_id,
            action: entry.action,
            subject_id: entry.subject_id,
            changes: entry.changes,
        }
    }
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAuditLog {
    /// The id of a session, recording, …
    subject_id: Option<String>,
    #[param(example = "person:ayse")]
    actor: Option<String>,
    #[param(example = "session.cancelled")]
    action: Option<String>,
    /// The `x-request-id` of a request, the id of a job.
    request_id: Option<String>,
    /// From here on, inclusive.
    after: Option<DateTime<Utc>>,
    /// Up to here, exclusive.
    before: Option<DateTime<Utc>>,
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// Every change in the tenant, newest first: who, what, when, from what to what. Nobody can change or delete a line; to
/// erase a person puts a pseudonym in their place. Operators see those of all tenants, and those that are no tenant's.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/audit-log/", tag = "audit-log", params(ListAuditLog),
    responses((status = 200, body = Page<AuditEntryBody>)),
)]
pub async fn list_audit_log(
    State(state): State<AppState>,
    overseer: Overseer,
    Query(query): Query<ListAuditLog>,
) -> Result<Json<Page<AuditEntryBody>>> {
    let wanted = Wanted::<i64>::parse(query.cursor.as_deref(), query.page_size)?;
    let filter = Filter {
        subject_id: query.subject_id.clone(),
        actor: query.actor.clone(),
        action: query.action.clone(),
        request_id: query.request_id.clone(),
        after: sane_time("after", query.after)?,
        before: sane_time("before", query.before)?,
    };
    let mut tx = overseer.begin(&state).await?;
    let rows =
        audit_log::page(&mut *tx, overseer.tenant(), &filter, wanted.after, wanted.backwards, wanted.limit()).await?;
    let parameters = [
        ("subject_id", query.subject_id),
        ("actor", query.actor),
        ("action", query.action),
        ("request_id", query.request_id),
        ("after", query.after.map(|at| at.to_rfc3339())),
        ("before", query.before.map(|at| at.to_rfc3339())),
    ];
    let address = Address {
        path: format!("{}{BASE}/audit-log/", state.config.public_url.trim_end_matches('/')),
        parameters: parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    };
    Ok(Json(wanted.page(rows, &address, |entry| entry.id, AuditEntryBody::from)))
}
