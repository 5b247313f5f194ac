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
    /// When the provider last told that it goes on.
    pub seen_at: Option<DateTime<Utc>>,
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
     made_at, seen_at, ended_at";

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

/// Claims for so long what is made anew: at another server than the one that has it, which is down. False when somebody
/// else is about it, or it is over.
pub async fn claim_move<'e>(executor: impl PgExecutor<'e>, id: MeetingId, lease: Duration) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update meetings set claimed_until = clock_timestamp() + make_interval(secs => $2) \
         where id = $1 and made_at is not null and ended_at is null and claimed_until <= clock_timestamp()",
    )
    .bind(id)
    .bind(lease.as_secs_f64())
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// It was made.
pub async fn made<'e>(executor: impl PgExecutor<'e>, id: MeetingId, made: &Meeting) -> sqlx::Result<()> {
    sqlx::query(
        "update meetings set made_at = now(), seen_at = now(), claimed_until = clock_timestamp(), external_id = $2, \
             server = coalesce($3, server), details = $4 \
         where id = $1 and made_at is null and ended_at is null",
    )
    .bind(id)
    .bind(made.external_id())
    .bind(made.server())
    .bind(Json(made))
    .execute(executor)
    .await?;
    Ok(())
}

/// Another one was made, or found, instead of this one, which is over. The caller holds the session (`sightings::lock_session`).
pub async fn replace(connection: &mut PgConnection, old: &StoredMeeting, made: &Meeting) -> sqlx::Result<MeetingId> {
    end(&mut *connection, old.id).await?;
    sqlx::query_scalar(
        "insert into meetings (id, tenant_id, session_id, provider, provider_config_id, claimed_until, made_at, seen_at, \
             external_id, server, details) \
         values ($1, $2, $3, $4, $5, clock_timestamp(), now(), now(), $6, $7, $8) \
         on conflict (session_id) where ended_at is null do update set claimed_until = clock_timestamp(), made_at = now(), \
             seen_at = now(), external_id = excluded.external_id, server = excluded.server, details = excluded.details returning id",
    )
    .bind(MeetingId::new())
    .bind(old.tenant_id)
    .bind(old.session_id)
    .bind(old.provider)
    .bind(old.provider_config_id)
    .bind(made.external_id())
    .bind(made.server())
    .bind(Json(made))
    .fetch_one(connection)
    .await
}

/// The provider has just told that it goes on.
pub async fn seen<'e>(executor: impl PgExecutor<'e>, id: MeetingId) -> sqlx::Result<()> {
    sqlx::query("update meetings set seen_at = now() where id = $1 and ended_at is null")
        .bind(id)
        .execute(executor)
        .await?;
    Ok(())
}

/// It could not be made, or moved: somebody else may try at once.
pub async fn release<'e>(executor: impl PgExecutor<'e>, id: MeetingId) -> sqlx::Result<()> {
    sqlx::query("update meetings set claimed_until = clock_timestamp() where id = $1 and ended_at is null")
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

/// The one of these names is over, if it is the session's. Whether the session has another one that is not.
pub async fn end_named(connection: &mut PgConnection, session: SessionId, external_id: &str) -> sqlx::Result<bool> {
    sqlx::query("update meetings set ended_at = now() where session_id = $1 and external_id = $2 and ended_at is null")
        .bind(session)
        .bind(external_id)
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("select exists (select from meetings where session_id = $1 and ended_at is null)")
        .bind(session)
        .fetch_one(connection)
        .await
}

/// Whose meeting it is that the provider calls so; it may be over.
pub async fn find_session<'e>(
    executor: impl PgExecutor<'e>,
    (provider, config): (ProviderKind, Option<ProviderConfigId>),
    external_id: &str,
) -> sqlx::Result<Option<SessionId>> {
    sqlx::query_scalar(
        "select session_id from meetings \
         where provider = $1 and external_id = $2 and provider_config_id is not distinct from $3 order by id desc limit 1",
    )
    .bind(provider)
    .bind(external_id)
    .bind(config)
    .fetch_optional(executor)
    .await
}

/// The servers that had a meeting of this room, and whether they have it now, as far as we know.
pub async fn list_servers<'e>(executor: impl PgExecutor<'e>, room: &str) -> sqlx::Result<Vec<(String, bool)>> {
    sqlx::query_as(
        "select coalesce(m.server, ''), bool_or(m.ended_at is null) from meetings m join sessions s on s.id = m.session_id \
         where s.room = $1 and m.made_at is not null group by 1 order by 1",
    )
    .bind(room)
    .fetch_all(executor)
    .await
}

/// The server that has the meeting of this room now, while its session is not over.
pub async fn find_server<'e>(executor: impl PgExecutor<'e>, room: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "select coalesce(m.server, '') from meetings m join sessions s on s.id = m.session_id \
         where s.room = $1 and s.status in ('scheduled', 'live') and m.ended_at is null and m.made_at is not null",
    )
    .bind(room)
    .fetch_optional(executor)
    .await
}

/// No meeting of this room at this server goes on.
pub async fn end_at<'e>(executor: impl PgExecutor<'e>, room: &str, server: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update meetings m set ended_at = now() from sessions s \
         where s.id = m.session_id and s.room = $1 and coalesce(m.server, '') = $2 and m.ended_at is null \
             and s.status not in ('scheduled', 'live')",
    )
    .bind(room)
    .bind(server)
    .execute(executor)
    .await?;
    Ok(())
}

/// Sessions whose meetings go on, as far as we know, at providers that can be asked.
pub async fn list_open<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<Vec<(TenantId, SessionId)>> {
    sqlx::query_as(
        "select m.tenant_id, m.session_id from meetings m join sessions s on s.id = m.session_id \
         where m.provider = 'bbb' and m.ended_at is null and m.made_at is not null and s.status in ('scheduled', 'live') \
         order by m.seen_at limit $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await
}
