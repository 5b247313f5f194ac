//! A recording on its way from the provider to our object store.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::ids::{RecordingId, SessionId, TenantId};

/// `expected → available → downloading → stored → published`, or `missing` (deadline passed),
/// `failed` (attempts used), `deleted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RecordingState {
    Expected,
    Available,
    Downloading,
    Stored,
    Published,
    Missing,
    Failed,
    Deleted,
}

/// A row of `recordings`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Recording {
    pub id: RecordingId,
    pub tenant_id: TenantId,
    pub session_id: SessionId,
    pub external_id: String,
    pub state: RecordingState,
    /// May carry its own authorisation: never shown, never logged.
    pub source_url: Option<String>,
    pub file_name: String,
    pub content_type: String,
    pub announced_bytes: Option<i64>,
    pub announced_sha256: Option<String>,
    pub duration_seconds: Option<i64>,
    pub recorded_from: Option<DateTime<Utc>>,
    pub recorded_to: Option<DateTime<Utc>>,
    pub upload_id: Option<String>,
    pub parts: serde_json::Value,
    pub source_etag: Option<String>,
    pub bytes_done: i64,
    pub object_key: Option<String>,
    pub size_bytes: Option<i64>,
    pub sha256: Option<String>,
    pub error: Option<String>,
    pub deadline_at: Option<DateTime<Utc>>,
    pub stored_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Where it is to be watched at the provider, when it is no file.
    pub playback_url: Option<String>,
    /// By the provider's word; `None` where it knows one form alone.
    pub format: Option<String>,
    /// Somebody has put all of it into the store, by the upload `upload_id`.
    pub handed_over_at: Option<DateTime<Utc>>,
    /// When the present attempt of its import began …
    pub import_started_at: Option<DateTime<Utc>>,
    /// … and how much was there already.
    pub import_started_bytes: i64,
}

/// Of the objects: films, sound, transcripts.
pub const EXTENSIONS: [&str; 4] = ["mp4", "webm", "m4a", "vtt"];

impl Recording {
    /// How fast the import is, in bytes per second, and how many seconds it still takes where the size is known; `None` where it
    /// does not run, or too short to tell.
    pub fn pace(&self) -> Option<(i64, Option<i64>)> {
        let since = self.import_started_at.filter(|_| self.state == RecordingState::Downloading)?;
        let seconds = (self.updated_at - since).num_milliseconds() as f64 / 1000.0;
        let speed = (self.bytes_done - self.import_started_bytes) as f64 / seconds;
        if seconds < 1.0 || speed < 1.0 {
            return None;
        }
        let left = self.announced_bytes.map(|total| ((total - self.bytes_done).max(0) as f64 / speed).ceil() as i64);
        Some((speed as i64, left))
    }

    /// `<tenant>/<session>/<recording>.<extension>`, ids without hyphens: some stores allow no more than about 110 bytes.
    pub fn key_in_store(&self) -> String {
        let (tenant, session, id) = (self.tenant_id.0, self.session_id.0, self.id.0);
        let extension = self.file_name.rsplit_once('.').map(|(_, extension)| extension);
        let extension = extension.filter(|extension| EXTENSIONS.contains(extension)).unwrap_or(EXTENSIONS[0]);
        format!("{}/{}/{}.{extension}", tenant.simple(), session.simple(), id.simple())
    }
}

/// Whether a key is one of [`Recording::key_in_store`]'s.
pub fn is_recording_key(key: &str) -> bool {
    let is_id = |text: &str| text.len() == 32 && uuid::Uuid::try_parse(text).is_ok();
    let (ids, extension) = key.rsplit_once('.').unwrap_or_default();
    let parts: Vec<&str> = ids.split('/').collect();
    EXTENSIONS.contains(&extension) && parts.len() == 3 && parts.into_iter().all(is_id)
}

#[cfg(test)]
mod tests {
    use super::is_recording_key;

    #[test]
    fn only_our_own_keys_are_taken_for_ours() {
        let id = "0190a0b0c0d0e0f00102030405060708";
        assert!(is_recording_key(&format!("{id}/{id}/{id}.mp4")));
        assert!(is_recording_key(&format!("{id}/{id}/{id}.vtt")));
        for other in [
            format!("{id}/{id}.mp4"),
            format!("{id}/{id}/{id}.exe"),
            format!("{id}/{id}/{id}"),
            format!("x/{id}/{id}.mp4"),
            String::new(),
        ] {
            assert!(!is_recording_key(&other), "{other}");
        }
    }
}
