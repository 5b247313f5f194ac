//! Functions on the table `invitees`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor};

use crate::domain::{
    ids::{SessionId, TenantId},
    person::Part,
};

/// What an invitee is in the session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum InviteeRole {
    #[default]
    Participant,
    CoHost,
}

impl From<InviteeRole> for Part {
    fn from(role: InviteeRole) -> Self {
        match role {
            InviteeRole::Participant => Self::Participant,
            InviteeRole::CoHost => Self::CoHost,
        }
    }
}

impl InviteeRole {
    pub fn as_str(self) -> &'static str {
        Part::from(self).as_str()
    }
}

/// A row of `invitees`.
#[derive(Debug, Clone, FromRow)]
pub struct Invitee {
    pub session_id: SessionId,
    /// The person's id in the LMS, the token's `sub`.
    pub person_id: String,
    pub name: String,
    pub email: Option<String>,
    pub locale: Option<String>,
    pub timezone: Option<String>,
    pub role: InviteeRole,
    /// Excused beforehand: absence does not count.
    pub excused: bool,
    pub created_at: DateTime<Utc>,
}

const COLUMNS: &str = "session_id, person_id, name, email, locale, timezone, role, excused, created_at";

/// One invitee, if the person is one.
pub async fn find<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    person: &str,
) -> sqlx::Result<Option<Invitee>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from invitees where session_id = $1 and person_id = $2")))
        .bind(session)
        .bind(person)
        .fetch_optional(executor)
        .await
}

/// All invitees, by person.
pub async fn list<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<Vec<Invitee>> {
    sqlx::query_as(AssertSqlSafe(format!("select {COLUMNS} from invitees where session_id = $1 order by person_id")))
        .bind(session)
        .fetch_all(executor)
        .await
}

/// A page of invitees: those after (or, backwards, before) a person, nearest first.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    after: Option<&str>,
    ascending: bool,
    limit: i64,
) -> sqlx::Result<Vec<Invitee>> {
    let (sign, direction) = if ascending { (">", "asc") } else { ("<", "desc") };
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from invitees where session_id = $1 and ($2::text is null or person_id {sign} $2) \
         order by person_id {direction} limit $3"
    )))
    .bind(session)
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// What replacing the list changed.
#[derive(Debug, Clone, Default)]
pub struct Replaced {
    /// Ids of people who are new on the list, or reachable by mail for the first time.
    pub added: Vec<String>,
    /// As they were on the list: nothing else knows their addresses any more.
    pub removed: Vec<Invitee>,
}

/// Makes `people` the whole list. Each person may be in it once. The caller holds the session's row, so that two replacements do not mix.
pub async fn replace(
    connection: &mut PgConnection,
    tenant: TenantId,
    session: SessionId,
    people: &[Invitee],
) -> sqlx::Result<Replaced> {
    let removed = sqlx::query_as(AssertSqlSafe(format!(
        "delete from invitees i where session_id = $1 \
         and not exists (select from unnest($2::text[]) as kept (id) where kept.id = i.person_id) returning {COLUMNS}"
    )))
    .bind(session)
    .bind(people.iter().map(|p| p.person_id.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let added = sqlx::query_scalar(
        "with given as ( \
             select * from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bool[]) \
                 as g (person_id, name, email, locale, timezone, role, excused)), \
         known as (select person_id, email from invitees where session_id = $1), \
         written as ( \
             insert into invitees (session_id, tenant_id, person_id, name, email, locale, timezone, role, excused) \
             select $1, $2, g.person_id, g.name, g.email, g.locale, g.timezone, g.role, g.excused from given g \
             on conflict (session_id, person_id) do update set name = excluded.name, email = excluded.email, \
                 locale = excluded.locale, timezone = excluded.timezone, role = excluded.role, \
                 excused = excluded.excused \
             where (invitees.name, invitees.email, invitees.locale, invitees.timezone, invitees.role, invitees.excused) \
                 is distinct from (excluded.name, excluded.email, excluded.locale, excluded.timezone, excluded.role, \
                     excluded.excused)) \
         select g.person_id from given g left join known k using (person_id) \
         where k.person_id is null or (k.email is null and g.email is not null)",
    )
    .bind(session)
    .bind(tenant)
    .bind(people.iter().map(|p| p.person_id.as_str()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.name.as_str()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.email.as_deref()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.locale.as_deref()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.timezone.as_deref()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.role.as_str()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.excused).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(Replaced { added, removed })
}
