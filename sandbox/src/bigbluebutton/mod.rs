//! A stand-in for a BigBlueButton server, which itself needs a machine of its own: its API
//! (`docs/docs/development/api.md` of BigBlueButton, lines 2.7 to 3.0), that of bbb-webhooks beside it, and what it tells by
//! itself. It is as strict as the real one: checksums over the raw query, lengths of names, `createTime`, passwords and
//! roles; 200 where it refuses; an end that takes a moment; webhooks that are signed, tried again and given up.
//!
//! What people do in a meeting, and what goes wrong, is said over HTTP (`docs/PROVIDERS.md` tells it): `control`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::form_urlencoded::Serializer;

use crate::{ports::listen, process::lock};

mod checksum;
mod control;
mod hooks;
mod meeting;
mod meetings;
mod recordings;
mod reply;

use hooks::Hooks;
pub use hooks::{Delivery, Hook, Signature, WebhookFaults};
pub use meeting::{Attendee, Meeting};
use meetings::Meetings;
use recordings::Recordings;
pub use recordings::{Format, NewRecording, Recording};
use reply::Reply;

/// What goes wrong. Nothing, by default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Answer so many milliseconds late; what is asked has happened before.
    pub delay_ms: u64,
    /// Answer this status with a web page, as a proxy does whose server is down; nothing happens.
    pub status: Option<u16>,
    /// Refuse every call with this key (`internalError`, say).
    pub key: Option<String>,
    /// How long an end takes until the meeting counts as ended, and again until it is gone.
    pub end_ms: Option<u64>,
    /// Nobody but the control API gets an answer any more; nothing happens. Those who ask wait until they give up.
    pub dead: bool,
    pub webhooks: WebhookFaults,
}

/// One call that the server has seen.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// `create`, `join`, …
    pub call: String,
    /// As it was sent, without the checksum.
    pub query: String,
    /// `SUCCESS`, or the key of the refusal; empty for a web page.
    pub outcome: String,
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct BigBlueButton {
    port: u16,
    server: Arc<Server>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Server {
    secret: String,
    faults: Mutex<Faults>,
    meetings: Mutex<Meetings>,
    recordings: Mutex<Recordings>,
    hooks: Mutex<Hooks>,
    calls: Mutex<Vec<Call>>,
    deliveries: Mutex<Vec<Delivery>>,
    http: reqwest::Client,
    stopped: AtomicBool,
}

impl BigBlueButton {
    /// Starts a server with this secret on `port` of 127.0.0.1 or on a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: Option<u16>, secret: &str) -> anyhow::Result<Self> {
        let (listener, address) = listen("the stand-in for BigBlueButton", port)?;
        let server = Arc::new(Server {
            secret: secret.to_owned(),
            faults: Mutex::default(),
            meetings: Mutex::default(),
            recordings: Mutex::default(),
            hooks: Mutex::default(),
            calls: Mutex::default(),
            deliveries: Mutex::default(),
            http: reqwest::Client::builder().no_proxy().build()?,
            stopped: AtomicBool::new(false),
        });
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/bigbluebutton/api", get(about))
            .route("/bigbluebutton/api/", get(about))
            .route("/bigbluebutton/api/{*call}", any(call))
            .route("/html5client/join", get(client))
            .merge(control::routes())
            .with_state(Arc::clone(&server));
        let stopped = stop.clone().cancelled_owned();
        crate::runtime::servers().spawn(async move {
            let served = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).with_graceful_shutdown(stopped).await
            };
            if let Err(error) = served.await {
                tracing::error!(%error, "the stand-in for BigBlueButton has ended");
            }
        });
        Ok(Self { port: address.port(), server, _stop: stop.drop_guard() })
    }

    /// `http://127.0.0.1:<port>/bigbluebutton/`, as `bbb-conf --secret` shows it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/bigbluebutton/", self.port)
    }

    #[must_use]
    pub fn secret(&self) -> &str {
        &self.server.secret
    }

    /// From now on these happen.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.server.faults) = faults;
    }

    /// What was asked so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.server.calls).clone()
    }

    /// How many calls of this name came to this outcome.
    #[must_use]
    pub fn count(&self, call: &str, outcome: &str) -> usize {
        lock(&self.server.calls).iter().filter(|c| c.call == call && c.outcome == outcome).count()
    }

    /// Ends a meeting as a moderator does who is in it.
    pub fn end(&self, meeting_id: &str) {
        self.server.end(meeting_id);
    }

    /// Somebody leaves, by the id of the person or of one connection.
    pub fn leave(&self, meeting_id: &str, who: &str) {
        self.server.leave(meeting_id, who);
    }

    /// A moderator presses the button that records.
    pub fn press_record(&self, meeting_id: &str) {
        self.server.press_record(meeting_id);
    }

    /// Makes a recording, and tells of it; returns its id.
    pub async fn record(&self, new: NewRecording) -> String {
        recordings::record(&self.server, new).await
    }

    /// Sends the learning analytics of a meeting to where its `create` said.
    pub async fn send_analytics(&self, meeting_id: &str, attendees: Value) {
        recordings::send_analytics(&self.server, meeting_id, attendees).await;
    }

    /// The meetings that there are.
    #[must_use]
    pub fn meetings(&self) -> Vec<Meeting> {
        self.server.meetings()
    }

    /// The recordings that there are.
    #[must_use]
    pub fn recordings(&self) -> Vec<Recording> {
        lock(&self.server.recordings).all()
    }

    /// Where webhooks go.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        lock(&self.server.hooks).all()
    }

    /// As bbb-webhooks does once a hook's address was away for five minutes.
    pub fn forget_hooks(&self) {
        lock(&self.server.hooks).forget_all();
    }

    /// What was sent so far, each attempt.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.server.deliveries).clone()
    }
}

impl Drop for BigBlueButton {
    fn drop(&mut self) {
        self.server.stopped.store(true, Ordering::Relaxed);
    }
}

impl Server {
    fn end_takes(&self) -> Duration {
        Duration::from_millis(lock(&self.faults).end_ms.unwrap_or(100))
    }

    fn meetings(&self) -> Vec<Meeting> {
        let end_takes = self.end_takes();
        lock(&self.meetings).all(end_takes)
    }

    fn end(self: &Arc<Self>, meeting_id: &str) {
        lock(&self.meetings).end(meeting_id, "");
        self.finish_later(meeting_id);
    }

    fn leave(self: &Arc<Self>, meeting_id: &str, who: &str) {
        let events = lock(&self.meetings).leave(meeting_id, who);
        hooks::emit(self, events);
    }

    fn press_record(self: &Arc<Self>, meeting_id: &str) {
        let events = lock(&self.meetings).record(meeting_id);
        hooks::emit(self, events);
    }

    /// A meeting that was told to end has ended after a moment, and then that is told.
    fn finish_later(self: &Arc<Self>, meeting_id: &str) {
        let Some(meeting) = lock(&self.meetings).last(meeting_id) else { return };
        let (server, id, end_takes) = (Arc::clone(self), meeting_id.to_owned(), self.end_takes());
        crate::runtime::servers().spawn(async move {
            tokio::time::sleep(end_takes).await;
            let (events, callback) = lock(&server.meetings).finish(&id, meeting.created_ms);
            hooks::emit(&server, events);
            if let Some(url) = callback {
                server.called_back("end", server.http.get(url)).await;
            }
        });
    }

    /// Calls somebody once; whether that works matters to nobody.
    async fn called_back(&self, what: &str, request: reqwest::RequestBuilder) {
        let (url, status) = match request.timeout(Duration::from_secs(5)).send().await {
            Ok(answer) => (answer.url().to_string(), Some(answer.status().as_u16())),
            Err(error) => (error.url().map(ToString::to_string).unwrap_or_default(), None),
        };
        lock(&self.deliveries).push(Delivery { callback_url: url, events: vec![what.to_owned()], status });
    }

    fn reply(self: &Arc<Self>, call: &str, query: &str) -> Reply {
        let parameters = checksum::verified(call, query, &self.secret);
        let end_takes = self.end_takes();
        let fault = lock(&self.faults).key.clone();
        let parameters = match (parameters, fault) {
            (None, _) => return Reply::refusal("checksumError", "Checksums do not match"),
            (_, Some(key)) => return Reply::refusal(&key, "A fault on demand"),
            (Some(parameters), None) => parameters,
        };
        if let Some(call) = call.strip_prefix("hooks/") {
            return lock(&self.hooks).call(call, &parameters);
        }
        let (reply, events) = match call {
            "getRecordings" | "publishRecordings" | "deleteRecordings" => {
                lock(&self.recordings).call(call, &parameters)
            }
            _ => lock(&self.meetings).call(call, &parameters, end_takes),
        };
        hooks::emit(self, events);
        if call == "end" && reply.outcome == "SUCCESS" {
            self.finish_later(parameters.get("meetingID").map_or("", String::as_str));
        }
        reply
    }
}

fn form(request: reqwest::RequestBuilder, pairs: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = Serializer::new(String::new()).extend_pairs(pairs).finish();
    request.header("content-type", "application/x-www-form-urlencoded").body(body)
}

async fn about() -> Response {
    xml("<response>\n  <returncode>SUCCESS</returncode>\n  <version>2.0</version>\n  <apiVersion>2.0</apiVersion>\n  \
         <bbbVersion><![CDATA[3.0.4]]></bbbVersion>\n</response>"
        .to_owned())
}

async fn call(State(server): State<Arc<Server>>, Path(call): Path<String>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let faults = lock(&server.faults).clone();
    if faults.dead {
        std::future::pending::<()>().await;
    }
    let down = faults.status.map(|status| StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
    let reply = if down.is_some() { None } else { Some(server.reply(&call, &query)) };
    let outcome = reply.as_ref().map_or_else(String::new, |reply| reply.outcome.clone());
    lock(&server.calls).push(Call { call, query: checksum::without(&query), outcome });
    if faults.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(faults.delay_ms)).await;
    }
    match (reply, down) {
        (Some(Reply { redirect: Some(to), .. }), _) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        (Some(reply), _) => xml(reply.xml),
        (None, status) => {
            (status.unwrap_or(StatusCode::BAD_GATEWAY), Html("<html><body>Bad Gateway</body></html>")).into_response()
        }
    }
}

fn xml(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/xml;charset=utf-8")], text).into_response()
}

/// Where a browser ends up.
async fn client() -> Html<&'static str> {
    Html("<html><body>This would be the meeting.</body></html>")
}
