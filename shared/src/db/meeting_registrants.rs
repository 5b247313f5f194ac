//! Functions on the table `meeting_registrants`: the links that a provider has made for people, sealed.

use sqlx::{FromRow, PgConnection, PgExecutor};

use crate::{
    domain::{
        ids::{MeetingId, TenantId},
        session::Session,
    },
    providers::Alias,
    secrets::Sealed,
};

#[derive(FromRow)]
struct SealedRow {
    key_id: String,
    ciphertext: Vec<u8>,
}

/// The person's link into this meeting.
pub async fn find_link<'e>(
    executor: impl PgExecutor<'e>,
    meeting: MeetingId,
    person: &str,
) -> sqlx::Result<Option<Sealed>> {
    let row: Option<SealedRow> =
        sqlx::query_as("select key_id, ciphertext from meeting_registrants where meeting_id = $1 and person_id = $2")
            .bind(meeting)
            .bind(person)
            .fetch_optional(executor)
            .await?;
    Ok(row.map(|row| Sealed { key_id: row.key_id, ciphertext: row.ciphertext }))
}

/// Keeps a link; the provider may have given the person another one than before.
pub async fn put<'e>(
    executor: impl PgExecutor<'e>,
    (tenant, meeting): (TenantId, MeetingId),
    person: &str,
    (registrant_id, link): (&str, &Sealed),
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into meeting_registrants (meeting_id, tenant_id, person_id, registrant_id, key_id, ciphertext) \
         values ($1, $2, $3, $4, $5, $6) \
         on conflict (meeting_id, person_id) do update set registrant_id = excluded.registrant_id, \
             key_id = excluded.key_id, ciphertext = excluded.ciphertext",
    )
    .bind(meeting)
    .bind(tenant)
    .bind(person)
    .bind(registrant_id)
    .bind(&link.key_id)
    .bind(&link.ciphertext)
    .execute(executor)
    .await?;
    Ok(())
}

/// Who of a session goes by one of these names, the first that is known. An address that several people have tells nobody.
pub async fn find_person(
    connection: &mut PgConnection,
    session: &Session,
    aliases: &[Alias],
) -> sqlx::Result<Option<String>> {
    for alias in aliases {
        let found: Option<String> = match alias {
            Alias::Host => Some(session.host_id.clone()),
            Alias::Registrant(id) => {
                sqlx::query_scalar(
                    "select r.person_id from meeting_registrants r join meetings m on m.id = r.meeting_id \
                     where m.session_id = $1 and r.registrant_id = $2 limit 1",
                )
                .bind(session.id)
                .bind(id)
                .fetch_optional(&mut *connection)
                .await?
            }
            Alias::Email(address) => {
                sqlx::query_scalar(
                    "with known as ( \
                         select person_id from invitees where session_id = $1 and lower(email) = $2 \
                         union select host_id from sessions where id = $1 and lower(host_email) = $2) \
                     select min(person_id) from known having count(*) = 1",
                )
                .bind(session.id)
                .bind(address)
                .fetch_optional(&mut *connection)
                .await?
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
