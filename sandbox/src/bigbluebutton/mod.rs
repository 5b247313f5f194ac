//! A stand-in for a BigBlueButton server, which itself needs a machine of its own: the part of its API that makes, shows
//! and ends meetings and lets people in (`docs/docs/development/api.md` of BigBlueButton, lines 2.7 to 3.0). It is as
//! strict as the real one: checksums over the raw query, lengths of names, `createTime`, passwords and roles; 200 where it
//! refuses; an end that takes a moment.
//!
//! Besides, `PUT /faults` with [`Faults`] as JSON makes something go wrong, `GET /calls` lists what was asked, and
//! `GET /meetings` what there is.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{any, get, put},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{ports::listen, process::lock};

mod checksum;
mod meetings;

pub use meetings::{Attendee, Meeting};
use meetings::{Meetings, Reply};

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
    calls: Mutex<Vec<Call>>,
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
            calls: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/bigbluebutton/api", get(about))
            .route("/bigbluebutton/api/", get(about))
            .route("/bigbluebutton/api/{call}", any(call))
            .route("/html5client/join", get(client))
            .route("/faults", put(put_faults))
            .route("/calls", get(list_calls))
            .route("/meetings", get(list_meetings))
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
        lock(&self.server.meetings).end(meeting_id, "");
    }

    /// The meetings that there are.
    #[must_use]
    pub fn meetings(&self) -> Vec<Meeting> {
        self.server.meetings()
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

    fn reply(&self, call: &str, query: &str) -> Reply {
        let parameters = checksum::verified(call, query, &self.secret);
        let end_takes = self.end_takes();
        match (parameters, lock(&self.faults).key.clone()) {
            (None, _) => Reply::refusal("checksumError", "Checksums do not match"),
            (_, Some(key)) => Reply::refusal(&key, "A fault on demand"),
            (Some(parameters), None) => lock(&self.meetings).call(call, &parameters, end_takes),
        }
    }
}

async fn about() -> Response {
    xml("<response>\n  <returncode>SUCCESS</returncode>\n  <version>2.0</version>\n  <apiVersion>2.0</apiVersion>\n  \
         <bbbVersion><![CDATA[3.0.4]]></bbbVersion>\n</response>"
        .to_owned())
}

async fn call(State(server): State<Arc<Server>>, Path(call): Path<String>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let faults = lock(&server.faults).clone();
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

async fn put_faults(State(server): State<Arc<Server>>, Json(faults): Json<Faults>) -> StatusCode {
    *lock(&server.faults) = faults;
    StatusCode::NO_CONTENT
}

async fn list_calls(State(server): State<Arc<Server>>) -> Json<Vec<Call>> {
    Json(lock(&server.calls).clone())
}

async fn list_meetings(State(server): State<Arc<Server>>) -> Json<Vec<Meeting>> {
    Json(server.meetings())
}
