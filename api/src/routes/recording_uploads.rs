//! Recordings that somebody brings: Jibri's script, or a person who has a film of the class.

use axum::{
    Json as Answer,
    extract::{FromRequestParts, RawPathParams, Request, State},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::{
    db::{recordings::uploads::Brought, sessions},
    domain::{
        ids::{ProviderConfigId, SessionId},
        provider::ProviderKind,
    },
    providers::{Providers, WebhookError},
};
use utoipa::ToSchema;

use crate::{
    auth::Caller,
    body::{Input as _, Json, read},
    error::{Error, Result, conflict, not_found, unauthorized},
    extract::Id,
    middleware::current_request_id,
    permissions::{Right, see},
    state::AppState,
    strict_json,
    uploads::{self, Bringer, UploadBody},
};

/// A film of a class.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadRecording {
    /// Its name, as it is downloaded later; by its end it is a film or sound.
    #[schema(
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f/\\]{1,190}\.([mM][pP]4|[wW][eE][bB][mM]|[mM]4[aA])$",
        example = "Algebra.mp4"
    )]
    file_name: String,
    /// Size of the file.
    #[schema(minimum = 1, maximum = 68_719_476_736_i64, example = 734_003_200)]
    bytes: i64,
}

crate::input!(UploadRecording);

/// What Jibri has recorded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// As in the meeting's address.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00]*$",
        example = "matematik-5a-1f2e3d-abcdefghijklmnop"
    )]
    room: String,
    /// Jibri's name of the recording: the directory in which it lies. With the file's name it tells a repeat from another one.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", example = "kqzdmbvwnbqyzllw")]
    recording: String,
    #[schema(
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f/\\]{1,190}\.([mM][pP]4|[wW][eE][bB][mM]|[mM]4[aA])$",
        example = "matematik-5a-1f2e3d_2026-11-26-10-31-07.mp4"
    )]
    file_name: String,
    #[schema(minimum = 1, maximum = 68_719_476_736_i64, example = 734_003_200)]
    bytes: i64,
    /// Of the file, in lower-case hex.
    #[schema(pattern = "^[0-9a-f]{64}$", example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    sha256: String,
}

crate::input!(HandOver);

/// SHA-256 of a file, by which it is known.
pub struct FileDigest(String);

impl<S: Send + Sync> FromRequestParts<S> for FileDigest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| not_found("upload"))?;
        let text = params.iter().find(|(name, _)| *name == "sha256").map(|(_, value)| value);
        let is_digest = |text: &&str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        text.filter(is_digest).map(|text| Self(text.to_owned())).ok_or_else(|| not_found("upload").into())
    }
}

/// Bring a recording of this session. Say what it is, PUT the parts that the answer names, and ask again, until `state` is
/// `published`. Whatever breaks off meanwhile goes on in the same way.
#[utoipa::path(
    put, path = "/api/v1/live-sessions/sessions/{id}/uploads/{sha256}/", tag = "recordings",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("sha256" = String, Path, description = "SHA-256 of the file, in lower-case hex",
            example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
    ),
    request_body = UploadRecording,
    responses(
        (status = 200, body = UploadBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-not-started`: there is nothing that could have been recorded"),
        (status = 503, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`storage-unavailable`, or one of the service's own reasons; ask again"),
    ),
)]
pub async fn upload_recording(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    FileDigest(sha256): FileDigest,
    body: Json<UploadRecording>,
) -> Result<Answer<UploadBody>> {
    let (tx, seen) = see(&state, &caller, id, Right::Manage).await?;
    tx.rollback().await?;
    let body = body.check(|_| Vec::new())?;
    if seen.session.started_at.is_none() {
        let detail = "The session has not started: nothing can have been recorded.";
        return Err(conflict("session-not-started", "Not started", detail).into());
    }
    let name = file_name(&body.file_name);
    let brought = Brought {
        external_id: &format!("upload:{sha256}"),
        file_name: &name,
        content_type: content_type(&name),
        bytes: body.bytes,
        sha256: &sha256,
    };
    Ok(Answer(uploads::next(&state, Bringer::Person(&caller), &seen.session, &brought).await?))
}

/// Jibri's script hands over what was recorded at the Jitsi that the environment configures. Signed as webhooks are: with
/// `webhook-id`, `webhook-timestamp`, `webhook-signature`, or with the secret as the bearer token. Asked again, it says what is
/// still missing. With `Accept: text/plain` the answer is lines: `state <state>`, and `part <number> <first> <bytes> <url>` for
/// each missing part.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/recordings/", tag = "webhooks",
    request_body = HandOver,
    responses(
        (status = 200, content((UploadBody = "application/json"), (String = "text/plain"))),
        (status = 404, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "No session meets in this room"),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`: signed at another time"),
        (status = 503, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`storage-unavailable`, or one of the service's own reasons; ask again"),
    ),
    security(("webhook" = [])),
)]
pub async fn hand_over_recording(State(state): State<AppState>, request: Request) -> Result<Response> {
    let providers = state.providers.clone();
    hand_over(&state, &providers, None, request).await
}

/// The same at the Jitsi of a provider configuration, with its `webhook_secret`.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/jitsi/{id}/recordings/", tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The provider configuration")),
    request_body = HandOver,
    responses(
        (status = 200, content((UploadBody = "application/json"), (String = "text/plain"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`webhook-stale`: signed at another time"),
        (status = 503, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`storage-unavailable`, or one of the service's own reasons; ask again"),
    ),
    security(("webhook" = [])),
)]
pub async fn hand_over_recording_of_config(
    State(state): State<AppState>,
    Id(id): Id<ProviderConfigId>,
    request: Request,
) -> Result<Response> {
    let mut connection = state.db.acquire().await?;
    let opened = state.provider_configs.find(&mut connection, id).await?;
    drop(connection);
    let opened = opened.filter(|opened| opened.kind == ProviderKind::Jitsi);
    let opened = opened.ok_or_else(|| not_found("provider configuration"))?;
    hand_over(&state, &opened.providers, Some(id), request).await
}

async fn hand_over(
    state: &AppState,
    providers: &Providers,
    config: Option<ProviderConfigId>,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let plain = wants_lines(&parts.headers);
    let headers: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let body = read(Request::from_parts(parts, body), HandOver::MAX_BYTES).await?;
    providers.verify_jitsi(&headers, &body, state.clock.now()).map_err(|error| refused(&error))?;
    let told = Json::<HandOver>::of(strict_json::parse(&body)?).check(|_| Vec::new())?;
    let session = sessions::find_by_room(&state.db, &told.room.to_lowercase()).await?;
    // A secret is good for the sessions of its configuration alone.
    let session = session
        .filter(|session| session.provider == ProviderKind::Jitsi && session.provider_config_id == config)
        .ok_or_else(|| not_found("session"))?;
    let name = file_name(&told.file_name);
    let brought = Brought {
        external_id: &format!("jibri:{}/{}", told.recording, told.file_name),
        file_name: &name,
        content_type: content_type(&name),
        bytes: told.bytes,
        sha256: &told.sha256,
    };
    let answer = uploads::next(state, Bringer::Provider(session.tenant_id), &session, &brought).await?;
    Ok(if plain { lines(&answer).into_response() } else { Answer(answer).into_response() })
}

fn refused(error: &WebhookError) -> Error {
    tracing::warn!(request.id = current_request_id(), error = %error, "a recording that was handed over was refused");
    match error {
        WebhookError::Stale => {
            let detail = "The signature is right, but its time is out of tolerance; check the clocks.";
            conflict("webhook-stale", "Signed at another time", detail).into()
        }
        _ => unauthorized("The signature is missing or wrong.", "Bearer realm=\"live-sessions\"").into(),
    }
}

fn wants_lines(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|value| value.as_bytes().starts_with(b"text/plain"))
}

/// For scripts that have no parser of JSON.
fn lines(answer: &UploadBody) -> String {
    let state = serde_json::to_value(answer.state).unwrap_or_default();
    let parts = answer.parts.iter().map(|p| format!("part {} {} {} {}\n", p.number, p.first, p.bytes, p.url));
    std::iter::once(format!("state {}\n", state.as_str().unwrap_or_default())).chain(parts).collect()
}

/// With its ending in small letters: by that the object is named.
fn file_name(given: &str) -> String {
    match given.rsplit_once('.') {
        Some((name, ending)) => format!("{name}.{}", ending.to_lowercase()),
        None => given.to_owned(),
    }
}

fn content_type(file_name: &str) -> &'static str {
    match file_name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("webm") => "video/webm",
        Some("m4a") => "audio/mp4",
        _ => "video/mp4",
    }
}
