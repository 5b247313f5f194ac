//! Mails that follow from a changed list of invitees.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::plan::{People, TOLD, drop_pending, plan_for_session};
use crate::{
    db::{
        invitees::{Invitee, Replaced},
        sessions,
        tenants::Tenant,
    },
    domain::{
        ids::{ReminderId, SessionId},
        session::Session,
    },
};

/// New people are invited. Nothing more is sent to those who were taken off the list, except that whoever was told of
/// the session is told that they are not invited any more; who comes back after that is invited again.
///
/// Such mails raise the session's sequence, so that calendars take them for newer than what they have (RFC 5546
/// §2.1.4). The caller holds the session's row; the host is left alone, who is not invited but holds it.
pub async fn follow_list(
    connection: &mut PgConnection,
    session: Session,
    tenant: &Tenant,
    replaced: &Replaced,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let gone: Vec<&Invitee> = replaced.removed.iter().filter(|person| person.person_id != session.host_id).collect();
    let ids: Vec<String> = gone.iter().map(|person| person.person_id.clone()).collect();
    let mails = ["invitation", "reminder", "update"];
    drop_pending(connection, session.id, &mails, Some(&ids), "no longer invited").await?;
    drop_pending(connection, session.id, &["cancellation"], Some(&replaced.added), "invited again").await?;
    let told = told_among(connection, session.id, &ids).await?;
    let session = match !told.is_empty() || any_called_off(connection, session.id, &replaced.added).await? {
        true => sessions::raise_sequence(&mut *connection, session.id).await?,
        false => session,
    };
    let gone = gone.into_iter().filter(|person| told.contains(&person.person_id));
    call_off(connection, &session, gone, now).await?;
    if replaced.added.is_empty() {
        return Ok(());
    }
    plan_for_session(connection, &session, tenant, People::These(&replaced.added), now).await
}

/// Those of `people` whom a mail has told of the session.
async fn told_among(
    connection: &mut PgConnection,
    session: SessionId,
    people: &[String],
) -> sqlx::Result<std::collections::HashSet<String>> {
    let told: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select i.person_id from (select $1::uuid as session_id, unnest($2::text[]) as person_id) as i where {TOLD}"
    )))
    .bind(session)
    .bind(people)
    .fetch_all(connection)
    .await?;
    Ok(told.into_iter().collect())
}

/// Whether one of `people` was told that they are not invited any more.
async fn any_called_off(connection: &mut PgConnection, session: SessionId, people: &[String]) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from reminders where session_id = $1 and person_id = any($2) \
             and mail = 'cancellation' and state in ('sending', 'sent'))",
    )
    .bind(session)
    .bind(people)
    .fetch_one(connection)
    .await
}

/// Plans the mail that tells these people alone; whoever has no address cannot be told.
async fn call_off(
    connection: &mut PgConnection,
    session: &Session,
    people: impl Iterator<Item = &Invitee>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let people: Vec<&Invitee> = people.filter(|p| p.email.as_ref().is_some_and(|email| !email.is_empty())).collect();
    if people.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into reminders (id, tenant_id, session_id, person_id, mail, sequence, due_at, \
             name, email, locale, timezone) \
         select p.id, $1, $2, p.person_id, 'cancellation', $3, $4, p.name, p.email, p.locale, p.timezone \
         from unnest($5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[]) \
             as p (id, person_id, name, email, locale, timezone)",
    )
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(session.sequence)
    .bind(now)
    .bind(people.iter().map(|_| ReminderId::new().0).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.person_id.as_str()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.name.as_str()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.email.as_deref()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.locale.as_deref()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.timezone.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
