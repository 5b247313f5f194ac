//! Functions on the table `attendance`: the report, computed by `domain::attendance` from the rows of `sightings` and
//! the heartbeat rows of `participants`.

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};

use super::{attendance_corrections, invitees, participants, sightings};
use crate::domain::{
    attendance::{self, Here, Invited, Row, Rules, Sighting, Span},
    ids::SessionId,
    session::Session,
};

/// The attendance of a session that has begun: up to its end, or up to `now` while it is live. The host is listed when
/// seen; only invitees can be absent. Empty for a session that has not begun.
///
/// The same function serves the live view and the stored report.
pub async fn compute(connection: &mut PgConnection, session: &Session, now: DateTime<Utc>) -> sqlx::Result<Vec<Row>> {
    let Some(span) = span(session, now) else { return Ok(Vec::new()) };
    let rules = rules(&mut *connection, session).await?;
    let sightings = load_sightings(&mut *connection, session, &rules).await?;
    let invitees = invitees::list(&mut *connection, session.id).await?;
    let corrections = attendance_corrections::load(&mut *connection, session.id).await?;
    let names: HashMap<String, String> = participants::names(&mut *connection, session.id).await?.into_iter().collect();

    let invited: Vec<Invited> = invitees
        .into_iter()
        .map(|i| Invited { person: i.person_id, name: i.name, email: i.email, excused: i.excused })
        .collect();
    let mut rows = attendance::report(span, &invited, &sightings, &corrections, &rules);
    for row in &mut rows {
        if row.person == session.host_id && !row.invited {
            row.invited = true;
            row.name = Some(session.host_name.clone());
            row.email.clone_from(&session.host_email);
        }
        if row.name.as_deref().is_none_or(str::is_empty) {
            row.name = names.get(&row.person).cloned();
        }
    }
    Ok(rows)
}

/// Who is in a live session now.
pub async fn present_now(
    connection: &mut PgConnection,
    session: &Session,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Here>> {
    let rules = rules(&mut *connection, session).await?;
    let sightings = load_sightings(&mut *connection, session, &rules).await?;
    Ok(attendance::present_now(&sightings, &rules, now))
}

/// From the session's start to its end, or to `now`; `None` before the start.
pub fn span(session: &Session, now: DateTime<Utc>) -> Option<Span> {
    let start = session.started_at?;
    Some(Span { start, end: session.ended_at.unwrap_or(now), over: session.ended_at.is_some() })
}

/// The rules frozen at the session's start; what is missing there is as by default.
pub async fn rules(connection: &mut PgConnection, session: &Session) -> sqlx::Result<Rules> {
    let tenants: Option<serde_json::Value> = sqlx::query_scalar(
        "select jsonb_build_object('heartbeat_timeout_seconds', heartbeat_timeout_s) || attendance_rules \
         from tenants where id = $1",
    )
    .bind(session.tenant_id)
    .fetch_optional(connection)
    .await?;
    let rules = session.attendance_rules.clone().or(tenants).unwrap_or_default();
    serde_json::from_value(rules).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}

/// What providers said, and what our own heartbeats prove.
pub async fn load_sightings(
    connection: &mut PgConnection,
    session: &Session,
    rules: &Rules,
) -> sqlx::Result<Vec<Sighting>> {
    let mut all = sightings::load(&mut *connection, session.id).await?;
    let stretches: Vec<Stretch> = sqlx::query_as(
        "select person_id, connection_key, joined_at, last_seen_at, left_at from participants \
         where session_id = $1 and source = 'heartbeat'",
    )
    .bind(session.id)
    .fetch_all(connection)
    .await?;
    for stretch in &stretches {
        all.extend(stretch.sightings(rules));
    }
    Ok(all)
}

/// A heartbeat row of `participants`: unbroken presence.
#[derive(FromRow)]
struct Stretch {
    person_id: String,
    connection_key: String,
    joined_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    left_at: Option<DateTime<Utc>>,
}

impl Stretch {
    /// To where the person left, unless nothing was heard for longer than the timeout before: then to the last
    /// heartbeat.
    fn sightings(&self, rules: &Rules) -> Vec<Sighting> {
        let last_seen = self.last_seen_at.max(self.joined_at);
        let left = self.left_at.filter(|left| *left - last_seen <= rules.heartbeat_timeout.max(Duration::zero()));
        let span = (self.joined_at, left.unwrap_or(last_seen).max(self.joined_at));
        Sighting::stretch(&self.person_id, &self.connection_key, span, self.left_at.is_some(), rules)
    }
}

/// Writes a session's report in place of the former one, in one statement.
pub async fn replace(connection: &mut PgConnection, session: &Session, rows: &[Row]) -> sqlx::Result<()> {
    let mut intervals = Vec::with_capacity(rows.len());
    let mut corrected = Vec::with_capacity(rows.len());
    for row in rows {
        intervals.push(serde_json::to_value(&row.intervals).map_err(|e| sqlx::Error::Encode(Box::new(e)))?);
        let json = row.corrected.as_ref().map(serde_json::to_value).transpose();
        corrected.push(json.map_err(|e| sqlx::Error::Encode(Box::new(e)))?);
    }
    sqlx::query(
        "with given as ( \
             select * from unnest($3::text[], $4::text[], $5::text[], $6::bool[], $7::timestamptz[], $8::timestamptz[], \
                 $9::bigint[], $10::float8[], $11::text[], $12::jsonb[], $13::int[], $14::jsonb[]) \
             as g (person_id, name, email, invited, first_join_at, last_leave_at, present_seconds, percent, status, \
                 intervals, connections, corrected)), \
         gone as ( \
             delete from attendance a where a.session_id = $1 \
             and not exists (select from given g where g.person_id = a.person_id)) \
         insert into attendance (session_id, tenant_id, person_id, name, email, invited, first_join_at, last_leave_at, \
             present_seconds, percent, status, intervals, connections, corrected) \
         select $1, $2, g.* from given g \
         on conflict (session_id, person_id) do update set name = excluded.name, email = excluded.email, \
             invited = excluded.invited, first_join_at = excluded.first_join_at, \
             last_leave_at = excluded.last_leave_at, present_seconds = excluded.present_seconds, \
             percent = excluded.percent, status = excluded.status, intervals = excluded.intervals, \
             connections = excluded.connections, corrected = excluded.corrected, computed_at = now()",
    )
    .bind(session.id)
    .bind(session.tenant_id)
    .bind(rows.iter().map(|r| r.person.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.name.as_deref().unwrap_or_default()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.email.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.invited).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.first_join).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.last_leave).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.present_seconds).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.percent).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.status.as_str()).collect::<Vec<_>>())
    .bind(intervals)
    .bind(rows.iter().map(|r| i32::try_from(r.connections).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(corrected)
    .execute(connection)
    .await?;
    Ok(())
}

/// Where a page of a stored report begins: behind this row.
#[derive(Debug, Clone)]
pub struct Behind {
    uninvited: bool,
    name: String,
    person: String,
}

impl Behind {
    pub fn row(row: &Row) -> Self {
        Self { uninvited: !row.invited, name: row.name.clone().unwrap_or_default(), person: row.person.clone() }
    }
}

/// Up to `limit` rows of a stored report: first those invited, by name, then the others; of one person alone where there is
/// one.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    person: Option<&str>,
    behind: Option<&Behind>,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    let rows: Vec<Stored> = sqlx::query_as(
        "select person_id, name, email, invited, first_join_at, last_leave_at, present_seconds, percent, status, \
             intervals, connections, corrected \
         from attendance where session_id = $1 and ($2::text is null or person_id = $2) \
           and ($3::bool is null or ((not invited), name, person_id) > ($3, $4, $5)) \
         order by (not invited), name, person_id limit $6",
    )
    .bind(session)
    .bind(person)
    .bind(behind.map(|row| row.uninvited))
    .bind(behind.map(|row| row.name.as_str()))
    .bind(behind.map(|row| row.person.as_str()))
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(Stored::into_row).collect()
}

/// The whole stored report.
pub async fn load(connection: &mut PgConnection, session: SessionId) -> sqlx::Result<Vec<Row>> {
    page(connection, session, None, None, i64::MAX).await
}

/// A row of `attendance`.
#[derive(FromRow)]
struct Stored {
    person_id: String,
    name: String,
    email: Option<String>,
    invited: bool,
    first_join_at: Option<DateTime<Utc>>,
    last_leave_at: Option<DateTime<Utc>>,
    present_seconds: i64,
    percent: f64,
    status: String,
    intervals: serde_json::Value,
    connections: i32,
    corrected: Option<serde_json::Value>,
}

impl Stored {
    fn into_row(self) -> sqlx::Result<Row> {
        Ok(Row {
            person: self.person_id,
            name: Some(self.name).filter(|name| !name.is_empty()),
            email: self.email,
            invited: self.invited,
            first_join: self.first_join_at,
            last_leave: self.last_leave_at,
            present_seconds: self.present_seconds,
            percent: self.percent,
            status: self.status.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
            intervals: serde_json::from_value(self.intervals).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
            connections: usize::try_from(self.connections).unwrap_or_default(),
            corrected: self
                .corrected
                .map(serde_json::from_value)
                .transpose()
                .map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
        })
    }
}

/// Holds an ended session's report until the end of the transaction, so that a late event and the computation do not
/// miss each other. `None` when the session has not ended.
pub async fn lock_report(connection: &mut PgConnection, session: SessionId) -> sqlx::Result<Option<()>> {
    let found: Option<i32> =
        sqlx::query_scalar("select 1 from sessions where id = $1 and status = 'ended' for no key update")
            .bind(session)
            .fetch_optional(connection)
            .await?;
    Ok(found.map(drop))
}

/// The report is written.
pub async fn mark_finalized<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<()> {
    sqlx::query("update sessions set finalized_at = now(), version = version + 1, updated_at = now() where id = $1")
        .bind(session)
        .execute(executor)
        .await?;
    Ok(())
}

/// A late event changes a report that was written. True when `FinalizeSession` has to be enqueued, in this transaction;
/// false when it has not run yet (or the session has not ended).
///
/// It waits for a computation that is under way: that one may have read the sightings before this transaction's.
pub async fn invalidate<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update sessions set finalized_at = null, version = version + 1, updated_at = now() \
         where id = $1 and status = 'ended' and finalized_at is not null",
    )
    .bind(session)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}
