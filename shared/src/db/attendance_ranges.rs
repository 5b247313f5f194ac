//! Stored reports of many sessions: of a course, of a person, of a time. Each function reads a page; who asks sees their own
//! attendance, that of sessions which they hold, and administrators see all.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgExecutor};
use uuid::Uuid;

use crate::domain::ids::TenantId;

/// Which attendance.
#[derive(Debug, Clone)]
pub struct Range {
    pub tenant: TenantId,
    /// Sees what they attended, and everybody in sessions that they host, made or co-host; all of the tenant when `None`.
    pub viewer: Option<String>,
    pub course_id: Option<String>,
    pub person_id: Option<String>,
    /// Of sessions planned from here on, inclusive.
    pub starts_after: Option<DateTime<Utc>>,
    /// Up to here, exclusive.
    pub starts_before: Option<DateTime<Utc>>,
}

/// `$1` to `$6` are the fields of [`Range`].
const WITHIN: &str = "from sessions s join attendance a on a.session_id = s.id \
    where s.tenant_id = $1 and a.tenant_id = $1 and s.status = 'ended' and s.finalized_at is not null \
      and ($2::text is null or a.person_id = $2 or s.host_id = $2 or s.created_by = $2 \
          or exists (select from invitees i where i.session_id = s.id and i.person_id = $2 and i.role = 'co_host')) \
      and ($3::text is null or s.course_id = $3) and ($4::text is null or a.person_id = $4) \
      and ($5::timestamptz is null or s.starts_at >= $5) and ($6::timestamptz is null or s.starts_at < $6)";

/// What was counted, as columns.
const COUNTS: &str = "count(*) filter (where a.status = 'present') as present, \
    count(*) filter (where a.status = 'late') as late, \
    count(*) filter (where a.status = 'left_early') as left_early, \
    count(*) filter (where a.status = 'partial') as partial, \
    count(*) filter (where a.status = 'absent') as absent, \
    count(*) filter (where a.status = 'excused') as excused, \
    sum(a.present_seconds)::bigint as present_seconds, \
    (percentile_disc(0.5) within group (order by extract(epoch from a.first_join_at - s.started_at)) \
        filter (where a.first_join_at is not null))::bigint as median_delay_seconds";

macro_rules! bound {
    ($query:expr, $range:expr) => {
        $query
            .bind($range.tenant)
            .bind(&$range.viewer)
            .bind(&$range.course_id)
            .bind(&$range.person_id)
            .bind($range.starts_after)
            .bind($range.starts_before)
    };
}

/// One person in one session.
#[derive(Debug, Clone, FromRow)]
pub struct Attended {
    pub session_id: Uuid,
    pub title: String,
    pub course_id: Option<String>,
    pub starts_at: DateTime<Utc>,
    pub person_id: String,
    pub name: String,
    pub invited: bool,
    pub status: String,
    pub first_join_at: Option<DateTime<Utc>>,
    pub last_leave_at: Option<DateTime<Utc>>,
    pub present_seconds: i64,
    pub percent: f64,
    pub is_corrected: bool,
}

/// Up to `limit` rows by session and person, behind one: its planned start, session and person.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    range: &Range,
    behind: Option<&(DateTime<Utc>, Uuid, String)>,
    limit: i64,
) -> sqlx::Result<Vec<Attended>> {
    let query = format!(
        "select s.id as session_id, s.title, s.course_id, s.starts_at, a.person_id, a.name, a.invited, a.status, \
             a.first_join_at, a.last_leave_at, a.present_seconds, a.percent, a.corrected is not null as is_corrected \
         {WITHIN} and ($7::timestamptz is null or (s.starts_at, s.id, a.person_id) > ($7, $8, $9)) \
         order by s.starts_at, s.id, a.person_id limit $10"
    );
    bound!(sqlx::query_as(AssertSqlSafe(query)), range)
        .bind(behind.map(|(at, ..)| *at))
        .bind(behind.map(|(_, session, _)| *session))
        .bind(behind.map(|(.., person)| person.as_str()))
        .bind(limit)
        .fetch_all(executor)
        .await
}

/// How many times each verdict was given, and what else was counted.
#[derive(Debug, Clone, FromRow)]
pub struct Counts {
    pub present: i64,
    pub late: i64,
    pub left_early: i64,
    pub partial: i64,
    pub absent: i64,
    pub excused: i64,
    pub present_seconds: i64,
    /// Of first joins after the actual start, in seconds; `None` where nobody came.
    pub median_delay_seconds: Option<i64>,
}

/// One person over all sessions of a range.
#[derive(Debug, Clone, FromRow)]
pub struct OfPerson {
    pub person_id: String,
    pub name: String,
    pub sessions: i64,
    /// Mean of the sessions' percents, those where excused left out; `None` where there are no others.
    pub average_percent: Option<f64>,
    #[sqlx(flatten)]
    pub counts: Counts,
}

/// Up to `limit` people of a range by id, behind one.
pub async fn page_of_people<'e>(
    executor: impl PgExecutor<'e>,
    range: &Range,
    behind: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<OfPerson>> {
    let query = format!(
        "select a.person_id, max(a.name) as name, count(*) as sessions, {COUNTS}, \
             avg(a.percent) filter (where a.status <> 'excused') as average_percent \
         {WITHIN} and ($7::text is null or a.person_id > $7) group by a.person_id order by a.person_id limit $8"
    );
    bound!(sqlx::query_as(AssertSqlSafe(query)), range).bind(behind).bind(limit).fetch_all(executor).await
}

/// One session of a range.
#[derive(Debug, Clone, FromRow)]
pub struct OfSession {
    pub session_id: Uuid,
    pub title: String,
    pub course_id: Option<String>,
    pub starts_at: DateTime<Utc>,
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    pub people: i64,
    pub average_percent: Option<f64>,
    #[sqlx(flatten)]
    pub counts: Counts,
}

/// Up to `limit` sessions of a range by planned start, behind one.
pub async fn page_of_sessions<'e>(
    executor: impl PgExecutor<'e>,
    range: &Range,
    behind: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> sqlx::Result<Vec<OfSession>> {
    let query = format!(
        "select s.id as session_id, s.title, s.course_id, s.starts_at, s.started_at, s.ended_at, count(*) as people, \
             {COUNTS}, avg(a.percent) filter (where a.status <> 'excused') as average_percent \
         {WITHIN} and ($7::timestamptz is null or (s.starts_at, s.id) > ($7, $8)) \
         group by s.id order by s.starts_at, s.id limit $9"
    );
    bound!(sqlx::query_as(AssertSqlSafe(query)), range)
        .bind(behind.map(|(at, _)| at))
        .bind(behind.map(|(_, session)| session))
        .bind(limit)
        .fetch_all(executor)
        .await
}
