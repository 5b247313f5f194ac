//! Functions on the table `sessions`: reading one, and its life. Each step of the life is guarded in
//! SQL by the state it starts from, so that two callers at once cannot both take it. Pages of sessions
//! are in [`list`](self::list).

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgExecutor};

use crate::db::invitees::InviteeRole;
use crate::domain::{
    ids::{SessionId, TenantId},
    session::{EndReason, Session},
};

mod list;
mod sweep;

pub use list::{Filter, Keyset, Viewer, list};
pub use sweep::{Swept, cancel_abandoned, end_overdue, start_attended};

const COLUMNS: &str = "id, tenant_id, kind, status, title, description, course_id, host_id, host_name, host_email, \
    access, provider, provider_config_id, room, starts_at, ends_at, timezone, max_participants, recording_enabled, started_at, ended_at, \
    end_reason, cancelled_at, cancel_reason, attendance_rules, finalized_at, sequence, version, created_by, \
    created_at, updated_at";

/// The tenant's rules as they are frozen at the start; its heartbeat timeout is one of them.
const FROZEN_RULES: &str = "(select t.attendance_rules || \
    jsonb_build_object('heartbeat_timeout_seconds', t.heartbeat_timeout_s) from tenants t where t.id = tenant_id)";

/// A session whatever its tenant, for jobs.
pub async fn find<'e>(executor: impl PgExecutor<'e>, id: SessionId) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from sessions where id = $1")))
        .bind(id)
        .fetch_optional(executor)
        .await
}

/// A session, and what somebody was invited as.
#[derive(Debug, FromRow)]
pub struct Invitation {
    #[sqlx(flatten)]
    pub session: Session,
    pub invited_as: Option<InviteeRole>,
}

/// A session of this tenant, with a person's invitation to it.
pub async fn find_in<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    id: SessionId,
    person: &str,
) -> sqlx::Result<Option<Invitation>> {
    invitation(executor, tenant, id, person, "").await
}

/// The same, with the session's row locked until the transaction ends.
pub async fn lock_in<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    id: SessionId,
    person: &str,
) -> sqlx::Result<Option<Invitation>> {
    invitation(executor, tenant, id, person, "for update").await
}

async fn invitation<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    id: SessionId,
    person: &str,
    lock: &str,
) -> sqlx::Result<Option<Invitation>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS}, (select i.role from invitees i where i.session_id = sessions.id and i.person_id = $3) as invited_as \
         from sessions where id = $1 and tenant_id = $2 {lock}"
    )))
    .bind(id)
    .bind(tenant)
    .bind(person)
    .fetch_optional(executor)
    .await
}

/// The session that meets in this room at a provider.
pub async fn find_by_room<'e>(executor: impl PgExecutor<'e>, room: &str) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from sessions where room = $1")))
        .bind(room)
        .fetch_optional(executor)
        .await
}

/// Writes a new session as it is given, except that a live one starts now, by the database's clock.
pub async fn insert<'e>(executor: impl PgExecutor<'e>, new: &Session) -> sqlx::Result<Session> {
    sqlx::query_as(AssertSqlSafe(format!(
        "insert into sessions (id, tenant_id, kind, status, title, description, course_id, host_id, host_name, \
             host_email, access, provider, room, starts_at, ends_at, timezone, max_participants, recording_enabled, \
             started_at, attendance_rules, created_by, provider_config_id) \
         select $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
             case when $4 = 'live' then now() end, \
             case when $4 = 'live' then attendance_rules \
                 || jsonb_build_object('heartbeat_timeout_seconds', heartbeat_timeout_s) end, $19, $20 \
         from tenants where id = $2 returning {COLUMNS}"
    )))
    .bind(new.id)
    .bind(new.tenant_id)
    .bind(new.kind)
    .bind(new.status)
    .bind(&new.title)
    .bind(&new.description)
    .bind(&new.course_id)
    .bind(&new.host_id)
    .bind(&new.host_name)
    .bind(&new.host_email)
    .bind(new.access)
    .bind(new.provider)
    .bind(&new.room)
    .bind(new.starts_at)
    .bind(new.ends_at)
    .bind(&new.timezone)
    .bind(new.max_participants)
    .bind(new.recording_enabled)
    .bind(&new.created_by)
    .bind(new.provider_config_id)
    .fetch_one(executor)
    .await
}

/// Writes what people may change of a session, if it still has the version of `session` and has not
/// ended. `None` when it was changed meanwhile.
pub async fn update<'e>(executor: impl PgExecutor<'e>, session: &Session) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update sessions set title = $3, description = $4, course_id = $5, host_id = $6, host_name = $7, \
             host_email = $8, access = $9, starts_at = $10, ends_at = $11, timezone = $12, max_participants = $13, \
             recording_enabled = $14, sequence = $15, version = version + 1, updated_at = now() \
         where id = $1 and version = $2 and status in ('scheduled', 'live') returning {COLUMNS}"
    )))
    .bind(session.id)
    .bind(session.version)
    .bind(&session.title)
    .bind(&session.description)
    .bind(&session.course_id)
    .bind(&session.host_id)
    .bind(&session.host_name)
    .bind(&session.host_email)
    .bind(session.access)
    .bind(session.starts_at)
    .bind(session.ends_at)
    .bind(&session.timezone)
    .bind(session.max_participants)
    .bind(session.recording_enabled)
    .bind(session.sequence)
    .fetch_optional(executor)
    .await
}

/// Raises the sequence: what is told from now on is newer than what was told before.
pub async fn raise_sequence<'e>(executor: impl PgExecutor<'e>, id: SessionId) -> sqlx::Result<Session> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update sessions set sequence = sequence + 1, version = version + 1, updated_at = now() where id = $1 \
         returning {COLUMNS}"
    )))
    .bind(id)
    .fetch_one(executor)
    .await
}

/// Something that belongs to the session was changed: its ETag is another one.
pub async fn raise_version<'e>(executor: impl PgExecutor<'e>, id: SessionId) -> sqlx::Result<i64> {
    sqlx::query_scalar("update sessions set version = version + 1, updated_at = now() where id = $1 returning version")
        .bind(id)
        .fetch_one(executor)
        .await
}

/// `scheduled → live`, now. `None` when it is not scheduled.
pub async fn start<'e>(executor: impl PgExecutor<'e>, id: SessionId) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update sessions set status = 'live', started_at = now(), attendance_rules = {FROZEN_RULES}, \
             version = version + 1, updated_at = now() \
         where id = $1 and status = 'scheduled' returning {COLUMNS}"
    )))
    .bind(id)
    .fetch_optional(executor)
    .await
}

/// A live session began when its provider saw the host come, if that was before we heard of it (by at most a day:
/// events that are older belong to something else).
pub async fn backdate_start<'e>(executor: impl PgExecutor<'e>, id: SessionId, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(
        "update sessions set started_at = $2, version = version + 1, updated_at = now() \
         where id = $1 and status = 'live' and started_at > $2 and $2 > started_at - interval '1 day'",
    )
    .bind(id)
    .bind(at)
    .execute(executor)
    .await?;
    Ok(())
}

/// `live → ended`, at `at`, or now. `None` when it is not live. The caller closes the open connections
/// (`participants::close_all`) and enqueues `FinalizeSession` in the same transaction.
pub async fn end<'e>(
    executor: impl PgExecutor<'e>,
    id: SessionId,
    reason: EndReason,
    at: Option<DateTime<Utc>>,
) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update sessions set status = 'ended', \
             ended_at = greatest(least(coalesce($3, now()), now()), started_at), end_reason = $2, \
             version = version + 1, updated_at = now() \
         where id = $1 and status = 'live' returning {COLUMNS}"
    )))
    .bind(id)
    .bind(reason)
    .bind(at)
    .fetch_optional(executor)
    .await
}

/// `scheduled → cancelled`. `None` when it is not scheduled.
pub async fn cancel<'e>(
    executor: impl PgExecutor<'e>,
    id: SessionId,
    reason: Option<&str>,
) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update sessions set status = 'cancelled', cancelled_at = now(), cancel_reason = $2, \
             sequence = sequence + 1, version = version + 1, updated_at = now() \
         where id = $1 and status = 'scheduled' returning {COLUMNS}"
    )))
    .bind(id)
    .bind(reason)
    .fetch_optional(executor)
    .await
}

/// Removes a session that has not started. False when it has.
pub async fn delete<'e>(executor: impl PgExecutor<'e>, id: SessionId) -> sqlx::Result<bool> {
    let done =
        sqlx::query("delete from sessions where id = $1 and status = 'scheduled'").bind(id).execute(executor).await?;
    Ok(done.rows_affected() == 1)
}

/// How many sessions are live.
pub async fn count_live<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from sessions where status = 'live'").fetch_one(executor).await
}
