//! A stand-in for a meeting host that serves recordings: bytes of any size that are the same each time
//! ([`random_bytes`]), ranges as RFC 9110 §14 wants them, and faults on demand.
//!
//! `GET|HEAD /recordings/{name}?size=BYTES&seed=N` plus any field of [`Faults`] as a parameter;
//! `PUT /faults/{name}` with [`Faults`] as JSON sets them for all requests to that name, `DELETE` ends them;
//! `GET /requests` lists what was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ports::listen;
use crate::process::lock;
use crate::random_bytes;

pub use crate::random_bytes::sha256_of;

/// The size of a recording whose address names none, in bytes.
pub const DEFAULT_SIZE: u64 = 1024 * 1024;

/// What goes wrong with a recording. Nothing, by default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Answer the first so many GET requests with 404, as a host that still encodes.
    pub not_ready: u32,
    /// Break the connection off after so many bytes of the body.
    pub cut_after: Option<u64>,
    /// How many requests are cut; all, when absent.
    pub cut_times: Option<u32>,
    /// Send at most so many bytes per second.
    pub bytes_per_second: Option<u64>,
    /// Send so many bytes and then nothing more, without closing.
    pub stall_after: Option<u64>,
    /// Do not say how long the body is.
    pub no_length: bool,
    /// Say this length instead of the true one.
    pub wrong_length: Option<u64>,
    /// Answer 200 with an HTML login page, as hosts do whose link has expired.
    pub login_page: bool,
    /// Answer 302 to the same recording without faults.
    pub redirect: bool,
    /// Answer this status and nothing else.
    pub status: Option<u16>,
}

/// One request that the host has seen.
#[derive(Debug, Clone, Serialize)]
pub struct SeenRequest {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The name of the recording.
    pub name: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status that was answered.
    pub status: u16,
}

/// A running host. Dropping it ends it.
#[derive(Debug)]
pub struct RecordingHost {
    port: u16,
    host: Arc<Host>,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Host {
    faults: Mutex<HashMap<String, Faults>>,
    /// GET requests so far, by name.
    asked: Mutex<HashMap<String, u32>>,
    /// Connections cut so far, by name.
    cut: Mutex<HashMap<String, u32>>,
    seen: Mutex<Vec<SeenRequest>>,
}

impl RecordingHost {
    /// Starts a host on `port` of 127.0.0.1 or on a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: Option<u16>) -> anyhow::Result<Self> {
        let (listener, address) = listen("the recording host", port)?;
        let host = Arc::new(Host::default());
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/recordings/{name}", get(serve_recording))
            .route("/faults/{name}", put(put_faults).delete(delete_faults))
            .route("/requests", get(list_requests))
            .with_state(Arc::clone(&host));
        let stopped = stop.clone().cancelled_owned();
        crate::runtime::servers().spawn(async move {
            let served = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).with_graceful_shutdown(stopped).await
            };
            if let Err(error) = served.await {
                tracing::error!(%error, "the recording host has ended");
            }
        });
        Ok(Self { port: address.port(), host, _stop: stop.drop_guard() })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the recording `name` of `size` bytes is.
    #[must_use]
    pub fn recording_url(&self, name: &str, size: u64, seed: u64) -> String {
        format!("{}/recordings/{name}?size={size}&seed={seed}", self.url())
    }

    /// From now on `faults` happen to requests for `name`, and what was counted for it starts anew.
    pub fn set_faults(&self, name: &str, faults: Faults) {
        self.host.set_faults(name, faults);
    }

    /// The requests so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.host.seen).clone()
    }

    /// The requests for one recording, oldest first.
    #[must_use]
    pub fn requests_for(&self, name: &str) -> Vec<SeenRequest> {
        lock(&self.host.seen).iter().filter(|request| request.name == name).cloned().collect()
    }
}

impl Host {
    fn set_faults(&self, name: &str, faults: Faults) {
        lock(&self.asked).remove(name);
        lock(&self.cut).remove(name);
        lock(&self.faults).insert(name.to_owned(), faults);
    }

    fn answer(&self, asked: &Asked<'_>) -> Response {
        let faults = &asked.parameters.faults;
        if asked.method == Method::GET {
            let mut counts = lock(&self.asked);
            let count = counts.entry(asked.name.to_owned()).or_default();
            *count += 1;
            if *count <= faults.not_ready {
                return StatusCode::NOT_FOUND.into_response();
            }
        }
        if let Some(status) = faults.status {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return status.into_response();
        }
        if faults.redirect {
            let place = format!("{}?size={}&seed={}&direct=true", asked.path, asked.size(), asked.seed());
            return (StatusCode::FOUND, [(header::LOCATION, place)]).into_response();
        }
        if faults.login_page {
            const PAGE: &str = "<!doctype html><title>Sign in</title><form><input name=user></form>";
            return ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response();
        }
        self.recording(asked)
    }

    fn recording(&self, asked: &Asked<'_>) -> Response {
        let (size, seed) = (asked.size(), asked.seed());
        let etag = format!("\"{seed:x}-{size:x}\"");
        let mut response = Response::builder()
            .header(header::CONTENT_TYPE, "video/mp4")
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::ETAG, &etag);
        let (status, start, end) = match requested_range(asked.headers, &etag, size) {
            Wanted::Whole => (StatusCode::OK, 0, size),
            Wanted::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
            Wanted::Nothing => {
                let range = format!("bytes */{size}");
                return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response();
            }
        };
        if status == StatusCode::PARTIAL_CONTENT {
            let last = end - 1;
            response = response.header(header::CONTENT_RANGE, format!("bytes {start}-{last}/{size}"));
        }
        let faults = &asked.parameters.faults;
        if !faults.no_length {
            response = response.header(header::CONTENT_LENGTH, faults.wrong_length.unwrap_or(end - start));
        }
        let body = if asked.method == Method::HEAD {
            Body::empty()
        } else {
            let cut_after = faults.cut_after.filter(|_| self.may_cut(asked.name, faults.cut_times));
            Body::from_stream(body_stream(seed, start, end, cut_after, faults))
        };
        let built = response.status(status).body(body);
        built.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }

    fn may_cut(&self, name: &str, times: Option<u32>) -> bool {
        let mut counts = lock(&self.cut);
        let count = counts.entry(name.to_owned()).or_default();
        if times.is_some_and(|times| *count >= times) {
            return false;
        }
        *count += 1;
        true
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    size: Option<u64>,
    seed: u64,
    /// Set by our own redirect: no faults behind it.
    direct: bool,
    #[serde(skip)]
    faults: Faults,
}

struct Asked<'a> {
    method: Method,
    path: &'a str,
    name: &'a str,
    headers: &'a HeaderMap,
    parameters: Parameters,
}

impl Asked<'_> {
    fn size(&self) -> u64 {
        self.parameters.size.unwrap_or(DEFAULT_SIZE)
    }

    fn seed(&self) -> u64 {
        self.parameters.seed
    }
}

async fn serve_recording(
    State(host): State<Arc<Host>>,
    method: Method,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let parameters = match read_parameters(&uri) {
        Ok(mut parameters) => {
            if parameters.direct {
                parameters.faults = Faults::default();
            } else if let Some(faults) = lock(&host.faults).get(&name) {
                parameters.faults = faults.clone();
            }
            parameters
        }
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    let asked = Asked { method: method.clone(), path: uri.path(), name: &name, headers: &headers, parameters };
    let response = host.answer(&asked);
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    lock(&host.seen).push(SeenRequest {
        method: method.to_string(),
        range: range.map(str::to_owned),
        status: response.status().as_u16(),
        name,
    });
    response
}

/// Reads the address in two: serde cannot flatten numbers out of a query.
fn read_parameters(uri: &Uri) -> Result<Parameters, String> {
    const OWN: [&str; 3] = ["size", "seed", "direct"];
    let (mut own, mut of_faults) =
        (url::form_urlencoded::Serializer::new(String::new()), url::form_urlencoded::Serializer::new(String::new()));
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let target = if OWN.contains(&name.as_ref()) { &mut own } else { &mut of_faults };
        target.append_pair(&name, &value);
    }
    let read = |text: String| format!("/?{text}").parse::<Uri>().map_err(|error| error.to_string());
    let Query(mut parameters) =
        Query::<Parameters>::try_from_uri(&read(own.finish())?).map_err(|error| error.to_string())?;
    let Query(faults) = Query::<Faults>::try_from_uri(&read(of_faults.finish())?).map_err(|error| error.to_string())?;
    parameters.faults = faults;
    Ok(parameters)
}

async fn put_faults(State(host): State<Arc<Host>>, Path(name): Path<String>, Json(faults): Json<Faults>) -> StatusCode {
    host.set_faults(&name, faults);
    StatusCode::NO_CONTENT
}

async fn delete_faults(State(host): State<Arc<Host>>, Path(name): Path<String>) -> StatusCode {
    lock(&host.faults).remove(&name);
    StatusCode::NO_CONTENT
}

async fn list_requests(State(host): State<Arc<Host>>) -> Json<Vec<SeenRequest>> {
    Json(lock(&host.seen).clone())
}

enum Wanted {
    Whole,
    /// From `start` to before `end`.
    Part {
        start: u64,
        end: u64,
    },
    /// A range that lies outside.
    Nothing,
}

/// One range; several, or a form that is none, are answered with the whole (RFC 9110 §14.2).
fn requested_range(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|value| value.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    if text(header::IF_RANGE).is_some_and(|wanted| wanted != etag) {
        return Wanted::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else {
        return Wanted::Whole;
    };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) if start <= last => (start, last.saturating_add(1).min(size)),
        (Ok(start), _) if last.is_empty() => (start, size),
        (_, Ok(length)) if first.is_empty() => (size.saturating_sub(length), size),
        _ => return Wanted::Whole,
    };
    if start < end { Wanted::Part { start, end } } else { Wanted::Nothing }
}

struct Sending {
    seed: u64,
    offset: u64,
    end: u64,
    sent: u64,
    cut_after: Option<u64>,
    stall_after: Option<u64>,
    bytes_per_second: Option<u64>,
}

impl Sending {
    /// How many bytes may be sent before something happens.
    fn until_next_event(&self) -> u64 {
        [self.cut_after, self.stall_after]
            .into_iter()
            .flatten()
            .map(|limit| limit.saturating_sub(self.sent))
            .fold(self.end - self.offset, u64::min)
    }

    /// hyper throws away what it has not sent when a body ends too early; being asked to wait, it sends.
    async fn let_server_flush(&self) {
        tokio::task::yield_now().await;
    }

    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        if self.cut_after.is_some_and(|limit| self.sent >= limit) {
            self.let_server_flush().await;
            return Some((Err(std::io::Error::other("cut, as was asked for")), self));
        }
        if self.stall_after.is_some_and(|limit| self.sent >= limit) {
            std::future::pending::<()>().await;
        }
        if self.offset >= self.end {
            self.let_server_flush().await;
            return None;
        }
        let mut length = random_bytes::chunk_length(self.until_next_event());
        if let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0) {
            // Ten pieces a second.
            length = length.min(random_bytes::chunk_length((rate / 10).max(1)));
            tokio::time::sleep(Duration::from_secs_f64(length as f64 / rate as f64)).await;
        }
        let mut buffer = vec![0; length];
        random_bytes::fill(self.seed, self.offset, &mut buffer);
        self.offset += length as u64;
        self.sent += length as u64;
        Some((Ok(Bytes::from(buffer)), self))
    }
}

fn body_stream(
    seed: u64,
    start: u64,
    end: u64,
    cut_after: Option<u64>,
    faults: &Faults,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let sending = Sending {
        seed,
        offset: start,
        end,
        sent: 0,
        cut_after,
        stall_after: faults.stall_after,
        bytes_per_second: faults.bytes_per_second,
    };
    stream::unfold(sending, Sending::next)
}
