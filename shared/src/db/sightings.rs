//! Functions on the table `sightings`: what providers said about people, and the rows of `participants` that follow
//! from it.
//!
//! Those rows are always computed from *all* sightings of a connection, never from the event at hand, so that any order
//! and repetition of events leads to the same rows. The end of a room says of everybody in it that they left; it
//! is kept as a sighting without a connection, because some of those people's events may arrive after it.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor};

use crate::domain::{
    attendance::{self, SightingKind, Source},
    ids::{SessionId, TenantId},
    session::Session,
};

/// `person_id` of the end of a room, and its `connection_key` where all connections end with it.
const WHOLE_ROOM: &str = "";

/// What is known of each connection ($1 is the session): its own sightings, and that it left when the room ended. Of a room
/// that has several lives, the end of one has as its key what the connections of that life begin with.
const TOLD: &str = "told as ( \
        select person_id, connection_key, source, kind, at, name, false as of_room from sightings \
        where session_id = $1 and person_id <> '' \
        union all \
        select c.person_id, c.connection_key, 'webhook', 'left', room.at, '', true \
        from (select person_id, connection_key, min(at) as first_at from sightings \
              where session_id = $1 and person_id <> '' and source in ('webhook', 'poll') \
              group by person_id, connection_key) as c \
        join sightings room on room.session_id = $1 and room.person_id = '' and room.at >= c.first_at \
            and starts_with(c.connection_key, room.connection_key))";

/// One thing that a provider said.
#[derive(Debug, Clone)]
pub struct NewSighting<'a> {
    pub connection: &'a str,
    /// `None` for somebody whom the provider does not name.
    pub person: Option<&'a str>,
    pub name: &'a str,
    pub kind: SightingKind,
    pub at: DateTime<Utc>,
}

/// Holds the session's row until the end of the transaction: shared, so that its status stays and events of other
/// connections go on, or alone, for what changes the status or many connections. It comes before any other lock, as
/// everywhere; a shared hold cannot be made an exclusive one later.
pub async fn lock_session(connection: &mut PgConnection, session: SessionId, alone: bool) -> sqlx::Result<()> {
    let statement = match alone {
        true => "select 1 from sessions where id = $1 for no key update",
        false => "select 1 from sessions where id = $1 for share",
    };
    sqlx::query(statement).bind(session).execute(connection).await?;
    Ok(())
}

/// Orders events of one connection one after the other, until the end of the transaction.
pub async fn lock_connection(connection: &mut PgConnection, session: SessionId, key: &str) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1 || ':' || $2, 0))")
        .bind(session.to_string())
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes what a webhook said; what is known already stays. Whether any of it was new.
pub async fn insert(connection: &mut PgConnection, session: &Session, new: &[NewSighting<'_>]) -> sqlx::Result<bool> {
    insert_from(connection, session, Source::Webhook, new).await
}

/// The same of another source.
pub async fn insert_from(
    connection: &mut PgConnection,
    session: &Session,
    source: Source,
    new: &[NewSighting<'_>],
) -> sqlx::Result<bool> {
    let people = new.iter().map(|s| s.person.map_or_else(|| format!("guest:{}", s.connection), str::to_owned));
    let done = sqlx::query(
        "insert into sightings (session_id, tenant_id, person_id, connection_key, source, kind, at, name) \
         select $1, $2, s.person_id, s.connection_key, $8, s.kind, s.at, s.name \
         from unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[]) \
             as s (person_id, connection_key, kind, at, name) \
         on conflict do nothing",
    )
    .bind(session.id)
    .bind(session.tenant_id)
    .bind(people.collect::<Vec<_>>())
    .bind(new.iter().map(|s| s.connection).collect::<Vec<_>>())
    .bind(new.iter().map(|s| kind_name(s.kind)).collect::<Vec<_>>())
    .bind(new.iter().map(|s| s.at).collect::<Vec<_>>())
    .bind(new.iter().map(|s| s.name).collect::<Vec<_>>())
    .bind(source.as_str())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The room was closed: everybody in it left. Whether that was new.
pub async fn insert_room_end(
    connection: &mut PgConnection,
    session: &Session,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    insert_end(connection, (session.id, session.tenant_id), WHOLE_ROOM, at).await
}

/// One life of the room is over: everybody left whose connection's name begins like this. Whether that was new.
pub async fn insert_life_end(
    connection: &mut PgConnection,
    session: &Session,
    connections: &str,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    insert_end(connection, (session.id, session.tenant_id), connections, at).await
}

/// The same for a life of which nobody told the end: at the last sign of it, or `seen_at` where that was later. The caller
/// holds [`lock_session`] alone.
pub async fn end_silent_life(
    connection: &mut PgConnection,
    (session, tenant): (SessionId, TenantId),
    connections: &str,
    seen_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    let at = sqlx::query_scalar(
        "select greatest($3, max(at)) from sightings where session_id = $1 and starts_with(connection_key, $2)",
    )
    .bind(session)
    .bind(connections)
    .bind(seen_at)
    .fetch_one(&mut *connection)
    .await?;
    insert_end(connection, (session, tenant), connections, at).await?;
    derive_participants(connection, session, None).await
}

async fn insert_end(
    connection: &mut PgConnection,
    (session, tenant): (SessionId, TenantId),
    connections: &str,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into sightings (session_id, tenant_id, person_id, connection_key, source, kind, at) \
         values ($1, $2, $3, $4, 'webhook', 'left', $5) on conflict do nothing",
    )
    .bind(session)
    .bind(tenant)
    .bind(WHOLE_ROOM)
    .bind(connections)
    .bind(at)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Writes the `participants` rows that follow from the sightings of these connections, or of all. The caller holds
/// [`lock_connection`], or [`lock_session`] alone. They left when they were first said to have left after their last sign
/// of life; in a session that has ended nobody stays open.
pub async fn derive_participants(
    connection: &mut PgConnection,
    session: SessionId,
    only: Option<&str>,
) -> sqlx::Result<()> {
    // Some events of a connection name its person, others may not: one that does speaks for all.
    sqlx::query(
        "update sightings s set person_id = named.person_id from ( \
             select connection_key, max(person_id) as person_id from sightings \
             where session_id = $1 and person_id not like 'guest:%' and person_id <> '' \
               and ($2::text is null or connection_key = $2) group by connection_key) as named \
         where s.session_id = $1 and s.connection_key = named.connection_key and s.person_id like 'guest:%'",
    )
    .bind(session)
    .bind(only)
    .execute(&mut *connection)
    .await?;
    sqlx::query(AssertSqlSafe(format!(
        "with {TOLD}, mine as (select * from told where $2::text is null or connection_key = $2), \
         summed as ( \
             select connection_key, max(person_id) as person_id, max(name) as name, min(at) as joined_at, \
                 max(at) filter (where kind <> 'left') as last_here_at \
             from mine group by connection_key), \
         gone as ( \
             select m.connection_key, min(t.at) as left_at \
             from summed m join mine t on t.connection_key = m.connection_key and t.kind = 'left' \
                 and (m.last_here_at is null or t.at >= m.last_here_at) group by m.connection_key), \
         derived as ( \
             select m.*, s.id as session_id, s.tenant_id, \
                 coalesce(g.left_at, m.last_here_at) as last_seen_at, \
                 case when g.left_at is not null then g.left_at \
                      when s.ended_at is not null then greatest(s.ended_at, m.joined_at) end as left_at, \
                 case when g.left_at is not null then 'left' when s.ended_at is not null then 'ended' end \
                     as left_reason, \
                 case when m.person_id = s.host_id then 'host' else coalesce(i.role, 'participant') end as role \
             from summed m join sessions s on s.id = $1 left join gone g on g.connection_key = m.connection_key \
             left join invitees i on i.session_id = s.id and i.person_id = m.person_id), \
         known as ( \
             update participants p set person_id = d.person_id, name = d.name, role = d.role, joined_at = d.joined_at, \
                 last_seen_at = d.last_seen_at, left_at = d.left_at, left_reason = d.left_reason \
             from derived d where p.session_id = $1 and p.source = 'webhook' and p.connection_key = d.connection_key \
             returning p.connection_key) \
         insert into participants (id, tenant_id, session_id, person_id, name, role, source, connection_key, joined_at, \
             last_seen_at, left_at, left_reason) \
         select gen_random_uuid(), d.tenant_id, d.session_id, d.person_id, d.name, d.role, 'webhook', d.connection_key, \
             d.joined_at, d.last_seen_at, d.left_at, d.left_reason \
         from derived d where not exists (select from known k where k.connection_key = d.connection_key)"
    )))
    .bind(session)
    .bind(only)
    .execute(connection)
    .await?;
    Ok(())
}

/// Who is in one life of the room, as far as we know: connection and person.
pub async fn list_present<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    connections: &str,
) -> sqlx::Result<Vec<Present>> {
    sqlx::query_as(
        "select connection_key, person_id, joined_at from participants \
         where session_id = $1 and source = 'webhook' and left_at is null and starts_with(connection_key, $2)",
    )
    .bind(session)
    .bind(connections)
    .fetch_all(executor)
    .await
}

/// See [`list_present`].
#[derive(Debug, Clone, FromRow)]
pub struct Present {
    pub connection_key: String,
    pub person_id: String,
    pub joined_at: DateTime<Utc>,
}

/// Whether the provider saw anybody come after this time.
pub async fn anybody_joined_after<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from sightings where session_id = $1 and kind = 'joined' and at > $2)")
        .bind(session)
        .bind(at)
        .fetch_one(executor)
        .await
}

#[derive(FromRow)]
struct ToldRow {
    person_id: String,
    connection_key: String,
    source: String,
    kind: String,
    at: DateTime<Utc>,
}

/// All that providers said about people in a session, in the shape of `domain::attendance`.
pub async fn load<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<Vec<attendance::Sighting>> {
    let rows: Vec<ToldRow> = sqlx::query_as(AssertSqlSafe(format!(
        "with {TOLD} select person_id, connection_key, source, case when of_room then 'ended' else kind end as kind, at from told"
    )))
    .bind(session)
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(ToldRow::into_sighting).collect()
}

impl ToldRow {
    fn into_sighting(self) -> sqlx::Result<attendance::Sighting> {
        let source: Source = self.source.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
        let kind = [SightingKind::Joined, SightingKind::Seen, SightingKind::Left, SightingKind::Ended]
            .into_iter()
            .find(|kind| kind_name(*kind) == self.kind)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown kind of sighting {:?}", self.kind).into()))?;
        Ok(attendance::Sighting { person: self.person_id, connection: self.connection_key, source, kind, at: self.at })
    }
}

fn kind_name(kind: SightingKind) -> &'static str {
    match kind {
        SightingKind::Joined => "joined",
        SightingKind::Seen => "seen",
        SightingKind::Left => "left",
        // Never stored as such: see `WHOLE_ROOM`.
        SightingKind::Ended => "ended",
    }
}
