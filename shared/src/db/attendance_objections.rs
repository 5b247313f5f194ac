//! Functions on the table `attendance_objections`: what people say against their own row.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::domain::{
    ids::{SessionId, TenantId},
    session::Session,
};

/// What became of an objection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ObjectionState {
    /// Nobody has answered yet.
    Open,
    /// The row was corrected.
    Upheld,
    Refused,
}

impl ObjectionState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Upheld => "upheld",
            Self::Refused => "refused",
        }
    }
}

/// A row of `attendance_objections`.
#[derive(Debug, Clone, FromRow)]
pub struct Objection {
    pub id: Uuid,
    pub person_id: String,
    pub reason: String,
    pub state: ObjectionState,
    pub made_at: DateTime<Utc>,
    pub answer: Option<String>,
    pub answered_by: Option<String>,
    pub answered_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, person_id, reason, state, made_at, answer, answered_by, answered_at";

/// The constraint that an objection violates while the person has an open one.
pub const ONE_OPEN: &str = "attendance_objections_open_key";

pub async fn insert<'e>(
    executor: impl PgExecutor<'e>,
    session: &Session,
    person: &str,
    reason: &str,
) -> sqlx::Result<Objection> {
    sqlx::query_as(AssertSqlSafe(format!(
        "insert into attendance_objections (id, tenant_id, session_id, person_id, reason) \
         values ($1, $2, $3, $4, $5) returning {COLUMNS}"
    )))
    .bind(Uuid::now_v7())
    .bind(session.tenant_id)
    .bind(session.id)
    .bind(person)
    .bind(reason)
    .fetch_one(executor)
    .await
}

/// Answers the person's open objection; `None` where there is none.
pub async fn answer<'e>(
    executor: impl PgExecutor<'e>,
    (tenant, session): (TenantId, SessionId),
    person: &str,
    state: ObjectionState,
    (answer, by): (&str, &str),
) -> sqlx::Result<Option<Objection>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "update attendance_objections set state = $4, answer = $5, answered_by = $6, answered_at = now() \
         where tenant_id = $1 and session_id = $2 and person_id = $3 and state = 'open' returning {COLUMNS}"
    )))
    .bind(tenant)
    .bind(session)
    .bind(person)
    .bind(state)
    .bind(answer)
    .bind(by)
    .fetch_optional(executor)
    .await
}

/// Which objections of a session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Only this person's.
    pub person: Option<&'a str>,
    pub state: Option<ObjectionState>,
}

/// A page of a session's objections, oldest first: those after (or, backwards, before) one, nearest first.
pub async fn page<'e>(
    executor: impl PgExecutor<'e>,
    session: SessionId,
    filter: Filter<'_>,
    after: Option<Uuid>,
    ascending: bool,
    limit: i64,
) -> sqlx::Result<Vec<Objection>> {
    let (sign, direction) = if ascending { (">", "asc") } else { ("<", "desc") };
    sqlx::query_as(AssertSqlSafe(format!(
        "select {COLUMNS} from attendance_objections where session_id = $1 \
           and ($2::text is null or person_id = $2) and ($3::text is null or state = $3) \
           and ($4::uuid is null or id {sign} $4) order by id {direction} limit $5"
    )))
    .bind(session)
    .bind(filter.person)
    .bind(filter.state)
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Each person's newest objection; of one person alone where there is one.
pub async fn newest(
    connection: &mut PgConnection,
    session: SessionId,
    person: Option<&str>,
) -> sqlx::Result<Vec<Objection>> {
    sqlx::query_as(AssertSqlSafe(format!(
        "select distinct on (person_id) {COLUMNS} from attendance_objections \
         where session_id = $1 and ($2::text is null or person_id = $2) order by person_id, id desc"
    )))
    .bind(session)
    .bind(person)
    .fetch_all(connection)
    .await
}
