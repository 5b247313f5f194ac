//! Functions on the table `meetings`: what was made at a provider for a session.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor, types::Json};

use crate::{
    domain::{
        ids::{MeetingId, ProviderConfigId, SessionId, TenantId},
        provider::ProviderKind,
        session::Session,
    },
    providers::Meeting,
};

/// A row.
#[derive(Debug, Clone, FromRow)]
pub struct StoredMeeting {
    pub id: MeetingId,
    pub tenant_id: TenantId,
    pub session_id: SessionId,
    pub provider: ProviderKind,
    /// `None`: the environment's.
    pub provider_config_id: Option<ProviderConfigId>,
    /// Which of the configuration's servers has it, where there are several.
    pub server: Option<String>,
    /// What the provider calls it; `None` until it is made.
    pub external_id: Option<String>,
    /// `None` until it is made.
    pub details: Option<Json<Meeting>>,
    pub claimed_until: DateTime<Utc>,
    pub made_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// What became of the wish to make a session's meeting.
#[derive(Debug, Clone)]
pub enum Claim {
    /// It is there.
    Made(StoredMeeting),
    /// To be made by whoever asked, who then calls [`made`] or [`release`].
    Mine {
        meeting: StoredMeeting,
        /// Somebody has tried before, and may have died between the provider's answer and [`made`].
        tried_before: bool,
    },
    /// Somebody is just making it.
    Anothers,
}

const COLUMNS: &str = "id, tenant_id, session_id, provider, provider_config_id, server, external_id, details, claimed_until, \
     made_at, ended_at";

/// Claims the making of the session's meeting for so long. To be committed before the provider is asked.
pub async fn claim(connection: &mut PgConnection, session: &Session, lease: Duration) -> sqlx::Result<Claim> {
    let id = MeetingId::new();
    let mine: Option<StoredMeeting> = sqlx::query_as(AssertSqlSafe(format!(
        "insert into meetings as m (id, tenant_id, session_id, provider, provider_config_id, claimed_until) \
         values ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6)) \
         on conflict (session_id) where ended_at is null do update set claimed_until = excluded.claimed_until \
         where m.made_at is null and m.claimed_until <= clock_timestamp() returning {COLUMNS}"
    )))
    .bind(id)
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(session.provider)
    .bind(session.provider_config_id)
    .bind(lease.as_secs_f64())
    .fetch_optional(&mut *connection)
    .await?;
    match mine {
        Some(meeting) => Ok(Claim::Mine { tried_before: meeting.id != id, meeting }),
        None => match find_open(connection, session.id).await? {
            Some(meeting) if meeting.made_at.is_some() => Ok(Claim::Made(meeting)),
            _ => Ok(Claim::Anothers),
        },
    }
}

/// Chooses where a claimed meeting is to be made: where the fewest classes overlap with this one, the first of those. A choice
/// that was made before stays. Two at once choose one after the other.
pub async fn share_out(
    connection: &mut PgConnection,
    id: MeetingId,
    session: &Session,
    servers: &[String],
) -> sqlx::Result<Option<String>> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('share-out:' || $1::text, 0))")
        .bind(session.provider_config_id)
        .execute(&mut *connection)
        .await?;
    // A live class is as long as it takes.
    sqlx::query_scalar(
        "update meetings set server = coalesce(server, ( \
             select one.server from unnest($4::text[]) with ordinality as one (server, place) \
             order by (select count(*) from meetings m join sessions s on s.id = m.session_id \
                 where m.provider_config_id = $3 and m.server = one.server and m.ended_at is null and m.id <> $1 \
                   and s.status in ('scheduled', 'live') and s.starts_at < $6 \
                   and (s.ends_at > $5 or (s.status = 'live' and now() > $5))), place \
             limit 1)) \
         where id = $1 and session_id = $2 returning server",
    )
    .bind(id)
    .bind(session.id)
    .bind(session.provider_config_id)
    .bind(servers)
    .bind(session.starts_at)
    .bind(session.ends_at)
    .fetch_one(connection)
    .await
}

/// The session's meeting that is not over.
pub async fn find_open<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<Option<StoredMeeting>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from meetings where session_id = $1 and ended_at is null")))
        .bind(session)
        .fetch_optional(executor)
        .await
}

/// The session's last meeting, whether it is over or not.
pub async fn find_last<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<Option<StoredMeeting>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from meetings where session_id = $1 order by id desc limit 1"
    )))
    .bind(session)
    .fetch_optional(executor)
    .await
}

/// The session that this meeting was made for. Each configuration's meetings are its own: another tenant's may have the
/// same name.
pub async fn find_session<'e>(
    executor: impl PgExecutor<'e>,
    provider: ProviderKind,
    config: Option<ProviderConfigId>,
    external_id: &str,
) -> sqlx::Result<Option<SessionId>> {
    sqlx::query_scalar(
        "select session_id from meetings \
         where provider = $1 and external_id = $2 and provider_config_id is not distinct from $3 \
         order by id desc limit 1",
    )
    .bind(provider)
    .bind(external_id)
    .bind(config)
    .fetch_optional(executor)
    .await
}

/// Of meetings of the session that were made: those whose report of who was there has not been read.
pub async fn list_unreported<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
) -> sqlx::Result<Vec<StoredMeeting>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from meetings where session_id = $1 and made_at is not null and reported_at is null order by id"
    )))
    .bind(session)
    .fetch_all(executor)
    .await
}

/// The report of who was there was read.
pub async fn mark_reported<'e>(executor: impl PgExecutor<'e>, id: MeetingId) -> sqlx::Result<()> {
    sqlx::query("update meetings set reported_at = now() where id = $1").bind(id).execute(executor).await?;
    Ok(())
}

/// It was made; or, made before, is now like this.
pub async fn made<'e>(
    executor: impl PgExecutor<'e>,
    id: MeetingId,
    external_id: &str,
    details: &Meeting,
) -> sqlx::Result<()> {
    sqlx::query(
        "update meetings set made_at = coalesce(made_at, now()), external_id = $2, details = $3 \
         where id = $1 and ended_at is null and (external_id, details) is distinct from ($2, $3)",
    )
    .bind(id)
    .bind(external_id)
    .bind(Json(details))
    .execute(executor)
    .await?;
    Ok(())
}

/// It could not be made: somebody else may try at once.
pub async fn release<'e>(executor: impl PgExecutor<'e>, id: MeetingId) -> sqlx::Result<()> {
    sqlx::query("update meetings set claimed_until = clock_timestamp() where id = $1 and made_at is null")
        .bind(id)
        .execute(executor)
        .await?;
    Ok(())
}

/// The session's meeting of this name is over, if it is still the one that is joined.
pub async fn end_of<'e>(executor: impl PgExecutor<'e>, session: SessionId, external_id: &str) -> sqlx::Result<()> {
    sqlx::query("update meetings set ended_at = now() where session_id = $1 and external_id = $2 and ended_at is null")
        .bind(session)
        .bind(external_id)
        .execute(executor)
        .await?;
    Ok(())
}

/// It is over.
pub async fn end<'e>(executor: impl PgExecutor<'e>, id: MeetingId) -> sqlx::Result<()> {
    sqlx::query("update meetings set ended_at = now() where id = $1 and ended_at is null")
        .bind(id)
        .execute(executor)
        .await?;
    Ok(())
}
