//! A stand-in for Zoom: tokens of a server-to-server OAuth app, the part of the API that makes, changes, shows and ends
//! meetings, registers people, reports and serves recordings, and the signed webhooks (`developers.zoom.us`, "Meeting APIs",
//! "Using webhooks"; shapes as in Zoom's `@zoom/rivet`). As strict as the real one where that costs its callers time: ids
//! beyond 32 bits, UUIDs that have to be encoded twice, tokens that run out, a report that comes late, registrations
//! that are counted, files that are served by another host.
//!
//! Zoom's side is below `/oauth`, `/v2`, `/rec`, `/j` and `/s`. The rest makes things happen: `PUT /faults` with [`Faults`],
//! `PUT /webhook` with `{"url": …}`, `POST /act` with an [`Act`], `POST /events` with `{event, payload}`, `POST /release`,
//! `POST /expire-tokens`; `GET /meetings`, `GET /calls` and `GET /deliveries` tell what there is and what happened.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get, post, put},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{ports::listen, process::lock};

mod acts;
mod api;
pub mod demo;
mod faults;
mod files;
mod meetings;
mod oauth;
mod past;
mod webhooks;

pub use acts::{Act, NewFile, Visitor};
pub use faults::{Faults, RateLimit, WebhookFaults};
pub use files::SEED;
use meetings::World;
pub use meetings::{Meeting, Registrant};
use webhooks::Courier;
pub use webhooks::Delivery;

/// Who the account's app and its only user are.
#[derive(Debug, Clone)]
pub struct Account {
    pub account_id: String,
    pub client_id: String,
    pub client_secret: String,
    /// The secret token of its event subscriptions.
    pub webhook_secret: String,
    /// Its user, who hosts meetings. Whoever else has an address of the same domain is a user as well.
    pub user_email: String,
}

impl Account {
    /// One whose secrets are these.
    #[must_use]
    pub fn new(client_secret: &str, webhook_secret: &str) -> Self {
        Self {
            account_id: "AcC0untOfTheStandIn0000".to_owned(),
            client_id: "Cl1entOfTheStandIn".to_owned(),
            client_secret: client_secret.to_owned(),
            webhook_secret: webhook_secret.to_owned(),
            user_email: "classes@zoom.test".to_owned(),
        }
    }
}

/// The id of the account's user; others have one that is made of their address.
pub const USER_ID: &str = "KdYKjnimT4KPd8FFgQt9FQ";

/// One call that Zoom has seen.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Call {
    /// `token`, `create`, `register`, …
    pub call: String,
    /// Path and query as they came.
    pub path: String,
    pub status: u16,
    /// What was sent with it.
    pub body: Value,
}

/// A running stand-in. Dropping the last handle ends it.
#[derive(Debug, Clone)]
pub struct Zoom {
    server: Arc<Server>,
    _stop: Arc<DropGuard>,
}

#[derive(Debug)]
struct Server {
    port: u16,
    account: Account,
    world: Mutex<World>,
    faults: Mutex<Faults>,
    calls: Mutex<Vec<Call>>,
    courier: Courier,
}

impl Zoom {
    /// Starts it for this account on `port` of 127.0.0.1 or on a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: Option<u16>, account: Account) -> anyhow::Result<Self> {
        let (listener, address) = listen("the stand-in for Zoom", port)?;
        let server = Arc::new(Server {
            port: address.port(),
            courier: Courier::new(&account.webhook_secret)?,
            account,
            world: Mutex::default(),
            faults: Mutex::default(),
            calls: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/oauth/token", post(oauth::give_token))
            .route("/v2/{*path}", any(api::call))
            .route("/rec/download/{file}", get(files::download))
            .route("/rec/files/{file}", get(files::serve))
            .route("/j/{meeting}", get(files::page))
            .route("/s/{meeting}", get(files::page))
            .route("/faults", put(put_faults))
            .route("/webhook", put(put_webhook))
            .route("/act", post(post_act))
            .route("/events", post(post_event))
            .route("/release", post(post_release))
            .route("/expire-tokens", post(post_expire_tokens))
            .route("/meetings", get(list_meetings))
            .route("/calls", get(list_calls))
            .route("/deliveries", get(list_deliveries))
            .with_state(Arc::clone(&server));
        let stopped = stop.clone().cancelled_owned();
        crate::runtime::servers().spawn(async move {
            let served = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).with_graceful_shutdown(stopped).await
            };
            if let Err(error) = served.await {
                tracing::error!(%error, "the stand-in for Zoom has ended");
            }
        });
        Ok(Self { server, _stop: Arc::new(stop.drop_guard()) })
    }

    /// `http://127.0.0.1:<port>`; what makes things happen is below it.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// For `ZOOM_API_URL`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/v2", self.url())
    }

    /// For `ZOOM_OAUTH_URL`.
    #[must_use]
    pub fn oauth_url(&self) -> String {
        format!("{}/oauth/token", self.url())
    }

    #[must_use]
    pub fn account(&self) -> &Account {
        &self.server.account
    }

    /// From now on these happen.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.server.faults) = faults;
    }

    /// Where events are sent to; nowhere, before.
    pub fn set_webhook(&self, url: &str) {
        self.server.courier.set_url(url);
    }

    /// Lets something happen in a meeting; its events are sent. Answers what it made: `user_id`, `uuid`, files.
    ///
    /// # Errors
    /// When there is no such meeting, person or run.
    pub async fn act(&self, act: Act) -> anyhow::Result<Value> {
        self.server.act(act).await.map_err(anyhow::Error::msg)
    }

    /// Sends any event, signed.
    pub async fn send(&self, event: &str, payload: Value) {
        self.server.send(event, payload, Value::Null).await;
    }

    /// Sends what was held back, in the reverse order.
    pub async fn release(&self) {
        self.server.courier.release().await;
    }

    /// No token that was given out is good any more.
    pub fn expire_tokens(&self) {
        lock(&self.server.world).tokens.clear();
    }

    /// What was asked so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.server.calls).clone()
    }

    /// How many calls of this name were answered with this status.
    #[must_use]
    pub fn count(&self, call: &str, status: u16) -> usize {
        lock(&self.server.calls).iter().filter(|c| c.call == call && c.status == status).count()
    }

    /// The meetings that there are.
    #[must_use]
    pub fn meetings(&self) -> Vec<Meeting> {
        lock(&self.server.world).meetings.values().cloned().collect()
    }

    /// What was sent to the webhook, oldest first.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.server.courier.deliveries()
    }
}

impl Server {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn send(&self, event: &str, payload: Value, more: Value) {
        let faults = lock(&self.faults).webhooks.clone();
        self.courier.send(event, payload, more, &faults).await;
    }

    fn note(&self, call: &str, path: &str, status: u16, body: &Value) {
        lock(&self.calls).push(Call { call: call.to_owned(), path: path.to_owned(), status, body: body.clone() });
    }
}

async fn put_faults(State(server): State<Arc<Server>>, Json(faults): Json<Faults>) -> StatusCode {
    *lock(&server.faults) = faults;
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Webhook {
    url: String,
}

/// Validates the address as Zoom does before it sends anything there.
async fn put_webhook(State(server): State<Arc<Server>>, Json(webhook): Json<Webhook>) -> Response {
    server.courier.set_url(&webhook.url);
    match server.courier.validate().await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "fault": fault }))).into_response(),
    }
}

async fn post_act(State(server): State<Arc<Server>>, Json(act): Json<Act>) -> Response {
    match server.act(act).await {
        Ok(made) => Json(made).into_response(),
        Err(fault) => (StatusCode::NOT_FOUND, Json(json!({ "fault": fault }))).into_response(),
    }
}

#[derive(Deserialize)]
struct AnyEvent {
    event: String,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    more: Value,
}

async fn post_event(State(server): State<Arc<Server>>, Json(event): Json<AnyEvent>) -> StatusCode {
    server.send(&event.event, event.payload, event.more).await;
    StatusCode::NO_CONTENT
}

async fn post_release(State(server): State<Arc<Server>>) -> StatusCode {
    server.courier.release().await;
    StatusCode::NO_CONTENT
}

async fn post_expire_tokens(State(server): State<Arc<Server>>) -> StatusCode {
    lock(&server.world).tokens.clear();
    StatusCode::NO_CONTENT
}

async fn list_meetings(State(server): State<Arc<Server>>) -> Json<Vec<Meeting>> {
    Json(lock(&server.world).meetings.values().cloned().collect())
}

async fn list_calls(State(server): State<Arc<Server>>) -> Json<Vec<Call>> {
    Json(lock(&server.calls).clone())
}

async fn list_deliveries(State(server): State<Arc<Server>>) -> Json<Vec<Delivery>> {
    Json(server.courier.deliveries())
}

async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}
