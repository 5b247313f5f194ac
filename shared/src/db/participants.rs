//! Functions on the table `participants`: connections to sessions. All times of our own heartbeats are
//! the database's, so that hosts with wrong clocks do not bend the record.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::domain::{
    ids::{ParticipantId, SessionId, TenantId},
    person::Part,
};

/// A row of `participants`: one stretch of presence of one connection.
#[derive(Debug, Clone, FromRow)]
pub struct Participant {
    pub id: ParticipantId,
    pub session_id: SessionId,
    pub person_id: String,
    pub name: String,
    pub role: Part,
    pub source: String,
    pub connection_key: String,
    pub joined_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    pub left_at: Option<DateTime<Utc>>,
    pub left_reason: Option<String>,
}

const COLUMNS: &str = "id, session_id, person_id, name, role, source, connection_key, joined_at, last_seen_at, \
    left_at, left_reason";

/// The person behind our own connections.
#[derive(Debug, Clone, Copy)]
pub struct Presence<'a> {
    pub tenant: TenantId,
    pub session: SessionId,
    pub person: &'a str,
    /// Which connection; all of the person's when `None`.
    pub connection: Option<Uuid>,
    /// The tenant's heartbeat timeout, in seconds.
    pub timeout_s: i32,
}

impl Presence<'_> {
    fn key(&self) -> Option<String> {
        self.connection.map(|id| id.to_string())
    }
}

/// Opens a heartbeat connection for somebody who joins; returns its id.
pub async fn open(
    connection: &mut PgConnection,
    tenant: TenantId,
    session: SessionId,
    (person, name): (&str, &str),
    part: Part,
) -> sqlx::Result<Uuid> {
    let key = Uuid::now_v7();
    sqlx::query(
        "insert into participants (id, tenant_id, session_id, person_id, name, role, source, connection_key, \
             joined_at, last_seen_at) \
         values ($1, $2, $3, $4, $5, $6, 'heartbeat', $7, now(), now())",
    )
    .bind(ParticipantId::new())
    .bind(tenant)
    .bind(session)
    .bind(person)
    .bind(name)
    .bind(part)
    .bind(key.to_string())
    .execute(connection)
    .await?;
    Ok(key)
}

/// The same in one statement, for a session that is live and has no limit; `None` where it is not so (any more). Its end waits
/// for whoever comes in, and they for its end.
pub async fn open_in_live<'e>(
    executor: impl PgExecutor<'e>,
    (tenant, session, (person, name), part): (TenantId, SessionId, (&str, &str), Part),
) -> sqlx::Result<Option<Uuid>> {
    let key = Uuid::now_v7();
    let done = sqlx::query(
        "insert into participants (id, tenant_id, session_id, person_id, name, role, source, connection_key, \
             joined_at, last_seen_at) \
         select $1, s.tenant_id, s.id, $4, $5, $6, 'heartbeat', $7, now(), now() from ( \
             select id, tenant_id from sessions where id = $3 and tenant_id = $2 and status = 'live' \
             and max_participants is null for share) as s",
    )
    .bind(ParticipantId::new())
    .bind(tenant)
    .bind(session)
    .bind(person)
    .bind(name)
    .bind(part)
    .bind(key.to_string())
    .execute(executor)
    .await?;
    Ok((done.rows_affected() == 1).then_some(key))
}

/// The common heartbeat, in one statement: the open connection of a live session is seen now. False when
/// there is none that was seen within the timeout; then [`find_silent`] decides.
pub async fn beat<'e>(executor: impl PgExecutor<'e>, who: &Presence<'_>) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update participants p set last_seen_at = greatest(p.last_seen_at, now()) from sessions s \
         where s.id = p.session_id and s.status = 'live' and p.session_id = $1 and p.tenant_id = $2 \
           and p.person_id = $3 and p.source = 'heartbeat' and ($4::text is null or p.connection_key = $4) \
           and p.left_at is null and p.last_seen_at >= now() - make_interval(secs => $5)",
    )
    .bind(who.session)
    .bind(who.tenant)
    .bind(who.person)
    .bind(who.key())
    .bind(f64::from(who.timeout_s))
    .execute(executor)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// One of several heartbeats.
#[derive(Debug, Clone)]
pub struct Beat {
    tenant: TenantId,
    session: SessionId,
    person: String,
    connection: Option<String>,
    timeout_s: i32,
}

impl From<Presence<'_>> for Beat {
    fn from(who: Presence<'_>) -> Self {
        Self {
            tenant: who.tenant,
            session: who.session,
            person: who.person.to_owned(),
            connection: who.key(),
            timeout_s: who.timeout_s,
        }
    }
}

/// The same as [`beat`] for many at once. Returns the places in `beats` of those that a connection took. It waits for
/// nobody, so that it cannot stand in anybody's way: a connection that somebody else is changing is passed over.
pub async fn beat_all<'e>(executor: impl PgExecutor<'e>, beats: &[Beat]) -> sqlx::Result<HashSet<i32>> {
    // Two branches, each with an index of its own for all that it looks for.
    let taken: Vec<i32> = sqlx::query_scalar(
        "with given as ( \
             select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[]) with ordinality \
                 as g (session_id, tenant_id, person_id, connection_key, timeout_s, place)), \
         open as ( \
             select p.id, g.place, g.timeout_s from given g join participants p \
                 on p.session_id = g.session_id and p.source = 'heartbeat' and p.connection_key = g.connection_key \
                 and p.left_at is null and p.person_id = g.person_id and p.tenant_id = g.tenant_id \
             union all \
             select p.id, g.place, g.timeout_s from given g join participants p \
                 on p.session_id = g.session_id and p.person_id = g.person_id and p.left_at is null \
                 and p.source = 'heartbeat' and p.tenant_id = g.tenant_id \
             where g.connection_key is null), \
         held as ( \
             select p.id, o.place from open o join participants p on p.id = o.id \
                 join sessions s on s.id = p.session_id and s.status = 'live' \
             where p.left_at is null and p.last_seen_at >= now() - make_interval(secs => o.timeout_s) \
             for update of p skip locked), \
         beaten as ( \
             update participants p set last_seen_at = greatest(p.last_seen_at, now()) \
             from (select distinct id from held) as h where p.id = h.id) \
         select distinct place::int - 1 from held",
    )
    .bind(beats.iter().map(|beat| beat.session).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.tenant).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.person.as_str()).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.connection.as_deref()).collect::<Vec<_>>())
    .bind(beats.iter().map(|beat| beat.timeout_s).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    Ok(taken.into_iter().collect())
}

/// The connection of which a heartbeat may open a new stretch.
#[derive(Debug, Clone, FromRow)]
pub struct Silent {
    connection_key: String,
    name: String,
    role: Part,
}

/// The person's newest connection that they have not left themselves; `None` when there is none. The caller holds the
/// session's row.
pub async fn find_silent(connection: &mut PgConnection, who: &Presence<'_>) -> sqlx::Result<Option<Silent>> {
    sqlx::query_as(
        "select connection_key, name, role from ( \
             select distinct on (connection_key) connection_key, name, role, joined_at, left_reason \
             from participants \
             where session_id = $1 and person_id = $2 and source = 'heartbeat' \
               and ($3::text is null or connection_key = $3) \
             order by connection_key, joined_at desc, id desc) as newest \
         where left_reason is distinct from 'left' order by joined_at desc limit 1",
    )
    .bind(who.session)
    .bind(who.person)
    .bind(who.key())
    .fetch_optional(connection)
    .await
}

/// A heartbeat after silence: what was open is closed at its last sighting, and a new stretch begins, so
/// that the gap is not counted. The caller holds the session's row and has seen that it is live, and that there is a
/// place for the person.
pub async fn come_back(connection: &mut PgConnection, who: &Presence<'_>, silent: Silent) -> sqlx::Result<()> {
    sqlx::query(
        "update participants set left_at = last_seen_at, left_reason = 'stale' \
         where session_id = $1 and source = 'heartbeat' and connection_key = $2 and left_at is null \
           and last_seen_at < now() - make_interval(secs => $3)",
    )
    .bind(who.session)
    .bind(&silent.connection_key)
    .bind(f64::from(who.timeout_s))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into participants (id, tenant_id, session_id, person_id, name, role, source, connection_key, \
             joined_at, last_seen_at) \
         values ($1, $2, $3, $4, $5, $6, 'heartbeat', $7, now(), now()) \
         on conflict (session_id, source, connection_key) where left_at is null \
         do update set last_seen_at = greatest(participants.last_seen_at, excluded.last_seen_at)",
    )
    .bind(ParticipantId::new())
    .bind(who.tenant)
    .bind(who.session)
    .bind(who.person)
    .bind(silent.name)
    .bind(silent.role)
    .bind(silent.connection_key)
    .execute(connection)
    .await?;
    Ok(())
}

/// The person leaves, now, or at the last sighting where that is longer ago than the timeout. A connection that fell
/// silent before is left as well: no late heartbeat opens it again. Returns how many connections that changed.
pub async fn leave<'e>(executor: impl PgExecutor<'e>, who: &Presence<'_>) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update participants p set left_reason = 'left', \
             left_at = coalesce(left_at, case when last_seen_at >= now() - make_interval(secs => $5) \
                 then greatest(last_seen_at, now()) else last_seen_at end) \
         where session_id = $1 and tenant_id = $2 and person_id = $3 and source = 'heartbeat' \
           and ($4::text is null or connection_key = $4) \
           and (left_at is null or (left_reason = 'stale' and not exists ( \
               select from participants n where n.session_id = p.session_id and n.source = p.source \
                 and n.connection_key = p.connection_key and (n.joined_at, n.id) > (p.joined_at, p.id))))",
    )
    .bind(who.session)
    .bind(who.tenant)
    .bind(who.person)
    .bind(who.key())
    .bind(f64::from(who.timeout_s))
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// The session is over: all open connections end at `at`, or now, those silent for longer than the
/// timeout at their last sighting.
pub async fn close_all<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    timeout_s: i32,
    at: Option<DateTime<Utc>>,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "with closing as (select greatest(least(coalesce($3, now()), now()), s.started_at) as at \
             from sessions s where s.id = $1) \
         update participants p set \
             left_at = greatest(p.joined_at, case when p.source = 'heartbeat' \
                 and p.last_seen_at < closing.at - make_interval(secs => $2) then p.last_seen_at else closing.at end), \
             left_reason = case when p.source = 'heartbeat' \
                 and p.last_seen_at < closing.at - make_interval(secs => $2) then 'stale' else 'ended' end \
         from closing where p.session_id = $1 and p.left_at is null",
    )
    .bind(session)
    .bind(f64::from(timeout_s))
    .bind(at)
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// Closes heartbeat connections that have been silent for longer than their tenant's timeout, at their last
/// sighting. One statement: a heartbeat that comes at the same moment either is seen by it or finds the connection
/// closed. Returns how many there were.
pub async fn close_stale<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update participants p set left_at = p.last_seen_at, left_reason = 'stale' \
         from tenants t \
         where t.id = p.tenant_id and p.left_at is null and p.source = 'heartbeat' \
           and p.last_seen_at < now() - make_interval(secs => t.heartbeat_timeout_s) \
           and p.last_seen_at < now() - make_interval(secs => (select min(heartbeat_timeout_s) from tenants))",
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// Other people who are there now; the host takes no place.
pub async fn count_others<'e>(executor: impl PgExecutor<'e>, who: &Presence<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(distinct person_id) from participants \
         where session_id = $1 and person_id <> $2 and role <> 'host' and left_at is null \
           and (source <> 'heartbeat' or last_seen_at >= now() - make_interval(secs => $3))",
    )
    .bind(who.session)
    .bind(who.person)
    .bind(f64::from(who.timeout_s))
    .fetch_one(executor)
    .await
}

/// A page of connections by time of joining and id: those after (or, backwards, before) a row, nearest first.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    open_only: bool,
    after: Option<(DateTime<Utc>, Uuid)>,
    ascending: bool,
    limit: i64,
) -> sqlx::Result<Vec<Participant>> {
    let (sign, direction) = if ascending { (">", "asc") } else { ("<", "desc") };
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from participants where session_id = $1 and (not $2 or left_at is null) \
           and ($3::timestamptz is null or (joined_at, id) {sign} ($3, $4)) \
         order by joined_at {direction}, id {direction} limit $5"
    )))
    .bind(session)
    .bind(open_only)
    .bind(after.map(|(at, _)| at))
    .bind(after.map(|(_, id)| id))
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// The latest name under which each person was there.
pub async fn names<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select distinct on (person_id) person_id, name from participants \
         where session_id = $1 and name <> '' order by person_id, joined_at desc",
    )
    .bind(session)
    .fetch_all(executor)
    .await
}

/// People who are in live sessions now.
pub async fn count_live<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(distinct (p.session_id, p.person_id)) from participants p join sessions s on s.id = p.session_id \
         where s.status = 'live' and p.left_at is null",
    )
    .fetch_one(executor)
    .await
}
