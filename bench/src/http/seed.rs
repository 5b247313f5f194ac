//! What lies in the database while the API is measured, written by SQL in bulk.

use shared::domain::ids::{SessionId, TenantId};
use sqlx::PgPool;
use uuid::Uuid;

/// People who are in classes, each on one connection.
pub const PEOPLE: usize = 5_000;
/// Classes that go on; the people are shared out among them.
pub const CLASSES: usize = 50;
/// People of the class whose report is read.
pub const REPORTED: usize = 5_000;
/// The same for the report that must not fill the memory.
pub const MANY_REPORTED: usize = 50_000;

/// What was written.
pub struct Seeded {
    pub school: TenantId,
    /// The tenant of many sessions.
    pub large: TenantId,
    pub classes: Vec<SessionId>,
    pub reported: SessionId,
    pub many_reported: SessionId,
}

/// A session as its columns are, but for what differs.
const SESSION: &str = "insert into sessions (id, tenant_id, kind, status, title, host_id, host_name, access, provider, room, \
    starts_at, ends_at, timezone, started_at, ended_at, finalized_at, created_by, attendance_rules) ";

/// Writes it; `sessions` are those of all tenants together, a tenth of them the large one's.
pub async fn all(pool: &PgPool, sessions: usize) -> sqlx::Result<Seeded> {
    // Nobody reads in the log who made ten million sessions; it would take as long as they do.
    sqlx::query("alter table sessions disable trigger audit").execute(pool).await?;
    let tenant = async |slug: &str| shared::db::tenants::insert(pool, slug, slug).await;
    let (school, small, large) = (tenant("school").await?, tenant("small").await?, tenant("large").await?);
    planned(pool, small, 10_000).await?;
    planned(pool, large, sessions / 10).await?;
    for n in 0..9 {
        planned(pool, tenant(&format!("other-{n}")).await?, sessions / 10).await?;
    }
    let mut classes = Vec::new();
    for n in 0..CLASSES {
        classes.push(session(pool, school, &format!("class-{n}"), false).await?);
    }
    for (n, class) in classes.iter().enumerate() {
        sqlx::query(
            "insert into participants (id, tenant_id, session_id, person_id, name, source, connection_key, joined_at, last_seen_at) \
             select gen_random_uuid(), $1, $2, 'p' || p, 'Person ' || p, 'heartbeat', gen_random_uuid()::text, now(), now() \
             from generate_series($3::int, $4::int, $5::int) as p",
        )
        .bind(school)
        .bind(class)
        .bind(i32::try_from(n).unwrap_or(0))
        .bind(i32::try_from(PEOPLE - 1).unwrap_or(0))
        .bind(i32::try_from(CLASSES).unwrap_or(1))
        .execute(pool)
        .await?;
    }
    let reported = attended(pool, school, "reported", REPORTED).await?;
    let many_reported = attended(pool, school, "many-reported", MANY_REPORTED).await?;
    sqlx::query("alter table sessions enable trigger audit").execute(pool).await?;
    sqlx::query("vacuum analyze").execute(pool).await?;
    sqlx::query("checkpoint").execute(pool).await?;
    Ok(Seeded { school, large, classes, reported, many_reported })
}

/// Sessions of a year, in steps so that no statement takes long.
async fn planned(pool: &PgPool, tenant: TenantId, count: usize) -> sqlx::Result<()> {
    const STEP: usize = 200_000;
    for first in (0..count).step_by(STEP) {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "{SESSION} select gen_random_uuid(), $1, 'scheduled', 'scheduled', 'Session ' || n, 'teacher-' || n % 500, 'Teacher', \
                 'invitees', 'jitsi', 's-' || replace(gen_random_uuid()::text, '-', ''), \
                 now() + n * interval '1 year' / $3, now() + n * interval '1 year' / $3 + interval '1 hour', 'Europe/Istanbul', \
                 null, null, null, 'lms', null \
             from generate_series($2::bigint, least($2 + {STEP}, $3) - 1) as n"
        )))
        .bind(tenant)
        .bind(i64::try_from(first).unwrap_or(0))
        .bind(i64::try_from(count).unwrap_or(1))
        .execute(pool)
        .await?;
    }
    Ok(())
}

async fn session(pool: &PgPool, tenant: TenantId, room: &str, over: bool) -> sqlx::Result<SessionId> {
    let (status, back) = if over { ("ended", "2 hours") } else { ("live", "10 minutes") };
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "{SESSION} values ($1, $2, 'scheduled', '{status}', $3, 'teacher', 'Teacher', 'tenant', 'jitsi', $3, \
             now() - interval '{back}', now() - interval '{back}' + interval '90 minutes', 'Europe/Istanbul', now() - interval '{back}', \
             case when '{status}' = 'ended' then now() - interval '30 minutes' end, \
             case when '{status}' = 'ended' then now() end, 'lms', '{{}}') returning id"
    )))
    .bind(Uuid::now_v7())
    .bind(tenant)
    .bind(room)
    .fetch_one(pool)
    .await
}

/// A class that is over, with so many people in its report.
async fn attended(pool: &PgPool, tenant: TenantId, room: &str, people: usize) -> sqlx::Result<SessionId> {
    let id = session(pool, tenant, room, true).await?;
    sqlx::query(
        "insert into attendance (session_id, tenant_id, person_id, invited, present_seconds, percent, status, first_join_at, last_leave_at, intervals) \
         select id, tenant_id, 'p' || p, true, 4000 + p % 1000, 80, 'present', started_at, ended_at, \
             jsonb_build_array(jsonb_build_object('start', started_at, 'end', ended_at, 'sources', jsonb_build_array('heartbeat', 'webhook'))) \
         from sessions, generate_series(1, $2::int) as p where id = $1",
    )
    .bind(id)
    .bind(i32::try_from(people).unwrap_or(0))
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into invitees (session_id, tenant_id, person_id, name, email) \
         select id, tenant_id, 'p' || p, 'Person ' || p, 'p' || p || '@school.example' from sessions, generate_series(1, $2::int) as p \
         where id = $1",
    )
    .bind(id)
    .bind(i32::try_from(people).unwrap_or(0))
    .execute(pool)
    .await?;
    Ok(id)
}
