//! How somebody brings a recording: they say what it is, and are told which parts of it the store does not have yet, each with a
//! link to put it there. They ask again until nothing is missing; a job then completes the upload and verifies it. What is there
//! is always read from the store, so that whoever breaks off anywhere goes on by asking once more.

use serde::Serialize;
use shared::{
    db::recordings::uploads::{self, Brought},
    domain::{
        ids::TenantId,
        recording::{Recording, RecordingState},
        session::Session,
    },
    jobs::ImportRecording,
    queue::{Cause, Tx},
};
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::Caller,
    error::{Error, Problem, Result},
    middleware::current_request_id,
    schema,
    state::AppState,
    storage::StoredPart,
};

/// All parts but the last have this size; 64 GiB are 4,096 of them, and S3 takes 10,000.
pub const PART_BYTES: u64 = 16 * 1024 * 1024;
/// Larger files are refused.
pub const LARGEST: u64 = 64 * 1024 * 1024 * 1024;
/// So many links at a time: they are to be used within the hour.
const LINKS: usize = 20;

/// What is to be done next.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadBody {
    pub recording_id: Uuid,
    /// `expected` until all parts are there, then on its way to `published`. Of one that `failed`, asking again begins anew.
    #[schema(schema_with = schema::recording)]
    pub state: RecordingState,
    /// How much of the file is there.
    pub bytes_done: u64,
    pub bytes: u64,
    /// Parts that are missing, the first ones; ask again when they are sent. None: there is nothing to send.
    pub parts: Vec<PartBody>,
}

/// A part that is missing.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartBody {
    /// From 1.
    #[schema(example = 1)]
    pub number: u16,
    /// Where it begins in the file, in bytes from 0.
    #[schema(example = 0)]
    pub first: u64,
    #[schema(example = 16_777_216)]
    pub bytes: u64,
    /// PUT its bytes there, with a Content-Length, within the hour.
    #[schema(value_type = String, example = "https://s3.example.org/recordings/…?partNumber=1&uploadId=…&X-Amz-Signature=…")]
    pub url: Url,
}

/// Who brings it.
#[derive(Clone, Copy)]
pub enum Bringer<'a> {
    Person(&'a Caller),
    /// The machines of the session's provider.
    Provider(TenantId),
}

impl Bringer<'_> {
    async fn begin(self, state: &AppState) -> sqlx::Result<Tx> {
        match self {
            Self::Person(caller) => state.begin_for(caller).await,
            Self::Provider(tenant) => {
                let cause = Cause { actor: "provider", request_id: &current_request_id() };
                Tx::begin_for(&state.db, &state.dispatcher, Some(tenant), cause).await
            }
        }
    }
}

/// Judges how far a recording has come.
pub async fn next(state: &AppState, by: Bringer<'_>, session: &Session, brought: &Brought<'_>) -> Result<UploadBody> {
    let mut tx = by.begin(state).await?;
    let recording = uploads::begin(&mut tx, session, brought).await?;
    tx.commit().await?;
    if recording.state != RecordingState::Expected {
        return Ok(answer(&recording, Vec::new()));
    }
    let key = recording.key_in_store();
    let (upload_id, there) = upload(state, by, &recording, &key).await?;
    let Some((upload_id, there)) = upload_id.map(|id| (id, there)) else { return Ok(answer(&recording, Vec::new())) };
    let bytes = u64::try_from(brought.bytes).unwrap_or_default();
    let all = plan(bytes);
    let done = all.iter().filter(|part| there.contains(part)).map(|part| part.bytes).sum();
    let mut tx = by.begin(state).await?;
    if done == bytes {
        uploads::hand_over(&mut *tx, recording.id, &upload_id).await?;
        tx.enqueue(&ImportRecording { recording_id: recording.id }).await?;
        tx.commit().await?;
        return Ok(UploadBody {
            state: RecordingState::Available,
            bytes_done: bytes,
            ..answer(&recording, Vec::new())
        });
    }
    uploads::set_progress(&mut *tx, recording.id, i64::try_from(done).unwrap_or(i64::MAX)).await?;
    tx.commit().await?;
    let missing = all.iter().filter(|part| !there.contains(part)).take(LINKS).map(|part| PartBody {
        number: part.number,
        first: u64::from(part.number - 1) * PART_BYTES,
        bytes: part.bytes,
        url: state.storage.part_link(&key, &upload_id, part.number),
    });
    Ok(UploadBody { bytes_done: done, ..answer(&recording, missing.collect()) })
}

/// The upload that holds, and what is in it; begins one where there is none, or it is gone.
async fn upload(
    state: &AppState,
    by: Bringer<'_>,
    recording: &Recording,
    key: &str,
) -> Result<(Option<String>, Vec<StoredPart>)> {
    if let Some(id) = &recording.upload_id
        && let Some(parts) = state.storage.parts(key, id).await.map_err(|error| unavailable(&error))?
    {
        return Ok((Some(id.clone()), parts));
    }
    let started =
        state.storage.start_upload(key, &recording.content_type).await.map_err(|error| unavailable(&error))?;
    // Dying here leaves an upload that no row knows: `sync-recordings` aborts it.
    let mut tx = by.begin(state).await?;
    let holds = uploads::set_upload(&mut *tx, recording.id, recording.upload_id.as_deref(), &started).await?;
    tx.commit().await?;
    match holds {
        // Somebody else has asked at the same time.
        Some(id) if id != started => {
            let parts = state.storage.parts(key, &id).await.map_err(|error| unavailable(&error))?;
            Ok((Some(id), parts.unwrap_or_default()))
        }
        holds => Ok((holds, Vec::new())),
    }
}

/// The parts of a file of so many bytes.
fn plan(bytes: u64) -> Vec<StoredPart> {
    let count = bytes.div_ceil(PART_BYTES).min(u64::from(u16::MAX));
    let number = |n: u64| u16::try_from(n + 1).unwrap_or(u16::MAX);
    (0..count).map(|n| StoredPart { number: number(n), bytes: PART_BYTES.min(bytes - n * PART_BYTES) }).collect()
}

fn answer(recording: &Recording, parts: Vec<PartBody>) -> UploadBody {
    let number = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    UploadBody {
        recording_id: recording.id.0,
        state: recording.state,
        bytes_done: number(Some(recording.bytes_done)),
        bytes: number(recording.announced_bytes.or(recording.size_bytes)),
        parts,
    }
}

fn unavailable(error: &anyhow::Error) -> Error {
    tracing::warn!(request.id = current_request_id(), error = format!("{error:#}"), "the object store was not asked");
    Problem::new(
        axum::http::StatusCode::SERVICE_UNAVAILABLE,
        "storage-unavailable",
        "The object store does not answer",
        "Nothing is lost: ask again.",
    )
    .retry_after(5)
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_into_parts_without_a_gap() {
        let sizes = |bytes| plan(bytes).iter().map(|part| part.bytes).collect::<Vec<_>>();
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(PART_BYTES), [PART_BYTES]);
        assert_eq!(sizes(2 * PART_BYTES + 1), [PART_BYTES, PART_BYTES, 1]);
        assert_eq!((plan(LARGEST).len(), plan(LARGEST)[4_095].number), (4_096, 4_096));
    }
}
