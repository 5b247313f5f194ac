//! Files of recordings, and the pages that links lead to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde_json::Value;

use super::Server;
use crate::{process::lock, random_bytes};

/// Of `random_bytes`: all files of one size are the same.
pub const SEED: u64 = 7;

/// Larger ones have no place in a test's memory.
const LARGEST: u64 = 256 * 1024 * 1024;

/// Lets in who has a download token or an access token, and sends them on to the host that has the files. Others see the
/// page for signing in, with status 200.
pub(super) async fn download(
    State(server): State<Arc<Server>>,
    Path(file): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = value.strip_prefix("Bearer ").unwrap_or_default();
    let known = {
        let world = lock(&server.world);
        world.download_tokens.iter().any(|known| known == token)
            || world.tokens.get(token).is_some_and(|until| Instant::now() < *until)
    };
    let status = if known { 302 } else { 200 };
    server.note("download", &format!("/rec/download/{file}"), status, &Value::Null);
    if !known {
        return Html("<html><body>Sign in to Zoom</body></html>").into_response();
    }
    // By another name, so by another host.
    let size = parameters.get("size").map_or("0", String::as_str);
    let location = format!("http://localhost:{}/rec/files/{file}?size={size}&signature=good", server.port);
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}

/// The other host: who shows it a token of Zoom's is refused, as stores are that know other ones.
pub(super) async fn serve(
    State(server): State<Arc<Server>>,
    Path(file): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let size = parameters.get("size").and_then(|size| size.parse().ok()).unwrap_or(0).min(LARGEST);
    let sent_token = headers.contains_key(header::AUTHORIZATION);
    let refused = sent_token || parameters.get("signature").is_none_or(|signature| signature != "good");
    let status = if refused { 400 } else { 200 };
    server.note("file", &format!("/rec/files/{file}"), status, &Value::from(sent_token));
    if refused {
        return (StatusCode::BAD_REQUEST, "only one way of authorisation is allowed").into_response();
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    random_bytes::fill(SEED, 0, &mut bytes);
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
}

/// Where a browser ends up.
pub(super) async fn page() -> Html<&'static str> {
    Html("<html><body>This would be the meeting.</body></html>")
}
