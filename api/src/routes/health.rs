//! For those who run the service: is it alive, is it ready, what does it count.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use shared::db::{MIGRATOR, participants, sessions};
use utoipa::ToSchema;

use crate::state::AppState;

/// Longest wait for a part that is asked whether it is there.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`, `degraded` (jobs are delivered late) or `down`.
    #[schema(example = "ready")]
    status: &'static str,
    #[schema(example = "up")]
    postgres: &'static str,
    /// Whether the database has the tables of this version.
    migrations: &'static str,
    #[schema(example = "up")]
    redis: &'static str,
}

/// The process runs.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, body = String)), security(()))]
pub async fn livez() -> &'static str {
    "ok\n"
}

/// The process can serve: Postgres answers and has this version's tables. Without Redis it is degraded:
/// jobs are stored, and delivered when Redis is back.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)), security(()),
)]
pub async fn readyz(State(state): State<AppState>) -> Response {
    let (migrations, redis) = tokio::join!(
        tokio::time::timeout(PATIENCE, migrated(&state)),
        tokio::time::timeout(PATIENCE, state.redis.ping()),
    );
    let redis = if matches!(redis, Ok(Ok(()))) { "up" } else { "down" };
    let (status, postgres, migrations) = match migrations {
        Ok(Ok(true)) if redis == "up" => ("ready", "up", "applied"),
        Ok(Ok(true)) => ("degraded", "up", "applied"),
        Ok(Ok(false)) => ("down", "up", "missing"),
        Ok(Err(_)) | Err(_) => ("down", "down", "unknown"),
    };
    let code = if status == "down" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(Readiness { status, postgres, migrations, redis })).into_response()
}

async fn migrated(state: &AppState) -> sqlx::Result<bool> {
    let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    sqlx::query_scalar("select exists (select from _sqlx_migrations where version = $1 and success)")
        .bind(newest)
        .fetch_one(&state.db)
        .await
}

/// What the process counts, as Prometheus text.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain")), security(()),
)]
pub async fn metrics(State(state): State<AppState>) -> Response {
    let counts = tokio::time::timeout(PATIENCE, async {
        let live = sessions::count_live(&state.db).await?;
        let people = participants::count_live(&state.db).await?;
        Ok::<_, sqlx::Error>((live, people))
    })
    .await;
    // Without the database the gauges keep their last value; everything else is still told.
    if let Ok(Ok((live, people))) = counts {
        metrics::gauge!("live_sessions_active_total").set(live as f64);
        metrics::gauge!("live_participants_total").set(people as f64);
    }
    metrics::gauge!("database_pool_connections").set(f64::from(state.db.size()));
    metrics::gauge!("database_pool_idle").set(state.db.num_idle() as f64);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (state.metrics)()).into_response()
}
