//! What a BigBlueButton calls because `create` named it: at the end of a meeting, when a recording is ready, and with the
//! learning analytics. They are kept and processed as webhooks are.
//!
//! Each has a way of its own to tell who calls. To a session that is not there the answer is 410, never 404: a Scalelite, which
//! tries one secret after another, would stop at that.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, RawQuery, Request, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::{
    db::sessions,
    domain::{ids::SessionId, provider::ProviderKind, session::Session},
    providers::{
        Providers, Received, WebhookError, WebhookSource,
        bbb::{Bbb, callback_events},
    },
};
use utoipa::{IntoParams, ToSchema};

use super::{WebhookAnswer, WebhookStatus, count, refused, store};
use crate::{
    body::{MEBIBYTE, read},
    error::{Error, Problem, Result},
    extract::Id,
    provider_configs::Opened,
    router::WEBHOOKS,
    state::AppState,
};

/// Of analytics, which take some kilobytes for each person.
const LARGEST_ANALYTICS: usize = 8 * MEBIBYTE;

/// With what the addresses of a session's callbacks begin, behind the service's own.
pub fn base(session: SessionId) -> String {
    format!("{WEBHOOKS}bbb/callbacks/{session}/")
}

/// What a server adds to the address.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone")]
pub struct EndedMeeting {
    /// Whether anybody had something recorded: if not, no recording will come.
    recordingmarks: Option<bool>,
}

/// What a server sends for a recording.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "for the document alone")]
pub struct ReadyRecording {
    /// A token (HS256 or HS512, by the shared secret) with `meeting_id` and `record_id`.
    #[schema(example = "eyJhbGciOiJIUzI1NiJ9.eyJtZWV0aW5nX2lkIjoiYWxnZWJyYSJ9.c2lnbmF0dXJl")]
    signed_parameters: String,
}

/// A BigBlueButton tells that a session's meeting has ended. It is believed because nobody else knows the address, and
/// asked all the same.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/webhooks/bbb/callbacks/{id}/end/{token}/", tag = "webhooks",
    params(
        ("id" = uuid::Uuid, Path, description = "The session"),
        ("token" = String, Path, description = "What makes the address one that nobody guesses"),
        EndedMeeting,
    ),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 401, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "It is not signed by this session's server"),
        (status = 410, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`meeting-gone`: there is no such session on BigBlueButton"),
    ),
    // The address itself, or what is signed in the body, is the credential.
    security(()),
)]
pub async fn receive_bbb_end(
    State(state): State<AppState>,
    Path((id, token)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<WebhookAnswer>> {
    let id: SessionId = id.parse().map_err(|_| gone())?;
    let called = Called::of(&state, id).await?;
    called.bbb()?.verify_end(&id.to_string(), &token).map_err(|error| refused(WebhookSource::Bbb, &error))?;
    let query = query.unwrap_or_default();
    let marks = query.split('&').find_map(|pair| pair.strip_prefix("recordingmarks="));
    let marks = marks.and_then(|marks| marks.parse().ok());
    called.keep(&state, |room, now| callback_events::end_callback(room, marks, now)).await
}

/// A BigBlueButton tells that a recording can be watched, or another form of it.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/bbb/callbacks/{id}/recording-ready/", tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    request_body(content = ReadyRecording, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 401, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "It is not signed by this session's server"),
        (status = 410, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`meeting-gone`: there is no such session on BigBlueButton"),
    ),
    security(()),
)]
pub async fn receive_bbb_recording_ready(
    State(state): State<AppState>,
    Id(id): Id<SessionId>,
    request: Request,
) -> Result<Json<WebhookAnswer>> {
    let called = Called::of(&state, id).await?;
    let body = read(request, MEBIBYTE).await?;
    let ready = called.bbb()?.verify_recording_ready(&body).map_err(|error| refused(WebhookSource::Bbb, &error))?;
    if ready.meeting_id != called.session.room {
        return Err(refused(WebhookSource::Bbb, &WebhookError::BadSignature).into());
    }
    called.keep(&state, |room, now| callback_events::recording_ready(room, &ready.record_id, now)).await
}

/// A BigBlueButton's learning analytics of a meeting that has ended. What people did is left out; when they were there
/// completes the attendance report.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/webhooks/bbb/callbacks/{id}/analytics/", tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The session")),
    request_body(content = Value, content_type = "application/json"),
    responses(
        (status = 200, body = WebhookAnswer),
        (status = 401, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "It is not signed by this session's server"),
        (status = 410, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`meeting-gone`: there is no such session on BigBlueButton"),
    ),
    security(()),
)]
pub async fn receive_bbb_analytics(
    State(state): State<AppState>,
    Id(id): Id<SessionId>,
    request: Request,
) -> Result<Json<WebhookAnswer>> {
    let called = Called::of(&state, id).await?;
    let headers: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    called.bbb()?.verify_analytics(&headers).map_err(|error| refused(WebhookSource::Bbb, &error))?;
    let body = read(request, LARGEST_ANALYTICS).await?;
    let malformed = |error: serde_json::Error| refused(WebhookSource::Bbb, &WebhookError::Malformed(error.to_string()));
    let body: Value = serde_json::from_slice(&body).map_err(malformed)?;
    called.keep(&state, |room, now| callback_events::analytics(room, &body, now)).await
}

/// Whose callback it is, and by whose secret it is judged.
struct Called {
    session: Session,
    opened: Option<Arc<Opened>>,
    providers: Providers,
}

impl Called {
    async fn of(state: &AppState, id: SessionId) -> Result<Self> {
        let mut connection = state.db.acquire().await?;
        let session = sessions::find(&mut *connection, id).await?.ok_or_else(gone)?;
        if session.provider != ProviderKind::Bbb {
            return Err(gone().into());
        }
        let opened = match session.provider_config_id {
            Some(id) => Some(state.provider_configs.find(&mut connection, id).await?.ok_or_else(gone)?),
            None => None,
        };
        let providers = opened.as_ref().map_or(&state.providers, |opened| &opened.providers).clone();
        Ok(Self { session, opened, providers })
    }

    fn bbb(&self) -> Result<&Bbb, Error> {
        Ok(self.providers.bbb().map_err(|_| refused(WebhookSource::Bbb, &WebhookError::NotConfigured))?)
    }

    async fn keep(
        &self,
        state: &AppState,
        told: impl FnOnce(&str, DateTime<Utc>) -> Result<Vec<Received>, WebhookError>,
    ) -> Result<Json<WebhookAnswer>> {
        let told = told(&self.session.room, state.clock.now()).map_err(|error| refused(WebhookSource::Bbb, &error))?;
        let config = self.opened.as_ref().map(|opened| (opened.id, opened.tenant));
        let status = store(state, WebhookSource::Bbb, config, &told).await?;
        count(WebhookSource::Bbb, if status == WebhookStatus::Stored { "stored" } else { "duplicate" });
        Ok(Json(WebhookAnswer { status }))
    }
}

fn gone() -> Problem {
    let detail = "There is no such session on BigBlueButton; nobody needs to call again.";
    Problem::new(StatusCode::GONE, "meeting-gone", "Gone", detail)
}
