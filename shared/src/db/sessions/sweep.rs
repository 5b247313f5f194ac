//! Sessions that nobody started or ended: one statement for all of them.

use sqlx::{AssertSqlSafe, PgExecutor};

use super::FROZEN_RULES;
use crate::{
    domain::ids::{SessionId, TenantId},
    jobs::EndMeeting,
};

/// A session that was swept.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Swept {
    pub tenant_id: TenantId,
    pub id: SessionId,
    #[sqlx(flatten)]
    meeting: EndMeeting,
    /// Whether its configuration's Jitsi takes commands; `None`: it is the environment's.
    takes_commands: Option<bool>,
}

/// Beside the columns of [`EndMeeting`].
const TAKES_COMMANDS: &str =
    "(select c.settings ? 'control_url' from provider_configs c where c.id = provider_config_id) as takes_commands";

impl Swept {
    /// As [`EndMeeting::of`]; whether the environment's Jitsi takes commands, the caller knows.
    pub fn end_meeting(&self, jitsi_takes_commands: bool) -> Option<EndMeeting> {
        let takes_commands = self.takes_commands.unwrap_or(jitsi_takes_commands);
        self.meeting.provider.ends_meetings(takes_commands).then(|| self.meeting.clone())
    }
}

/// Starts sessions that may be joined and whose host or co-host is in the room already: whoever came early to set it up
/// comes no second time. Returns the sessions that were started.
pub async fn start_attended<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<Vec<SessionId>> {
    sqlx::query_scalar(AssertSqlSafe(format!(
        "with due as ( \
             select s.id from sessions s join tenants t on t.id = s.tenant_id \
             where s.status = 'scheduled' and s.starts_at <= now() + make_interval(secs => t.join_opens_before_s) \
               and s.ends_at <= now() + interval '1 day' \
                   + make_interval(secs => (select max(join_opens_before_s) from tenants)) \
               and exists (select from participants p where p.session_id = s.id and p.left_at is null \
                   and p.source <> 'heartbeat' and p.role in ('host', 'co_host')) \
             order by s.ends_at limit $1 for no key update of s skip locked) \
         update sessions s set status = 'live', started_at = now(), attendance_rules = {FROZEN_RULES}, \
             version = s.version + 1, updated_at = now() \
         from due where s.id = due.id returning s.id"
    )))
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Ends live sessions that are past their planned end by the tenant's grace time and empty; at the moment the last
/// person left, so that the time after it does not count as missed. Where nobody came at all, at the planned end.
///
/// A connection that only the provider told us of may be open because its "left" was lost: four hours past the planned
/// end it is not believed any more. A forgotten browser tab sends heartbeats for ever: after twelve hours
/// the session ends whoever is there. Returns the sessions that were ended.
pub async fn end_overdue<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<Vec<Swept>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "with due as ( \
             select s.id, greatest(s.started_at, least(now(), coalesce( \
                 (select max(case when p.left_at is null and p.source = 'heartbeat' then now() \
                                  else coalesce(p.left_at, p.last_seen_at) end) \
                  from participants p where p.session_id = s.id), \
                 s.ends_at))) as at \
             from sessions s join tenants t on t.id = s.tenant_id \
             where s.status = 'live' and s.ends_at < now() - make_interval(secs => t.end_grace_s) \
               and s.started_at < now() - make_interval(secs => t.end_grace_s) \
               and (s.ends_at < now() - interval '12 hours' or not exists ( \
                   select from participants p where p.session_id = s.id \
                     and (p.left_at > now() - interval '2 minutes' or (p.left_at is null \
                         and (p.source = 'heartbeat' or s.ends_at > now() - interval '4 hours'))))) \
             order by s.ends_at limit $1 for no key update of s skip locked), \
         ended as ( \
             update sessions s set status = 'ended', ended_at = due.at, end_reason = 'overdue', \
                 version = s.version + 1, updated_at = now() \
             from due where s.id = due.id returning s.id, s.tenant_id, s.provider, s.provider_config_id, s.room, s.ended_at), \
         closed as ( \
             update participants p set left_at = greatest(p.joined_at, e.ended_at), left_reason = 'ended' \
             from ended e where p.session_id = e.id and p.left_at is null) \
         select tenant_id, id, provider, provider_config_id, room, {TAKES_COMMANDS} from ended",
    )))
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Cancels sessions that were planned, never started, and are past their end by the grace time. Nobody is told: whoever
/// waited knows. Mails that were still planned are dropped. Returns the sessions that were cancelled.
pub async fn cancel_abandoned<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<Vec<Swept>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "with due as ( \
             select s.id from sessions s join tenants t on t.id = s.tenant_id \
             where s.status = 'scheduled' and s.ends_at < now() - make_interval(secs => t.end_grace_s) \
             order by s.ends_at limit $1 for no key update of s skip locked), \
         cancelled as ( \
             update sessions s set status = 'cancelled', cancelled_at = now(), cancel_reason = 'abandoned', \
                 sequence = s.sequence + 1, version = s.version + 1, updated_at = now() \
             from due where s.id = due.id returning s.id, s.tenant_id, s.provider, s.provider_config_id, s.room), \
         dropped as ( \
             update reminders r set state = 'dropped', note = 'the session never started' \
             from cancelled c where r.session_id = c.id and r.state in ('pending', 'queued')) \
         select tenant_id, id, provider, provider_config_id, room, {TAKES_COMMANDS} from cancelled",
    )))
    .bind(limit)
    .fetch_all(executor)
    .await
}
