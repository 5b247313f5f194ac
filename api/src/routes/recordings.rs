//! Recordings of sessions, and the way to their files.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    db::recordings,
    domain::{
        ids::{RecordingId, SessionId},
        recording::{Recording, RecordingState},
    },
    jobs::{self, DeleteRecording, ImportRecording},
    queue::Tx,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Caller,
    body,
    error::{Error, Result, conflict, not_found},
    extract::{Id, Query},
    page::{Address, Page, Wanted},
    permissions::{Right, see, see_on},
    router::BASE,
    schema,
    state::AppState,
};

/// A recording.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recording)]
pub struct RecordingBody {
    pub id: Uuid,
    pub session_id: Uuid,
    /// `published`: everybody of the session sees it; `stored`: it is there, and shown to who runs the session alone. Both can be
    /// downloaded where they have no `playback_url`.
    #[schema(schema_with = schema::recording)]
    pub state: RecordingState,
    pub file_name: String,
    pub content_type: String,
    /// How many bytes the import has stored so far.
    pub bytes_done: i64,
    /// How many the provider announced, if it did.
    pub announced_bytes: Option<i64>,
    /// How fast it is being fetched; null while it is not, or nothing can be told yet.
    pub bytes_per_second: Option<i64>,
    /// When all of it is likely to be there; null where the size is not known.
    pub estimated_end_at: Option<DateTime<Utc>>,
    pub size_bytes: Option<i64>,
    /// Of the file, in lower-case hex.
    pub sha256: Option<String>,
    pub duration_seconds: Option<i64>,
    pub recorded_from: Option<DateTime<Utc>>,
    pub recorded_to: Option<DateTime<Utc>>,
    /// Where it is to be watched at the provider, when it is a page and no file; there is nothing to download then.
    pub playback_url: Option<String>,
    /// What it is, by the provider's word: `presentation`, `video`, `notes`, …; null where the provider has one form alone.
    #[schema(example = "presentation")]
    pub format: Option<String>,
    /// Why it failed or is missing; of one that is not there yet, why the last attempt failed.
    pub error: Option<String>,
    /// Until when the file has to be there; after it the recording is `missing`.
    pub deadline_at: Option<DateTime<Utc>>,
    pub stored_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl From<Recording> for RecordingBody {
    fn from(r: Recording) -> Self {
        let pace = r.pace();
        let left = pace.and_then(|(_, seconds)| seconds).map(TimeDelta::seconds);
        Self {
            id: r.id.0,
            session_id: r.session_id.0,
            state: r.state,
            file_name: r.file_name,
            content_type: r.content_type,
            bytes_done: r.bytes_done,
            announced_bytes: r.announced_bytes,
            bytes_per_second: pace.map(|(speed, _)| speed),
            estimated_end_at: left.and_then(|left| r.updated_at.checked_add_signed(left)),
            size_bytes: r.size_bytes,
            sha256: r.sha256,
            duration_seconds: r.duration_seconds,
            recorded_from: r.recorded_from,
            recorded_to: r.recorded_to,
            playback_url: r.playback_url,
            format: r.format,
            error: r.error,
            deadline_at: r.deadline_at,
            stored_at: r.stored_at,
            created_at: r.created_at,
            updated_at: r.updated_at,
        }
    }
}

/// Which page of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRecordings {
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// Recordings of a session, oldest first. Who only takes part sees those that are published.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/{id}/recordings/", tag = "recordings",
    params(("id" = Uuid, Path, description = "The session"), ListRecordings),
    responses((status = 200, body = Page<RecordingBody>)),
)]
pub async fn list_recordings(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Query(query): Query<ListRecordings>,
) -> Result<Json<Page<RecordingBody>>> {
    let (mut tx, seen) = see(&state, &caller, id, Right::View).await?;
    let wanted = Wanted::<Uuid>::parse(query.cursor.as_deref(), query.page_size)?;
    let all = seen.standing.may(Right::Inspect);
    let rows =
        recordings::page(&mut *tx, id, all, wanted.after.map(RecordingId), !wanted.backwards, wanted.limit()).await?;
    let address = Address {
        path: format!("{}{BASE}/sessions/{id}/recordings/", state.config.public_url.trim_end_matches('/')),
        parameters: Vec::new(),
    };
    Ok(Json(wanted.page(rows, &address, |r| r.id.0, RecordingBody::from)))
}

/// One recording.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/recordings/{id}/", tag = "recordings",
    params(("id" = Uuid, Path, description = "The recording")),
    responses((status = 200, body = RecordingBody)),
)]
pub async fn get_recording(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<RecordingId>,
) -> Result<Json<RecordingBody>> {
    Ok(Json(visible(&state, &caller, id).await?.into()))
}

/// Redirects to the file, by a link that is good for five minutes.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/recordings/{id}/download/", tag = "recordings",
    params(("id" = Uuid, Path, description = "The recording")),
    responses(
        (status = 302, description = "To the file", headers(("location" = String, description = "Presigned link"))),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`recording-not-ready`, or `recording-is-a-page`: to be watched at `playback_url`"),
        (status = 410, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`recording-deleted`"),
    ),
)]
pub async fn download_recording(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<RecordingId>,
) -> Result<Response> {
    let recording = visible(&state, &caller, id).await?;
    if recording.state == RecordingState::Deleted {
        let mut problem = conflict("recording-deleted", "Deleted", "The recording was deleted.");
        problem.status = StatusCode::GONE;
        return Err(problem.into());
    }
    if let (Some(url), None, RecordingState::Published) =
        (&recording.playback_url, &recording.object_key, recording.state)
    {
        let detail = format!("It is a page at the provider, to be opened in a browser: {url}");
        return Err(conflict("recording-is-a-page", "Not a file", detail).into());
    }
    let key = match (&recording.object_key, recording.state) {
        (Some(key), RecordingState::Stored | RecordingState::Published) => key,
        _ => {
            let problem = conflict("recording-not-ready", "Not ready", "The file has not been stored yet.");
            return Err(problem.retry_after(30).into());
        }
    };
    let link = state.storage.download_link(key, &recording.file_name, &recording.content_type);
    let link = HeaderValue::try_from(link.as_str()).map_err(anyhow::Error::from)?;
    let no_store = HeaderValue::from_static("private, no-store");
    Ok((StatusCode::FOUND, [(header::LOCATION, link), (header::CACHE_CONTROL, no_store)]).into_response())
}

/// Delete a recording, here and at its provider, where that keeps one (`bbb`: once all its formats are deleted). Deleted again, it stays
/// so.
#[utoipa::path(
    delete, path = "/api/v1/live-sessions/recordings/{id}/", tag = "recordings",
    params(("id" = Uuid, Path, description = "The recording")),
    responses(
        (status = 204, description = "It is deleted; the file goes within a day"),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`recording-not-ready`: it is still to come, or just being fetched"),
    ),
)]
pub async fn delete_recording(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<RecordingId>,
) -> Result<StatusCode> {
    visible(&state, &caller, id).await?;
    let mut tx = state.begin_for(&caller).await?;
    let recording = recordings::find(&mut *tx, id).await?.ok_or_else(|| not_found("recording"))?;
    see_on(&mut tx, &caller, recording.session_id, Right::Manage).await?;
    if recordings::delete(&mut *tx, id).await?.is_none() {
        let detail = "The recording is still to come; what is there can be deleted.";
        return Err(conflict("recording-not-ready", "Not ready", detail).retry_after(30).into());
    }
    tx.enqueue(&DeleteRecording { recording_id: id }).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is changed of a recording.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordingPatch {
    /// False: only who runs the session sees it (`stored`). True: everybody of it does (`published`).
    published: bool,
}

crate::input!(RecordingPatch);

/// Show a recording to everybody of its session, or to who runs it alone. At a `bbb` it is shown and hidden at the server, too.
#[utoipa::path(
    patch, path = "/api/v1/live-sessions/recordings/{id}/", tag = "recordings",
    params(("id" = Uuid, Path, description = "The recording")),
    request_body(content((RecordingPatch = "application/json"), (RecordingPatch = "application/merge-patch+json"))),
    responses(
        (status = 200, body = RecordingBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`recording-not-ready`: there is nothing yet, or not any more, to be shown"),
    ),
)]
pub async fn patch_recording(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<RecordingId>,
    body: body::Json<RecordingPatch>,
) -> Result<Json<RecordingBody>> {
    let mut tx = state.begin_for(&caller).await?;
    let recording = visible_on(&mut tx, &caller, id).await?;
    see_on(&mut tx, &caller, recording.session_id, Right::Manage).await?;
    let wanted = body.check(|_| Vec::new())?;
    let Some(changed) = recordings::set_published(&mut *tx, id, wanted.published).await? else {
        let detail = "There is nothing yet, or not any more, to be shown.";
        return Err(conflict("recording-not-ready", "Not ready", detail).retry_after(30).into());
    };
    if changed.state != recording.state {
        tx.enqueue(&jobs::PublishRecording { recording_id: id }).await?;
    }
    tx.commit().await?;
    Ok(Json(changed.into()))
}

/// Try a recording again that failed or is missing: it is fetched where its address is known, else the provider is asked, or waited
/// for, for another day. One that is on its way already stays so.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/recordings/{id}/retry/", tag = "recordings",
    params(("id" = Uuid, Path, description = "The recording")),
    responses(
        (status = 200, body = RecordingBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`nothing-to-retry`: it is there, or was deleted"),
    ),
)]
pub async fn retry_recording(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<RecordingId>,
) -> Result<Json<RecordingBody>> {
    let mut tx = state.begin_for(&caller).await?;
    let recording = visible_on(&mut tx, &caller, id).await?;
    see_on(&mut tx, &caller, recording.session_id, Right::Manage).await?;
    if let Some(again) = recordings::retry(&mut *tx, id).await? {
        match again.state {
            RecordingState::Available => _ = tx.enqueue(&ImportRecording { recording_id: id }).await?,
            _ => _ = tx.enqueue(&jobs::ListRecordings { session_id: again.session_id }).await?,
        }
        tx.commit().await?;
        return Ok(Json(again.into()));
    }
    if matches!(recording.state, RecordingState::Stored | RecordingState::Published | RecordingState::Deleted) {
        let detail = "Only what failed or is missing is tried again.";
        return Err(conflict("nothing-to-retry", "Nothing to try again", detail).into());
    }
    tx.commit().await?;
    Ok(Json(recording.into()))
}

/// The recording, if the caller may see its session; for people who only take part, if it is published.
async fn visible(state: &AppState, caller: &Caller, id: RecordingId) -> Result<Recording, Error> {
    visible_on(&mut state.begin_for(caller).await?, caller, id).await
}

async fn visible_on(tx: &mut Tx, caller: &Caller, id: RecordingId) -> Result<Recording, Error> {
    let none = || Error::from(not_found("recording"));
    let recording = recordings::find(&mut **tx, id).await?.ok_or_else(none)?;
    if recording.tenant_id != caller.tenant.id {
        return Err(none());
    }
    let seen = match see_on(tx, caller, recording.session_id, Right::View).await {
        Ok(seen) => seen,
        Err(Error::Problem(_)) => return Err(none()),
        Err(error) => return Err(error),
    };
    let ready = matches!(recording.state, RecordingState::Published | RecordingState::Deleted);
    if ready || seen.standing.may(Right::Inspect) { Ok(recording) } else { Err(none()) }
}
