//! Functions on the table `api_pauses`: calls of providers' APIs that all processes leave alone for a while.

use std::time::Duration;

use sqlx::PgExecutor;

/// How long to leave this call of this app alone; `None` when it may be made.
pub async fn find<'e>(executor: impl PgExecutor<'e>, app: &str, call: &str) -> sqlx::Result<Option<Duration>> {
    let seconds: Option<f64> = sqlx::query_scalar(
        "select extract(epoch from until - now())::float8 from api_pauses where app = $1 and call = $2 and until > now()",
    )
    .bind(app)
    .bind(call)
    .fetch_optional(executor)
    .await?;
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

/// The provider wants it left alone for so long; a longer pause stays.
pub async fn insert<'e>(executor: impl PgExecutor<'e>, app: &str, call: &str, wait: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "insert into api_pauses as p (app, call, until) values ($1, $2, now() + make_interval(secs => $3)) \
         on conflict (app, call) do update set until = greatest(p.until, excluded.until)",
    )
    .bind(app)
    .bind(call)
    .bind(wait.as_secs_f64())
    .execute(executor)
    .await?;
    Ok(())
}

/// Deletes those that are over. Returns how many there were.
pub async fn prune<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<u64> {
    let done = sqlx::query("delete from api_pauses where until < now()").execute(executor).await?;
    Ok(done.rows_affected())
}
