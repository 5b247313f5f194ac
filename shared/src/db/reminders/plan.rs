//! Which mails a session gets, and for whom.
//!
//! A row carries the session's sequence: a mail of the same kind with a higher one is another mail. So a moved session
//! reminds again, and who was told that they are not invited any more can be invited again.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::{
    db::tenants::Tenant,
    domain::{
        ids::{ReminderId, SessionId},
        reminder::due_steps,
        session::{Session, SessionStatus},
    },
};

/// SQL: whether a mail has told the person of the row `i` of the session, and none after it that they are not
/// invited any more. A cancellation that failed counts: its address takes no mails.
pub(super) const TOLD: &str = "exists ( \
    select from reminders r where r.session_id = i.session_id and r.person_id = i.person_id \
    and r.mail in ('invitation', 'reminder', 'update') and r.state in ('sending', 'sent') \
    and r.sequence >= coalesce(( \
        select max(c.sequence) from reminders c where c.session_id = i.session_id and c.person_id = i.person_id \
        and c.mail = 'cancellation' and c.state <> 'dropped'), 0))";

/// For whom mails are planned.
#[derive(Debug, Clone, Copy)]
pub enum People<'a> {
    /// Host and all invitees.
    All,
    /// These invitees.
    These(&'a [String]),
}

/// Plans the invitations (due at once) and reminders (`domain::reminder`) of a session for those who have
/// an address; the host is reminded, not invited. What was planned already stays; what was dropped is taken up again.
pub async fn plan_for_session(
    connection: &mut PgConnection,
    session: &Session,
    tenant: &Tenant,
    people: People<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let invited = reachable(connection, session.id, people).await?;
    let mut rows = Rows::default();
    if is_open(session) {
        for person in &invited {
            rows.push(person, "invitation", 0, session.sequence, now);
        }
    }
    plan_steps(&mut rows, session, tenant, people, &invited, now);
    rows.insert(connection, session).await
}

/// After the session was moved: what was planned for the old time is dropped, reminders are planned for
/// the new one.
pub async fn replan_steps(
    connection: &mut PgConnection,
    session: &Session,
    tenant: &Tenant,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    drop_pending(connection, session.id, &["reminder"], None, "the session was moved").await?;
    let invited = reachable(connection, session.id, People::All).await?;
    let mut rows = Rows::default();
    plan_steps(&mut rows, session, tenant, People::All, &invited, now);
    rows.insert(connection, session).await
}

/// Plans the mail that tells of the session's present sequence, for those invitees whom a mail about it
/// has reached or is just reaching; who has not been told anything yet reads the new state in the invitation.
pub async fn plan_update(connection: &mut PgConnection, session: &Session, now: DateTime<Utc>) -> sqlx::Result<()> {
    drop_pending(connection, session.id, &["update"], None, "a newer change follows").await?;
    plan_for_told(connection, session, "update", now).await
}

/// The session is called off: nothing else is sent, and who has been told of it is told that.
pub async fn plan_cancellation(
    connection: &mut PgConnection,
    session: &Session,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    drop_pending(connection, session.id, &["invitation", "reminder", "update"], None, "the session was cancelled")
        .await?;
    plan_for_told(connection, session, "cancellation", now).await
}

/// The recording is there: whoever was invited, and the host, hears of it, once for each session. What was to tell that there is
/// none goes.
pub async fn plan_recording_ready(
    connection: &mut PgConnection,
    session: &Session,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    drop_pending(connection, session.id, &["recording-missing"], None, "the recording has come").await?;
    let mut rows = Rows::default();
    let people = reachable(connection, session.id, People::All).await?;
    let host = (session.host_email.is_some() && !people.contains(&session.host_id)).then_some(&session.host_id);
    for person in people.iter().chain(host) {
        rows.push(person, "recording-ready", 0, 0, now);
    }
    rows.insert(connection, session).await
}

/// The recording never came, or could not be fetched: the host hears of it, once for each session.
pub async fn plan_recording_missing(
    connection: &mut PgConnection,
    session: &Session,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let mut rows = Rows::default();
    if session.host_email.is_some() {
        rows.push(&session.host_id, "recording-missing", 0, 0, now);
    }
    rows.insert(connection, session).await
}

/// Drops planned mails of these kinds that nobody has begun to send; for these people, or for all.
pub async fn drop_pending(
    connection: &mut PgConnection,
    session: SessionId,
    mails: &[&str],
    people: Option<&[String]>,
    note: &str,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update reminders set state = 'dropped', note = $4 \
         where session_id = $1 and mail = any($2) and ($3::text[] is null or person_id = any($3)) \
           and state in ('pending', 'queued')",
    )
    .bind(session)
    .bind(mails)
    .bind(people)
    .bind(note)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Whether a mail about the session has gone out, or is on its way.
pub async fn anybody_told(connection: &mut PgConnection, session: SessionId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from reminders where session_id = $1 and state in ('queued', 'sending', 'sent'))",
    )
    .bind(session)
    .fetch_one(connection)
    .await
}

async fn reachable(connection: &mut PgConnection, session: SessionId, people: People<'_>) -> sqlx::Result<Vec<String>> {
    let these = match people {
        People::All => None,
        People::These(people) => Some(people),
    };
    sqlx::query_scalar(
        "select person_id from invitees \
         where session_id = $1 and email <> '' and ($2::text[] is null or person_id = any($2)) order by person_id",
    )
    .bind(session)
    .bind(these)
    .fetch_all(connection)
    .await
}

/// Somebody may start a session long before its time: who is to come then is reminded all the same.
fn is_open(session: &Session) -> bool {
    matches!(session.status, SessionStatus::Scheduled | SessionStatus::Live)
}

fn plan_steps(
    rows: &mut Rows,
    session: &Session,
    tenant: &Tenant,
    people: People<'_>,
    invited: &[String],
    now: DateTime<Utc>,
) {
    if !is_open(session) {
        return;
    }
    let host = matches!(people, People::All) && session.host_email.is_some() && !invited.contains(&session.host_id);
    for (step, due_at) in due_steps(session.starts_at, &tenant.reminder_steps(), now) {
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        for person in invited.iter().chain(host.then_some(&session.host_id)) {
            rows.push(person, "reminder", step, session.sequence, due_at);
        }
    }
}

async fn plan_for_told(
    connection: &mut PgConnection,
    session: &Session,
    mail: &'static str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let told: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select i.person_id from invitees i where i.session_id = $1 and i.email <> '' and {TOLD} order by i.person_id"
    )))
    .bind(session.id)
    .fetch_all(&mut *connection)
    .await?;
    let mut rows = Rows::default();
    for person in &told {
        rows.push(person, mail, 0, session.sequence, now);
    }
    rows.insert(connection, session).await
}

/// Rows to be written in one statement.
#[derive(Default)]
struct Rows {
    ids: Vec<Uuid>,
    people: Vec<String>,
    mails: Vec<&'static str>,
    steps: Vec<i32>,
    sequences: Vec<i32>,
    due: Vec<DateTime<Utc>>,
}

impl Rows {
    fn push(&mut self, person: &str, mail: &'static str, step: i32, sequence: i32, due_at: DateTime<Utc>) {
        self.ids.push(ReminderId::new().0);
        self.people.push(person.to_owned());
        self.mails.push(mail);
        self.steps.push(step);
        self.sequences.push(sequence);
        self.due.push(due_at);
    }

    async fn insert(&self, connection: &mut PgConnection, session: &Session) -> sqlx::Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into reminders (id, tenant_id, session_id, person_id, mail, step, sequence, due_at) \
             select r.id, $1, $2, r.person_id, r.mail, r.step, r.sequence, r.due_at \
             from unnest($3::uuid[], $4::text[], $5::text[], $6::int[], $7::int[], $8::timestamptz[]) \
                 as r (id, person_id, mail, step, sequence, due_at) \
             on conflict (session_id, person_id, mail, step, sequence) do update \
                 set state = 'pending', due_at = excluded.due_at, note = null where reminders.state = 'dropped'",
        )
        .bind(session.tenant_id)
        .bind(session.id)
        .bind(&self.ids)
        .bind(&self.people)
        .bind(&self.mails)
        .bind(&self.steps)
        .bind(&self.sequences)
        .bind(&self.due)
        .execute(connection)
        .await?;
        Ok(())
    }
}
