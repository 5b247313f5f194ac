//! The way of a mail from due to sent.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};

use crate::{
    domain::ids::{JobId, ReminderId, SessionId, TenantId},
    jobs::{Job, SendCancellation, SendInvitation, SendRecordingMissing, SendRecordingReady, SendReminder, SendUpdate},
    queue::Tx,
};

/// Turns up to `limit` due rows into jobs; how many there were. A row whose job of before still waits or runs is left
/// for the next round: that job may have seen the row as dropped. So is a reminder whose invitation is still on its way,
/// for some minutes: nobody is reminded of what they have not heard of, but better so than not at all.
pub async fn enqueue_due(tx: &mut Tx, limit: i64) -> sqlx::Result<usize> {
    let due: Vec<(TenantId, ReminderId, String)> = sqlx::query_as(
        "update reminders set state = 'queued' where id in ( \
             select r.id from reminders r where r.state = 'pending' and r.due_at <= now() \
             and not exists (select from jobs j where j.kind = 'send-' || r.mail and j.unique_key = r.id::text \
                 and j.state in ('available', 'running')) \
             and (r.mail <> 'reminder' or not exists (select from reminders i where i.session_id = r.session_id \
                 and i.person_id = r.person_id and i.mail = 'invitation' \
                 and i.state in ('pending', 'queued', 'sending') and i.due_at > now() - interval '5 minutes')) \
             order by r.due_at limit $1 for update skip locked) \
         returning tenant_id, id, mail",
    )
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    enqueue_mails(tx, &due, |reminder_id| SendInvitation { reminder_id }).await?;
    enqueue_mails(tx, &due, |reminder_id| SendReminder { reminder_id }).await?;
    enqueue_mails(tx, &due, |reminder_id| SendUpdate { reminder_id }).await?;
    enqueue_mails(tx, &due, |reminder_id| SendCancellation { reminder_id }).await?;
    enqueue_mails(tx, &due, |reminder_id| SendRecordingReady { reminder_id }).await?;
    enqueue_mails(tx, &due, |reminder_id| SendRecordingMissing { reminder_id }).await?;
    Ok(due.len())
}

/// The jobs for those rows whose mail is the job's: the job `send-x` sends the mail `x`.
async fn enqueue_mails<J: Job>(
    tx: &mut Tx,
    due: &[(TenantId, ReminderId, String)],
    job: impl Fn(ReminderId) -> J,
) -> sqlx::Result<()> {
    let mine = due.iter().filter(|(_, _, mail)| J::NAME.strip_prefix("send-") == Some(mail));
    let jobs: Vec<_> = mine.map(|(tenant, id, _)| (*tenant, job(*id))).collect();
    if !jobs.is_empty() {
        tx.enqueue_for_tenants(&jobs).await?;
    }
    Ok(())
}

/// All that is needed to decide on one mail and to write it.
#[derive(Debug, Clone, FromRow)]
pub struct DueMail {
    pub id: ReminderId,
    pub session_id: SessionId,
    pub person_id: String,
    /// `invitation`, `reminder`, `update`, `cancellation`, `recording-ready`, `recording-missing`.
    pub mail: String,
    pub due_at: DateTime<Utc>,
    pub name: String,
    /// `None` when the person is no longer on the list, or has no address.
    pub email: Option<String>,
    /// The person's, else the tenant's.
    pub locale: String,
    /// IANA name; the person's, else the tenant's.
    pub timezone: String,
    /// The mail tells this person alone that they are not invited any more.
    pub uninvited: bool,
    pub tenant_name: String,
    pub reminder_minutes: Vec<i32>,
    /// There is a recording that can be watched.
    pub recorded: bool,
    /// Another row says the same with newer facts, or is a later step that is due as well.
    pub superseded: bool,
}

/// A planned mail that somebody may begin to send, or has begun to; `None` when it was sent or dropped. `now` judges
/// which later step is due.
pub async fn find_due_mail<'e>(
    executor: impl PgExecutor<'e>,
    id: ReminderId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<DueMail>> {
    sqlx::query_as(
        "select r.id, r.session_id, r.person_id, r.mail, r.due_at, \
             coalesce(r.name, i.name, case when r.person_id = s.host_id then s.host_name end, '') as name, \
             nullif(coalesce(r.email, i.email, case when r.person_id = s.host_id then s.host_email end), '') as email, \
             coalesce(r.locale, i.locale, t.locale) as locale, \
             coalesce(r.timezone, i.timezone, t.timezone) as timezone, r.email is not null as uninvited, \
             t.name as tenant_name, t.reminder_minutes, \
             exists (select from recordings v where v.session_id = r.session_id and v.state in ('stored', 'published')) \
                 as recorded, \
             exists (select from reminders n where n.session_id = r.session_id and n.person_id = r.person_id \
                 and n.mail = r.mail and n.id <> r.id and n.state not in ('dropped', 'failed') \
                 and (n.sequence > r.sequence \
                     or (n.sequence = r.sequence and n.step < r.step and n.due_at <= $2))) as superseded \
         from reminders r join sessions s on s.id = r.session_id join tenants t on t.id = r.tenant_id \
         left join invitees i on i.session_id = r.session_id and i.person_id = r.person_id \
         where r.id = $1 and r.state in ('queued', 'sending')",
    )
    .bind(id)
    .bind(now)
    .fetch_optional(executor)
    .await
}

/// Begins to send: from here on a crash may have sent the mail. False when it was sent or dropped meanwhile, or when
/// `job` (id and fencing token) has lost its lease, so that another worker sends it.
pub async fn claim<'e>(executor: impl PgExecutor<'e>, id: ReminderId, job: (JobId, i64)) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update reminders set state = 'sending', claimed_at = now() \
         where id = $1 and state in ('queued', 'sending') \
           and exists (select from jobs where jobs.id = $2 and jobs.lease_token = $3 and jobs.state = 'running')",
    )
    .bind(id)
    .bind(job.0)
    .bind(job.1)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The mail server has taken it.
pub async fn mark_sent<'e>(executor: impl PgExecutor<'e>, id: ReminderId) -> sqlx::Result<()> {
    sqlx::query(
        "update reminders set state = 'sent', sent_at = now(), note = null where id = $1 and state = 'sending'",
    )
    .bind(id)
    .execute(executor)
    .await?;
    Ok(())
}

/// It no longer makes sense, for this reason.
pub async fn mark_dropped<'e>(executor: impl PgExecutor<'e>, id: ReminderId, note: &str) -> sqlx::Result<()> {
    sqlx::query("update reminders set state = 'dropped', note = $2 where id = $1 and state in ('queued', 'sending')")
        .bind(id)
        .bind(note)
        .execute(executor)
        .await?;
    Ok(())
}

/// It could not be sent and is given up.
pub async fn mark_failed<'e>(executor: impl PgExecutor<'e>, id: ReminderId, note: &str) -> sqlx::Result<()> {
    sqlx::query("update reminders set state = 'failed', note = $2 where id = $1 and state in ('queued', 'sending')")
        .bind(id)
        .bind(note.replace('\0', "\u{fffd}"))
        .execute(executor)
        .await?;
    Ok(())
}
