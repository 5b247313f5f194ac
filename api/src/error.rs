//! What goes wrong, as callers see it: RFC 9457 problem documents. Handlers use the constructors below
//! for what a caller can mend, and `?` for the rest; what happened inside is logged once, with the
//! request's id, and never shown.

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::middleware::current_request_id;

/// Seconds after which a caller may try again when a part of the service is down or busy.
pub const RETRY_AFTER: &str = "2";

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request got no success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller can do something about it.
    #[error("{}", .0.detail)]
    Problem(#[from] Problem),
    /// The database said no, or nothing.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The same to several requests whose changes were one statement.
    #[error(transparent)]
    Shared(Arc<sqlx::Error>),
    /// A defect of ours.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

/// What a caller is told. Boxed, because errors are rare and results are many.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.detail)]
pub struct Problem(Box<Facts>);

/// The members of a problem document.
#[derive(Debug, Clone)]
pub struct Facts {
    pub status: StatusCode,
    /// Stable; programs branch on it.
    pub code: &'static str,
    pub title: &'static str,
    pub detail: String,
    pub errors: Vec<Fault>,
    pub session_status: Option<&'static str>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Fault {
    /// Where in the body, as a JSON pointer (RFC 6901); empty for the body as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/ends_at")]
    pub pointer: Option<String>,
    /// Which parameter of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub parameter: Option<String>,
    /// What is wrong with it.
    #[schema(example = "must be after starts_at")]
    pub detail: String,
}

impl Fault {
    /// A fault in the body.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, detail: detail.into() }
    }
}

/// The problem document (RFC 9457, `application/problem+json`).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "/problems/validation-failed")]
    kind: String,
    #[schema(example = "The body is not valid")]
    title: &'a str,
    #[schema(example = 422)]
    status: u16,
    /// What to do about it.
    detail: &'a str,
    /// Stable; programs branch on it.
    #[schema(example = "validation-failed")]
    code: &'a str,
    /// Quote it when you ask us.
    request_id: String,
    /// All faults at once.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Fault],
    /// The state that the session is in, where that is the reason (`code` is `illegal-transition`,
    /// `session-ended`, …).
    #[serde(rename = "session_status", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session_status: Option<&'static str>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let (errors, headers) = (Vec::new(), Vec::new());
        Self(Box::new(Facts { status, code, title, detail: detail.into(), errors, session_status: None, headers }))
    }

    pub fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.push((name, value));
        }
        self
    }

    pub fn errors(mut self, errors: Vec<Fault>) -> Self {
        self.errors = errors;
        self
    }

    /// Names the session's present state.
    pub fn session_status(mut self, status: shared::domain::session::SessionStatus) -> Self {
        self.session_status = Some(status.as_str());
        self
    }

    /// Tells when to try again, in whole seconds.
    pub fn retry_after(self, seconds: i64) -> Self {
        self.header(header::RETRY_AFTER, seconds.max(1).to_string())
    }
}

impl std::ops::Deref for Problem {
    type Target = Facts;
    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl std::ops::DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.0
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("/problems/{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id: current_request_id(),
            errors: &self.errors,
            session_status: self.session_status,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.0.headers);
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Database(error) => of_database(&error),
            Self::Shared(error) => of_database(&error),
            Self::Internal(error) => internal(&format!("{error:#}")),
        }
    }
}

fn of_database(error: &sqlx::Error) -> Response {
    if !is_unavailable(error) {
        return internal(error);
    }
    tracing::error!(request.id = current_request_id(), error = %error, "the database is not available");
    unavailable(match broke(error) {
        true => "The connection to the database broke: what was asked for is done as a whole or not at all.",
        false => "The database does not answer at the moment; nothing was changed.",
    })
    .into_response()
}

fn internal(error: &dyn std::fmt::Display) -> Response {
    tracing::error!(request.id = current_request_id(), error = %error, "a request failed");
    fault_of_ours().into_response()
}

/// Whether trying again may help: no connection, a server that starts or stops, a lost race.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_) => true,
        // Connection and login failures, no such database, resources (a full disk), shutdown, faults of the system and
        // of the server itself; read-only after a failover,
        // serialization, deadlock, a database that takes no connections, a lock not granted.
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            ["08", "28", "3D", "53", "57P", "58", "XX"].iter().any(|class| code.starts_with(class))
                || ["25006", "40001", "40P01", "55000", "55P03"].contains(&&*code)
        }),
        _ => false,
    }
}

/// Whether this may have been the answer to a commit, which nobody knows then.
fn broke(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        // The server ended the connection.
        sqlx::Error::Database(e) => e.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08")),
        _ => false,
    }
}

/// 500, empty of details.
pub fn fault_of_ours() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "Something went wrong on our side",
        "The request was not carried out. Quote the request_id when you report it.",
    )
}

/// 503 with `Retry-After`.
pub fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available at the moment", detail)
        .header(header::RETRY_AFTER, RETRY_AFTER)
}

/// 401, with what is wanted instead (`WWW-Authenticate`).
pub fn unauthorized(detail: impl Into<String>, challenge: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed", detail)
        .header(header::WWW_AUTHENTICATE, challenge)
}

/// 403: the caller may see the thing, but not do this.
pub fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
}

/// 404: there is none, or it is somebody else's.
pub fn not_found(what: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", format!("There is no such {what}."))
}

/// 409 or the like, because of the state in which a session is.
pub fn conflict(code: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::CONFLICT, code, title, detail)
}

/// 412: somebody else changed it.
pub fn precondition_failed() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition-failed",
        "Changed meanwhile",
        "The ETag in If-Match is not the present one. Read it again and repeat your change.",
    )
}

/// 400: the request cannot be read.
pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, "The request cannot be read", detail)
}

/// 400: a parameter in the address is wrong.
pub fn bad_parameter(parameter: &str, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    let fault = Fault { pointer: None, parameter: Some(parameter.to_owned()), detail: detail.clone() };
    let whole = if parameter.is_empty() { detail } else { format!("{parameter}: {detail}") };
    bad_request("invalid-parameter", whole).errors(vec![fault])
}

/// 422: the body can be read, but is not right; names all faults.
pub fn invalid(mut errors: Vec<Fault>) -> Problem {
    errors.sort();
    errors.dedup();
    let detail = match errors.as_slice() {
        [Fault { pointer: Some(pointer), detail, .. }] if !pointer.is_empty() => format!("{pointer}: {detail}"),
        [one] => format!("The body {}", one.detail),
        more => format!("{} faults; see errors.", more.len()),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation-failed", "The body is not valid", detail).errors(errors)
}
