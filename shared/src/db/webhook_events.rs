//! Functions on the table `webhook_events`: the inbox of what providers told us.

use std::{borrow::Cow, collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgExecutor};

use crate::domain::{
    ids::{ProviderConfigId, SessionId, TenantId, WebhookEventId},
    provider::ProviderKind,
    session::Session,
};

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum WebhookState {
    /// To be processed.
    Stored,
    Processed,
    /// It changes nothing.
    Ignored,
}

impl WebhookState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Processed => "processed",
            Self::Ignored => "ignored",
        }
    }
}

/// A stored webhook.
#[derive(Debug, Clone, FromRow)]
pub struct WebhookEvent {
    pub id: WebhookEventId,
    pub tenant_id: Option<TenantId>,
    /// The session that it was about, where one was found.
    pub session_id: Option<SessionId>,
    /// The provider's part of the webhook's URL, see `providers::WebhookSource`.
    pub provider: String,
    /// By whose secret it was verified; `None`: by the environment's. It is about sessions of that configuration alone.
    pub provider_config_id: Option<ProviderConfigId>,
    pub event_key: String,
    pub event_type: String,
    pub occurred_at: DateTime<Utc>,
    /// As it came.
    pub body: Value,
    pub state: WebhookState,
    pub note: Option<String>,
    pub received_at: DateTime<Utc>,
    pub processed_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, tenant_id, session_id, provider, provider_config_id, event_key, event_type, occurred_at, body, \
    state, note, received_at, processed_at";

pub async fn find<'e>(executor: impl PgExecutor<'e>, id: WebhookEventId) -> sqlx::Result<Option<WebhookEvent>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from webhook_events where id = $1")))
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// Which events; what is absent, does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Else those of all tenants, and of none.
    pub tenant: Option<TenantId>,
    pub session: Option<SessionId>,
    pub config: Option<ProviderConfigId>,
    pub provider: Option<ProviderKind>,
    pub state: Option<WebhookState>,
    pub event_type: Option<String>,
    /// Inclusive.
    pub received_after: Option<DateTime<Utc>>,
    /// Exclusive.
    pub received_before: Option<DateTime<Utc>>,
}

/// Up to `limit` events beside `from`, newest first, or oldest first where `ascending`.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    filter: &Filter,
    from: Option<WebhookEventId>,
    ascending: bool,
    limit: i64,
) -> sqlx::Result<Vec<WebhookEvent>> {
    let (beside, order) = if ascending { (">", "asc") } else { ("<", "desc") };
    let of_tenant = if filter.tenant.is_some() { "tenant_id = $1" } else { "$1::uuid is null" };
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from webhook_events \
         where {of_tenant} and ($2::uuid is null or id {beside} $2) \
         and ($3::uuid is null or session_id = $3) and ($4::uuid is null or provider_config_id = $4) \
         and ($5::text is null or provider = $5) and ($6::text is null or state = $6) \
         and ($7::text is null or event_type = $7) \
         and ($8::timestamptz is null or received_at >= $8) and ($9::timestamptz is null or received_at < $9) \
         order by id {order} limit $10"
    )))
    .bind(filter.tenant)
    .bind(from)
    .bind(filter.session)
    .bind(filter.config)
    .bind(filter.provider)
    .bind(filter.state)
    .bind(&filter.event_type)
    .bind(filter.received_after)
    .bind(filter.received_before)
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// It is to be processed again. `None` when there is no such event.
pub async fn reopen<'e>(executor: impl PgExecutor<'e>, id: WebhookEventId) -> sqlx::Result<Option<WebhookEvent>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update webhook_events set state = 'stored', note = null, processed_at = null where id = $1 returning {COLUMNS}"
    )))
    .bind(id)
    .fetch_optional(executor)
    .await
}

/// An event that has just come.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The provider's part of the webhook's URL.
    pub provider: &'static str,
    /// By whose secret it was verified, and whose that is; `None`: the environment's.
    pub config: Option<(ProviderConfigId, TenantId)>,
    /// The same for each delivery of the same event.
    pub key: String,
    pub event_type: String,
    /// By the provider's clock.
    pub occurred_at: DateTime<Utc>,
    /// Where it happened; may be a room that nobody knows.
    pub room: String,
    pub body: Value,
}

impl NewEvent {
    /// Whoever knows one configuration's secret cannot use up the keys of another one's events.
    fn stored_key(&self) -> Cow<'_, str> {
        match self.config {
            Some((config, _)) => Cow::Owned(format!("{config}/{}", self.key)),
            None => Cow::Borrowed(&self.key),
        }
    }
}

/// Keeps events, with the sessions they are about where the rooms are known. Returns the ids of those that were not known yet,
/// at their places in `events`; of two with the same key one is new.
pub async fn insert_all<'e>(
    executor: impl PgExecutor<'e>,
    events: &[&NewEvent],
) -> sqlx::Result<Vec<Option<WebhookEventId>>> {
    let ids: Vec<WebhookEventId> = events.iter().map(|_| WebhookEventId::new()).collect();
    let stored: HashSet<WebhookEventId> = sqlx::query_scalar(
        "insert into webhook_events (id, provider, event_key, event_type, occurred_at, body, session_id, tenant_id, \
             provider_config_id) \
         select e.id, e.provider, e.event_key, e.event_type, e.occurred_at, e.body, s.id, coalesce(s.tenant_id, e.tenant_id), \
             e.config_id \
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::jsonb[], $7::text[], $8::uuid[], \
                 $9::uuid[]) \
             as e (id, provider, event_key, event_type, occurred_at, body, room, config_id, tenant_id) \
             left join sessions s on s.room = e.room and s.provider_config_id is not distinct from e.config_id \
         order by e.provider, e.event_key \
         on conflict (provider, event_key) do nothing returning id",
    )
    .bind(&ids)
    .bind(events.iter().map(|event| event.provider).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.stored_key()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.event_type.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.occurred_at).collect::<Vec<_>>())
    .bind(events.iter().map(|event| &event.body).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.room.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.config.map(|(config, _)| config)).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.config.map(|(_, tenant)| tenant)).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?
    .into_iter()
    .collect();
    Ok(ids.into_iter().map(|id| stored.contains(&id).then_some(id)).collect())
}

/// It was applied to this session.
pub async fn mark_processed<'e>(
    executor: impl PgExecutor<'e>,
    id: WebhookEventId,
    session: &Session,
) -> sqlx::Result<()> {
    sqlx::query(
        "update webhook_events set state = 'processed', note = null, session_id = $2, tenant_id = $3, \
             processed_at = now() \
         where id = $1",
    )
    .bind(id)
    .bind(session.id)
    .bind(session.tenant_id)
    .execute(executor)
    .await?;
    Ok(())
}

/// It changes nothing, for this reason.
pub async fn mark_ignored<'e>(executor: impl PgExecutor<'e>, id: WebhookEventId, note: &str) -> sqlx::Result<()> {
    sqlx::query("update webhook_events set state = 'ignored', note = $2, processed_at = now() where id = $1")
        .bind(id)
        .bind(note)
        .execute(executor)
        .await?;
    Ok(())
}

/// Deletes up to `limit` events that were received longer than `age` ago and are dealt with.
pub async fn prune<'e>(executor: impl PgExecutor<'e>, age: Duration, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from webhook_events where id in ( \
             select id from webhook_events \
             where received_at < now() - make_interval(secs => $1) and state <> 'stored' \
             order by received_at limit $2)",
    )
    .bind(age.as_secs_f64())
    .bind(limit)
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}
