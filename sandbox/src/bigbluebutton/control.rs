//! What a test, or a person, has the stand-in do: over HTTP, beside the API, without any secret. `docs/PROVIDERS.md` lists it.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post, put},
};
use serde_json::{Value, json};

use super::{Call, Delivery, Faults, Hook, Meeting, NewRecording, Recording, Server, recordings};
use crate::process::lock;

/// Below the server's own address.
pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/faults", put(put_faults).get(show_faults))
        .route("/calls", get(list_calls))
        .route("/deliveries", get(list_deliveries))
        .route("/hooks", get(list_hooks).delete(forget_hooks))
        .route("/meetings", get(list_meetings))
        .route("/meetings/{id}/end", post(end))
        .route("/meetings/{id}/leave/{*who}", post(leave))
        .route("/meetings/{id}/record", post(press_record))
        .route("/meetings/{id}/analytics", post(send_analytics))
        .route("/recordings", get(list_recordings).post(record))
}

async fn put_faults(State(server): State<Arc<Server>>, Json(faults): Json<Faults>) -> StatusCode {
    *lock(&server.faults) = faults;
    StatusCode::NO_CONTENT
}

async fn show_faults(State(server): State<Arc<Server>>) -> Json<Faults> {
    Json(lock(&server.faults).clone())
}

async fn list_calls(State(server): State<Arc<Server>>) -> Json<Vec<Call>> {
    Json(lock(&server.calls).clone())
}

async fn list_deliveries(State(server): State<Arc<Server>>) -> Json<Vec<Delivery>> {
    Json(lock(&server.deliveries).clone())
}

async fn list_hooks(State(server): State<Arc<Server>>) -> Json<Vec<Hook>> {
    Json(lock(&server.hooks).all())
}

async fn forget_hooks(State(server): State<Arc<Server>>) -> StatusCode {
    lock(&server.hooks).forget_all();
    StatusCode::NO_CONTENT
}

async fn list_meetings(State(server): State<Arc<Server>>) -> Json<Vec<Meeting>> {
    Json(server.meetings())
}

async fn end(State(server): State<Arc<Server>>, Path(id): Path<String>) -> StatusCode {
    server.end(&id);
    StatusCode::ACCEPTED
}

async fn leave(State(server): State<Arc<Server>>, Path((id, who)): Path<(String, String)>) -> StatusCode {
    server.leave(&id, &who);
    StatusCode::NO_CONTENT
}

async fn press_record(State(server): State<Arc<Server>>, Path(id): Path<String>) -> StatusCode {
    server.press_record(&id);
    StatusCode::NO_CONTENT
}

async fn send_analytics(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    Json(attendees): Json<Value>,
) -> StatusCode {
    recordings::send_analytics(&server, &id, attendees).await;
    StatusCode::NO_CONTENT
}

async fn list_recordings(State(server): State<Arc<Server>>) -> Json<Vec<Recording>> {
    Json(lock(&server.recordings).all())
}

async fn record(State(server): State<Arc<Server>>, Json(new): Json<NewRecording>) -> (StatusCode, Json<Value>) {
    let record_id = recordings::record(&server, new).await;
    (StatusCode::CREATED, Json(json!({"record_id": record_id})))
}
