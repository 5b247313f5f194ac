//! Functions on the table `attendance_corrections`.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::domain::{
    attendance::{Correction, Status},
    ids::{SessionId, TenantId},
};

/// A correction before it is made.
#[derive(Debug, Clone)]
pub struct NewCorrection<'a> {
    pub tenant: TenantId,
    pub session: SessionId,
    pub person: &'a str,
    /// `None`: as computed.
    pub status: Option<Status>,
    pub present_seconds: Option<i64>,
    pub reason: &'a str,
    /// The caller's id.
    pub by: &'a str,
}

pub async fn insert<'e>(executor: impl PgExecutor<'e>, new: &NewCorrection<'_>) -> sqlx::Result<()> {
    sqlx::query(
        "insert into attendance_corrections (id, tenant_id, session_id, person_id, status, present_seconds, reason, made_by) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(Uuid::now_v7())
    .bind(new.tenant)
    .bind(new.session)
    .bind(new.person)
    .bind(new.status.map(Status::as_str))
    .bind(new.present_seconds)
    .bind(new.reason)
    .bind(new.by)
    .execute(executor)
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct Stored {
    person_id: String,
    status: Option<String>,
    present_seconds: Option<i64>,
    reason: String,
    made_by: String,
    made_at: DateTime<Utc>,
}

/// What counts: each person's newest correction, unless it took the earlier ones back.
pub async fn load<'e>(executor: impl PgExecutor<'e>, session: SessionId) -> sqlx::Result<Vec<Correction>> {
    let rows: Vec<Stored> = sqlx::query_as(
        "select person_id, status, present_seconds, reason, made_by, made_at from ( \
             select distinct on (person_id) * from attendance_corrections \
             where session_id = $1 order by person_id, made_at desc, id desc) as newest \
         where status is not null or present_seconds is not null",
    )
    .bind(session)
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            let status = row.status.map(|status| status.parse()).transpose();
            Ok(Correction {
                person: row.person_id,
                status: status.map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
                present_seconds: row.present_seconds,
                reason: row.reason,
                by: row.made_by,
                at: row.made_at,
            })
        })
        .collect()
}
