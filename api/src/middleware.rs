//! What every request goes through, outermost first: one spelling of the path, the request's id, metrics
//! and one log line, a stop for panics, the limit of requests at a time, the time limit, and then, for POSTs with a key,
//! [`crate::idempotency`].

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, Uri, uri::PathAndQuery},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    body::BodyDeadline,
    error,
    places::Place,
    rates::{RATE_LIMIT, RATE_LIMIT_POLICY},
    router::{BASE, WEBHOOKS},
};

/// In and out; taken over from the caller when it is a sane text, else made here.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: Arc<Current>;
}

/// What is known of the request that a task works on.
struct Current {
    id: String,
    /// [`RATE_LIMIT`] and [`RATE_LIMIT_POLICY`] of the answer.
    rate: OnceLock<(HeaderValue, HeaderValue)>,
    /// What the caller occupies until the answer.
    place: OnceLock<Place>,
}

/// The id of the request that this task works on; empty outside of one.
pub fn current_request_id() -> String {
    CURRENT.try_with(|current| current.id.clone()).unwrap_or_default()
}

/// The answer to this request, whatever it will be, tells the caller of its rate limit.
pub fn tell_rate(rate: HeaderValue, policy: HeaderValue) {
    let _ = CURRENT.try_with(|current| current.rate.set((rate, policy)));
}

/// Keeps a place for as long as this request goes on.
pub fn hold(place: Place) {
    let _ = CURRENT.try_with(|current| current.place.set(place));
}

/// With and without a trailing slash is the same: below [`BASE`] paths end in one, elsewhere in none.
pub fn one_spelling(mut request: Request) -> Request {
    let path = request.uri().path();
    let spelled = match path.strip_suffix('/') {
        Some(bare) if !path.starts_with(BASE) && !bare.is_empty() && path != "/docs/" => bare.to_owned(),
        None if path.starts_with(BASE) => format!("{path}/"),
        _ => return request,
    };
    let spelled = match request.uri().query() {
        Some(query) => format!("{spelled}?{query}"),
        None => spelled,
    };
    if let Ok(path_and_query) = PathAndQuery::try_from(spelled) {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(path_and_query);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// Gives the request its id, times it, and tells of it.
pub async fn observe(request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_sane(text))
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let started = Instant::now();
    let current = Arc::new(Current { id, rate: OnceLock::new(), place: OnceLock::new() });
    let mut response = CURRENT.scope(current.clone(), next.run(request)).await;
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    count(&method, route, status, elapsed);
    tracing::debug!(
        request.id = current.id,
        http.method = %method,
        http.route = route,
        http.status = status,
        duration_ms = elapsed.as_secs_f64() * 1e3,
        "answered"
    );
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(&current.id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some((rate, policy)) = current.rate.get() {
        headers.insert(RATE_LIMIT, rate.clone());
        headers.insert(RATE_LIMIT_POLICY, policy.clone());
    }
    response
}

/// Without a text made anew for each request: there are as many routes as the router has, and as many statuses as HTTP.
fn count(method: &Method, route: &str, status: u16, elapsed: Duration) {
    static STATUSES: LazyLock<Vec<String>> = LazyLock::new(|| (0..1000).map(|status| status.to_string()).collect());
    static ROUTES: RwLock<BTreeSet<&'static str>> = RwLock::new(BTreeSet::new());
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let known = ROUTES.read().unwrap_or_else(PoisonError::into_inner).get(route).copied();
    let route = known.unwrap_or_else(|| {
        let kept: &'static str = Box::leak(route.into());
        ROUTES.write().unwrap_or_else(PoisonError::into_inner).insert(kept);
        kept
    });
    let status = STATUSES.get(usize::from(status)).map_or("", String::as_str);
    metrics::counter!("http_requests_total", "method" => method, "route" => route, "status" => status).increment(1);
    metrics::histogram!("http_request_duration_seconds", "method" => method, "route" => route)
        .record(elapsed.as_secs_f64());
}

/// Ids of callers end up in logs and headers.
fn is_sane(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&b))
}

/// A panic is a defect of ours, not the end of the connection.
pub async fn catch_panics(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let what = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(request.id = current_request_id(), error = what, "a handler panicked");
            error::fault_of_ours().into_response()
        }
    }
}

/// How much may go on at once, and for how long.
#[derive(Clone)]
pub struct Limits {
    in_flight: Arc<Semaphore>,
    /// A webhook's body is read before anybody knows whether its sender may send one: strangers, however slow, cannot
    /// take the places of callers.
    webhooks: Arc<Semaphore>,
    timeout: Duration,
}

/// How long a webhook's body may take; providers send it at once.
const WEBHOOK_BODY: Duration = Duration::from_secs(5);

impl Limits {
    pub fn new(in_flight: usize, timeout: Duration) -> Self {
        let webhooks = in_flight.div_ceil(4);
        Self { in_flight: Arc::new(Semaphore::new(in_flight)), webhooks: Arc::new(Semaphore::new(webhooks)), timeout }
    }

    /// A body that takes longer than two thirds of the request's time would leave too little for the work.
    fn body_deadline(&self, is_webhook: bool) -> BodyDeadline {
        let time = self.timeout * 2 / 3;
        BodyDeadline(Instant::now() + if is_webhook { time.min(WEBHOOK_BODY) } else { time })
    }
}

/// Turns away what would only queue up, and gives up what takes too long. Bodies are read inside of it: what they take of
/// the memory is bounded by it.
pub async fn limit(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    // A busy process is alive: who watches it must not take load for death and restart it.
    if matches!(request.uri().path(), "/livez" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    let is_webhook = request.uri().path().starts_with(WEBHOOKS);
    let webhook = if is_webhook { limits.webhooks.try_acquire().map(Some) } else { Ok(None) };
    let (Ok(_permit), Ok(_webhook)) = (limits.in_flight.try_acquire(), webhook) else {
        metrics::counter!("http_requests_turned_away_total").increment(1);
        return error::unavailable("Too many requests at once.").into_response();
    };
    request.extensions_mut().insert(limits.body_deadline(is_webhook));
    match tokio::time::timeout(limits.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(request.id = current_request_id(), "a request took too long");
            error::Problem::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "timeout",
                "Took too long",
                "The request was given up. Changes are made whole or not at all; read before you repeat it, or repeat it with \
                 the same Idempotency-Key.",
            )
            .retry_after(2)
            .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Request};

    use super::{is_sane, one_spelling};

    #[test]
    fn a_trailing_slash_makes_no_difference() {
        for (given, spelled) in [
            ("/api/v1/live-sessions/sessions", "/api/v1/live-sessions/sessions/"),
            ("/api/v1/live-sessions/sessions/?a=b", "/api/v1/live-sessions/sessions/?a=b"),
            ("/api/v1/live-sessions/sessions?a=/b", "/api/v1/live-sessions/sessions/?a=/b"),
            ("/livez/", "/livez"),
            ("/livez", "/livez"),
            ("/docs/", "/docs/"),
            ("/", "/"),
        ] {
            let request = Request::builder().uri(given).body(Body::empty()).unwrap();
            assert_eq!(one_spelling(request).uri().to_string(), spelled, "{given}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_that_tells_nothing() {
        use axum::{Router, routing::get};
        use tower::ServiceExt as _;

        async fn broken() {
            panic!("the secret is 42")
        }
        let app = Router::new().route("/", get(broken)).layer(axum::middleware::from_fn(super::catch_panics));
        let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("\"code\":\"internal\"") && !body.contains("secret"), "{body}");
    }

    #[test]
    fn only_harmless_request_ids_are_taken_over() {
        assert!(is_sane("0198c0de-a:b/c"));
        for bad in ["", "a b", "a\"b", "é", &"x".repeat(129)] {
            assert!(!is_sane(bad), "{bad:?}");
        }
    }
}
