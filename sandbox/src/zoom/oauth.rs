//! Tokens: `grant_type=account_credentials`, the app's id and secret as basic authentication.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::{
    Form, Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Server, pause};
use crate::process::lock;

#[derive(Deserialize)]
pub(super) struct Grant {
    #[serde(default)]
    grant_type: String,
    #[serde(default)]
    account_id: String,
}

pub(super) async fn give_token(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Form(grant): Form<Grant>,
) -> Response {
    let faults = lock(&server.faults).clone();
    let account = &server.account;
    let basic = BASE64_STANDARD.encode(format!("{}:{}", account.client_id, account.client_secret));
    let known = headers.get(header::AUTHORIZATION).is_some_and(|value| *value == format!("Basic {basic}"));
    let about = faults.about("token");
    let (status, answer) = if let Some(status) = faults.status.filter(|_| about) {
        (status, Value::Null)
    } else if super::api::limited(&server, "token") {
        (429, json!({"code": 429, "message": "You have reached the maximum per-second rate limit for this API."}))
    } else if !known {
        (401, json!({"reason": "Invalid client_id or client_secret", "error": "invalid_client"}))
    } else if grant.grant_type != "account_credentials" {
        (400, json!({"reason": "unsupported grant type", "error": "unsupported_grant_type"}))
    } else if grant.account_id != account.account_id {
        (400, json!({"reason": "Bad Request", "error": "invalid_request"}))
    } else {
        let seconds = faults.token_seconds.unwrap_or(3_600);
        let token = format!("eyJzdiI6IjAwMDAwMSJ9.{}", hex::encode(rand::random::<[u8; 24]>()));
        lock(&server.world).tokens.insert(token.clone(), Instant::now() + Duration::from_secs(seconds));
        (
            200,
            json!({
                "access_token": token, "token_type": "bearer", "expires_in": seconds.saturating_sub(1),
                "scope": "meeting:write:admin recording:read:admin report:read:admin user:read:admin",
                "api_url": server.url(),
            }),
        )
    };
    server.note("token", "/oauth/token", status, &json!({"account_id": grant.account_id}));
    if about {
        pause(faults.delay_ms).await;
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    match answer {
        Value::Null => (status, Html("<html><body>Bad Gateway</body></html>")).into_response(),
        answer => (status, Json(answer)).into_response(),
    }
}
