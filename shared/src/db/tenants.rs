//! Functions on the table `tenants`.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::domain::ids::TenantId;

const COLUMNS: &str = "id, slug, name, locale, timezone, join_opens_before_s, reminder_minutes, \
    heartbeat_interval_s, heartbeat_timeout_s, end_grace_s, attendance_rules, recording_retention_days, \
    personal_data_retention_days, version, created_at";

/// A row of `tenants`.
#[derive(Debug, Clone, FromRow)]
pub struct Tenant {
    pub id: TenantId,
    /// What the LMS puts into the token's `tenant` claim.
    pub slug: String,
    pub name: String,
    /// `tr` or `en`, for people who have set none.
    pub locale: String,
    /// IANA name, for people and sessions that have set none.
    pub timezone: String,
    /// Seconds before the planned start, from when on people may join.
    pub join_opens_before_s: i32,
    /// Reminder steps, in minutes before the start.
    pub reminder_minutes: Vec<i32>,
    pub heartbeat_interval_s: i32,
    /// A connection that is silent for longer than these seconds is closed at its last sighting.
    pub heartbeat_timeout_s: i32,
    pub end_grace_s: i32,
    /// `domain::attendance::Rules` as JSON, frozen into each session at its start.
    pub attendance_rules: serde_json::Value,
    /// Recordings are deleted after these days; `None` keeps them.
    pub recording_retention_days: Option<i32>,
    /// The people of a session are forgotten after these days; `None` keeps them.
    pub personal_data_retention_days: Option<i32>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
}

impl Tenant {
    /// The reminder steps as `domain::reminder` takes them.
    pub fn reminder_steps(&self) -> Vec<u32> {
        self.reminder_minutes.iter().filter_map(|minutes| u32::try_from(*minutes).ok()).collect()
    }
}

/// The tenant of this id.
pub async fn find<'e>(executor: impl PgExecutor<'e>, id: TenantId) -> sqlx::Result<Option<Tenant>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from tenants where id = $1")))
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// The tenant that a token names: by slug, or by id.
pub async fn find_by_claim<'e>(executor: impl PgExecutor<'e>, claim: &str) -> sqlx::Result<Option<Tenant>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from tenants where slug = $1 or id = $2")))
        .bind(claim)
        .bind(Uuid::try_parse(claim).ok())
        .fetch_optional(executor)
        .await
}

/// All of them, by slug.
pub async fn list<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<Vec<Tenant>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from tenants order by slug")))
        .fetch_all(executor)
        .await
}

/// The same row, locked until the transaction ends.
pub async fn lock<'e>(executor: impl PgExecutor<'e>, id: TenantId) -> sqlx::Result<Tenant> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from tenants where id = $1 for update")))
        .bind(id)
        .fetch_one(executor)
        .await
}

/// Writes all settings; id and slug stay.
pub async fn update<'e>(executor: impl PgExecutor<'e>, tenant: &Tenant) -> sqlx::Result<Tenant> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "update tenants set name = $2, locale = $3, timezone = $4, join_opens_before_s = $5, reminder_minutes = $6, \
             heartbeat_interval_s = $7, heartbeat_timeout_s = $8, end_grace_s = $9, attendance_rules = $10, \
             recording_retention_days = $11, personal_data_retention_days = $12, version = version + 1 \
         where id = $1 returning {COLUMNS}"
    )))
    .bind(tenant.id)
    .bind(&tenant.name)
    .bind(&tenant.locale)
    .bind(&tenant.timezone)
    .bind(tenant.join_opens_before_s)
    .bind(&tenant.reminder_minutes)
    .bind(tenant.heartbeat_interval_s)
    .bind(tenant.heartbeat_timeout_s)
    .bind(tenant.end_grace_s)
    .bind(&tenant.attendance_rules)
    .bind(tenant.recording_retention_days)
    .bind(tenant.personal_data_retention_days)
    .fetch_one(executor)
    .await
}

/// Makes a tenant; `None` where the slug is taken.
pub async fn add<'e>(
    executor: impl PgExecutor<'e>,
    (slug, name): (&str, &str),
    (locale, timezone): (&str, &str),
) -> sqlx::Result<Option<Tenant>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "insert into tenants (id, slug, name, locale, timezone) values ($1, $2, $3, $4, $5) \
         on conflict (slug) do nothing returning {COLUMNS}"
    )))
    .bind(TenantId::new())
    .bind(slug)
    .bind(name)
    .bind(locale)
    .bind(timezone)
    .fetch_optional(executor)
    .await
}

/// Makes a tenant with the defaults of the table; one of that slug stays as it is.
pub async fn insert<'e>(executor: impl PgExecutor<'e>, slug: &str, name: &str) -> sqlx::Result<TenantId> {
    sqlx::query_scalar(
        "insert into tenants (id, slug, name) values ($1, $2, $3) \
         on conflict (slug) do update set slug = excluded.slug returning id",
    )
    .bind(TenantId::new())
    .bind(slug)
    .bind(name)
    .fetch_one(executor)
    .await
}
