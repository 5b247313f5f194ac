//! An axum route that does nothing but judge the token, as the API does: what a request costs before anything is done for it.

use std::sync::Arc;

use api::auth::TokenJudge;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    routing::{get, post},
};
use tokio_util::sync::CancellationToken;

/// Serves at the API's address.
pub async fn run(config: api::Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let judge = Arc::new(TokenJudge::start(&config.auth)?);
    let router = Router::new().route("/", post(answer)).route("/readyz", get(async || "ready")).with_state(judge);
    let listener = tokio::net::TcpListener::bind(config.api_addr).await?;
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

async fn answer(State(judge): State<Arc<TokenJudge>>, headers: HeaderMap) -> Result<&'static str, StatusCode> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match judge.judge(header.unwrap_or_default()).await {
        Ok(_) => Ok("{}"),
        Err(_) => Err(StatusCode::UNAUTHORIZED),
    }
}
