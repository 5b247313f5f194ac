//! Lists of jobs, newest first. A page costs the same wherever it lies and whatever the ledger holds: an index gives the
//! candidates in the order of their ids, of which at most [`WINDOW`] are looked at per page.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use super::{JobDetail, JobLine, JobState, detail_columns, line_columns};
use crate::{
    domain::ids::{JobId, TenantId},
    jobs::Queue,
};

/// Rows that one page looks at, at most.
pub const WINDOW: i64 = 20_000;

/// Ids carry the time of the process that made them, `created_at` is the start of a transaction by the database's clock.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);

/// Which jobs; what is absent, does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub queue: Option<Queue>,
    pub kind: Option<String>,
    pub state: Option<JobState>,
    pub tenant_id: Option<TenantId>,
    /// Inclusive.
    pub created_after: Option<DateTime<Utc>>,
    /// Exclusive.
    pub created_before: Option<DateTime<Utc>>,
}

/// Which page.
#[derive(Debug, Clone, Copy)]
pub struct Keyset {
    /// The page begins beside this job.
    pub after: Option<JobId>,
    /// Oldest first, for going back.
    pub ascending: bool,
    pub limit: i64,
}

/// A page.
#[derive(Debug, Clone)]
pub struct Listed {
    pub jobs: Vec<JobLine>,
    /// Set where fewer than `limit` jobs were found among [`WINDOW`] candidates: there may be more beyond this id.
    pub resume: Option<JobId>,
}

/// One job.
pub async fn find(db: impl PgExecutor<'_>, id: JobId) -> sqlx::Result<Option<JobDetail>> {
    sqlx::query_as(concat!("select ", detail_columns!(), " from jobs where id = $1")).bind(id).fetch_optional(db).await
}

/// A page of the jobs that fit.
pub async fn list(pool: &PgPool, filter: &Filter, page: Keyset) -> sqlx::Result<Listed> {
    let source = Source::choose(pool, filter.state).await?;
    let mut query = QueryBuilder::new(concat!("select ", line_columns!(), " from ("));
    candidates(&mut query, "*", source, filter, page);
    query.push(format!(" limit {WINDOW}) as looked_at where true"));
    conditions(&mut query, filter);
    query.push(order(page)).push(" limit ").push_bind(page.limit);
    let jobs: Vec<JobLine> = query.build_query_as().fetch_all(pool).await?;
    if source == Source::Few || jobs.len() as i64 >= page.limit {
        return Ok(Listed { jobs, resume: None });
    }
    let mut query = QueryBuilder::new("");
    candidates(&mut query, "id", source, filter, page);
    query.push(format!(" offset {} limit 1", WINDOW - 1));
    let resume = query.build_query_scalar().fetch_optional(pool).await?;
    Ok(Listed { jobs, resume })
}

// Spelt out, because a parameter hides from the planner that a partial index fits; ordered as the index is, so that the
// planner takes it whatever it believes about the table.
const AVAILABLE: &str = "from jobs where state = 'available' order by queue, priority, run_at";
const RUNNING: &str = "from jobs where state = 'running' order by lease_until";

/// Where the candidates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// All rows of the state, sorted: there are no more than [`WINDOW`] of them.
    Few,
    /// An index of dead letters.
    Dead,
    /// The primary key.
    All,
}

impl Source {
    async fn choose(pool: &PgPool, state: Option<JobState>) -> sqlx::Result<Self> {
        let few = match state {
            Some(JobState::Dead) => return Ok(Self::Dead),
            Some(JobState::Available) => AVAILABLE,
            Some(JobState::Running) => RUNNING,
            Some(JobState::Done | JobState::Cancelled) | None => return Ok(Self::All),
        };
        let count = format!("select count(*) from (select {few} limit {WINDOW} + 1) as few");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(pool).await?;
        Ok(if count <= WINDOW { Self::Few } else { Self::All })
    }
}

fn candidates(query: &mut QueryBuilder<Postgres>, columns: &str, source: Source, filter: &Filter, page: Keyset) {
    query.push("select ").push(columns);
    match (source, filter.state) {
        (Source::Few, state) => {
            let few = if state == Some(JobState::Running) { RUNNING } else { AVAILABLE };
            query.push(format!(" from (select * {few} limit {WINDOW} + 1) as few where true"))
        }
        (Source::Dead, _) => match (&filter.kind, filter.queue) {
            (Some(kind), _) => query.push(" from jobs where state = 'dead' and kind = ").push_bind(kind.clone()),
            (None, Some(queue)) => query.push(" from jobs where state = 'dead' and queue = ").push_bind(queue.as_str()),
            (None, None) => query.push(" from jobs where state = 'dead'"),
        },
        (Source::All, _) => query.push(" from jobs where true"),
    };
    if let Some(after) = page.after {
        query.push(if page.ascending { " and id > " } else { " and id < " }).push_bind(after);
    }
    if let Some(from) = filter.created_after.and_then(|at| at.checked_sub_signed(CLOCKS_APART)) {
        query.push(" and id >= ").push_bind(first_id(from));
    }
    if let Some(to) = filter.created_before.and_then(|at| at.checked_add_signed(CLOCKS_APART)) {
        query.push(" and id < ").push_bind(first_id(to));
    }
    query.push(order(page));
}

fn conditions(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(queue) = filter.queue {
        query.push(" and queue = ").push_bind(queue.as_str());
    }
    if let Some(kind) = &filter.kind {
        query.push(" and kind = ").push_bind(kind.clone());
    }
    if let Some(state) = filter.state {
        query.push(" and state = ").push_bind(state.as_str());
    }
    if let Some(tenant) = filter.tenant_id {
        query.push(" and tenant_id = ").push_bind(tenant);
    }
    if let Some(from) = filter.created_after {
        query.push(" and created_at >= ").push_bind(from);
    }
    if let Some(to) = filter.created_before {
        query.push(" and created_at < ").push_bind(to);
    }
}

fn order(page: Keyset) -> &'static str {
    if page.ascending { " order by id" } else { " order by id desc" }
}

/// No UUIDv7 of this millisecond or later is smaller (RFC 9562 §5.7).
fn first_id(at: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_of_a_moment_lies_before_all_of_its_ids() {
        let id = Uuid::now_v7();
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        let at = DateTime::from_timestamp(seconds as i64, nanos).unwrap();
        assert!(first_id(at) < id && first_id(at + TimeDelta::milliseconds(1)) > id);
        assert_eq!(first_id(DateTime::<Utc>::MIN_UTC), Uuid::nil());
    }
}
