//! What the API says of itself.

use std::sync::{Arc, LazyLock};

use axum::{
    Json,
    extract::Path,
    http::header,
    response::{IntoResponse, Redirect, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_swagger_ui::{Config, serve};

use crate::{
    error::{Result, not_found},
    router::BASE,
};

/// Where things are.
#[derive(Debug, Serialize, ToSchema)]
pub struct Welcome {
    service: &'static str,
    version: &'static str,
    api: &'static str,
    docs: &'static str,
    openapi: &'static str,
    health: String,
}

/// Where things are.
#[utoipa::path(get, path = "/", tag = "operations", responses((status = 200, body = Welcome)), security(()))]
pub async fn welcome() -> Json<Welcome> {
    Json(Welcome {
        service: "live sessions",
        version: env!("CARGO_PKG_VERSION"),
        api: BASE,
        docs: "/docs/",
        openapi: "/openapi.json",
        health: format!("{BASE}/ops/"),
    })
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses((status = 200, body = serde_json::Value, content_type = "application/json")), security(()),
)]
pub async fn openapi() -> Response {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| crate::router::document().to_pretty_json().expect("the document is JSON"));
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// The document for people.
#[utoipa::path(
    get, path = "/docs", tag = "operations",
    responses((status = 308, description = "To /docs/")), security(()),
)]
pub async fn docs() -> Redirect {
    Redirect::permanent("/docs/")
}

/// The first page of the document for people.
#[utoipa::path(
    get, path = "/docs/", tag = "operations",
    responses((status = 200, body = String, content_type = "text/html")), security(()),
)]
pub async fn docs_page() -> Result<Response> {
    asset("index.html")
}

/// Scripts and styles of the document for people.
#[utoipa::path(
    get, path = "/docs/{*file}", tag = "operations",
    params(("file" = String, Path, description = "File")),
    responses((status = 200, body = String, content_type = "application/octet-stream")), security(()),
)]
pub async fn docs_file(Path(file): Path<String>) -> Result<Response> {
    asset(&file)
}

fn asset(file: &str) -> Result<Response> {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/openapi.json")));
    let found = serve(file, CONFIG.clone()).map_err(|e| anyhow::anyhow!("{e}"))?;
    let found = found.ok_or_else(|| not_found("file"))?;
    Ok(([(header::CONTENT_TYPE, found.content_type)], found.bytes.into_owned()).into_response())
}
