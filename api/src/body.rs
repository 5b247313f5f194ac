//! Request bodies: read as strict JSON, judged by the very JSON schema that the document publishes for
//! their type, then by the type's own rules, and only then turned into the type. All faults of a body
//! are told at once, each with its JSON pointer.

use std::time::Instant;

use axum::{
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use futures::StreamExt as _;
use jsonschema::{Draft, Validator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    error::{self, Error, Fault, Problem},
    faults,
    state::AppState,
    strict_json,
};

/// Bytes of a body, where the type says nothing else.
pub const MEBIBYTE: usize = 1 << 20;
/// The largest that any type allows.
pub const LARGEST: usize = 4 * MEBIBYTE;
/// A body that is too large is read on up to here, so that its sender gets to hear why it is refused.
const DRAINED: usize = 32 * MEBIBYTE;

/// When the request's body has to be there; among the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct BodyDeadline(pub Instant);

/// A type that callers send.
pub trait Input: DeserializeOwned + Send {
    const MAX_BYTES: usize = MEBIBYTE;

    /// The compiled schema; see [`input!`](crate::input).
    fn validator() -> &'static Validator;
}

/// Makes a type an [`Input`], with its schema compiled once.
#[macro_export]
macro_rules! input {
    ($type:ty $(, max_bytes = $max:expr)?) => {
        impl $crate::body::Input for $type {
            $(const MAX_BYTES: usize = $max;)?

            fn validator() -> &'static jsonschema::Validator {
                static VALIDATOR: std::sync::LazyLock<jsonschema::Validator> =
                    std::sync::LazyLock::new($crate::body::compile::<$type>);
                &VALIDATOR
            }
        }
    };
}

/// The schema of `T` with all that it refers to, as the document has it.
pub fn compile<T: ToSchema>() -> Validator {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let mut schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let parts: serde_json::Map<String, Value> =
        parts.into_iter().map(|(name, part)| (name, serde_json::to_value(part).expect("a schema is JSON"))).collect();
    schema["components"] = json!({ "schemas": parts });
    validator(&schema)
}

/// A schema of this crate, compiled.
pub fn validator(schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .build(schema)
        .expect("the schemas of this crate are valid")
}

/// A body of JSON that has the form of `T`, and the faults of its form. Handlers add the faults of its
/// meaning and call [`Json::check`].
pub struct Json<T> {
    pub value: Value,
    faults: Vec<Fault>,
    kind: std::marker::PhantomData<T>,
}

impl<T: Input> Json<T> {
    /// Judges a value that did not come as a body of its own.
    pub fn of(value: Value) -> Self {
        let faults = faults::of_form(T::validator(), &value);
        Self { value, faults, kind: std::marker::PhantomData }
    }

    /// The value, if neither its form nor its meaning has a fault. `meaning` sees the JSON even where its
    /// form is wrong, and has to take what it can read.
    pub fn check(self, meaning: impl FnOnce(&Value) -> Vec<Fault>) -> Result<T, Problem> {
        let mut faults = self.faults;
        if self.value.is_object() {
            faults.extend(meaning(&self.value));
        }
        if !faults.is_empty() {
            return Err(error::invalid(faults));
        }
        serde_json::from_value(self.value).map_err(|e| error::invalid(vec![Fault::at("", e.to_string())]))
    }

    /// Adds faults found elsewhere.
    pub fn with(mut self, faults: Vec<Fault>) -> Self {
        self.faults.extend(faults);
        self
    }

    pub fn into_parts(self) -> (Value, Vec<Fault>) {
        (self.value, self.faults)
    }
}

impl<T: Input> FromRequest<AppState> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Error> {
        if !is_json(&request) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Not JSON",
                "Send the body as Content-Type: application/json.",
            )
            .into());
        }
        let encoding =
            request.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
        if encoding.is_some_and(|encoding| encoding != b"identity") {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-content-encoding",
                "Compressed",
                "Send the body as it is, without a Content-Encoding.",
            )
            .into());
        }
        let bytes = read(request, T::MAX_BYTES).await?;
        Ok(Self::of(strict_json::parse(&bytes)?))
    }
}

/// The same, where a request without a body means `{}`.
pub struct OptionalJson<T>(pub Json<T>);

impl<T: Input> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Error> {
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        if typed && is_json(&request) {
            let bytes = read(request, T::MAX_BYTES).await?;
            let blank = bytes.iter().all(u8::is_ascii_whitespace);
            return Ok(Self(Json::of(if blank { json!({}) } else { strict_json::parse(&bytes)? })));
        }
        use axum::body::HttpBody as _;
        if request.body().is_end_stream() {
            return Ok(Self(Json::of(json!({}))));
        }
        Json::from_request(request, state).await.map(Self)
    }
}

fn is_json(request: &Request) -> bool {
    let Some(Ok(value)) = request.headers().get(header::CONTENT_TYPE).map(|v| v.to_str()) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let utf8 = parts.all(|p| match p.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    utf8 && matches!(kind.as_str(), "application/json" | "application/merge-patch+json")
}

/// The whole body, up to `most` bytes, if it comes in time.
pub async fn read(request: Request, most: usize) -> Result<Vec<u8>, Error> {
    match request.extensions().get::<BodyDeadline>().copied() {
        Some(BodyDeadline(at)) => {
            tokio::time::timeout_at(at.into(), collect(request, most)).await.unwrap_or_else(|_| Err(too_slow().into()))
        }
        None => collect(request, most).await,
    }
}

async fn collect(request: Request, most: usize) -> Result<Vec<u8>, Error> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let mut stream = request.into_body().into_data_stream();
    if announced.is_some_and(|bytes| bytes > DRAINED) {
        return Err(too_large(most).into());
    }
    // Memory is taken as bytes come, not as they are announced.
    let mut bytes = Vec::new();
    let mut seen = 0_usize;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| error::bad_request("incomplete-body", "The body broke off."))?;
        seen += chunk.len();
        if seen > DRAINED {
            break;
        }
        if seen <= most {
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
        }
    }
    if seen > most { Err(too_large(most).into()) } else { Ok(bytes) }
}

/// 408: the caller's line is slow, or the caller is not serious. No fault of ours, so nothing in the log.
fn too_slow() -> Problem {
    let detail = "The body did not arrive in time; nothing was changed.";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body took too long", detail)
        // What was not read cannot be told from a next request.
        .header(header::CONNECTION, "close")
}

fn too_large(most: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        "The body is too large",
        format!("At most {most} bytes are taken here."),
    )
    // What was not read cannot be told from a next request.
    .header(header::CONNECTION, "close")
}
