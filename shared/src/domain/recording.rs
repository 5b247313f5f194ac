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
}
