//! How a session looks on the wire, in and out.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::domain::{
    ids::SessionId,
    provider::ProviderKind,
    session::{Access, EndReason, Session, SessionKind, SessionStatus},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{body::LARGEST, extract::Etag, routes::invitees::NewInvitee, schema};

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionBody {
    pub id: Uuid,
    #[schema(schema_with = schema::kind)]
    pub kind: SessionKind,
    #[schema(schema_with = schema::status)]
    pub status: SessionStatus,
    #[schema(example = "Algebra II")]
    pub title: String,
    pub description: String,
    /// The LMS's own key of the course.
    pub course_id: Option<String>,
    /// The `sub` of the person who holds the class.
    pub host_id: String,
    pub host_name: String,
    /// Who may join: the invitees, or everybody of the tenant.
    #[schema(schema_with = schema::access)]
    pub access: Access,
    #[schema(schema_with = schema::provider)]
    pub provider: ProviderKind,
    /// The provider configuration; null for the provider that the operator has configured.
    pub provider_config_id: Option<Uuid>,
    /// The meeting's name at the provider.
    pub room: String,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    /// IANA name of the zone in which the class was planned.
    #[schema(example = "Europe/Istanbul")]
    pub timezone: String,
    /// The host is not counted.
    pub max_participants: Option<i32>,
    pub recording_enabled: bool,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    #[schema(schema_with = schema::end_reason_or_null)]
    pub end_reason: Option<EndReason>,
    pub cancelled_at: Option<DateTime<Utc>>,
    pub cancel_reason: Option<String>,
    /// Whether the attendance report is final.
    pub attendance_final: bool,
    /// iCalendar SEQUENCE: raised when time, zone or title change, on cancelling, and when people who were told of the
    /// session are taken off the list of invitees, or put on it again.
    pub sequence: i32,
    /// The ETag without its quotes.
    pub version: i64,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl From<Session> for SessionBody {
    fn from(s: Session) -> Self {
        Self {
            id: s.id.0,
            kind: s.kind,
            status: s.status,
            title: s.title,
            description: s.description,
            course_id: s.course_id,
            host_id: s.host_id,
            host_name: s.host_name,
            access: s.access,
            provider: s.provider,
            provider_config_id: s.provider_config_id.map(|id| id.0),
            room: s.room,
            starts_at: s.starts_at,
            ends_at: s.ends_at,
            timezone: s.timezone,
            max_participants: s.max_participants,
            recording_enabled: s.recording_enabled,
            started_at: s.started_at,
            ended_at: s.ended_at,
            end_reason: s.end_reason,
            cancelled_at: s.cancelled_at,
            cancel_reason: s.cancel_reason,
            attendance_final: s.finalized_at.is_some(),
            sequence: s.sequence,
            version: s.version,
            created_by: s.created_by,
            created_at: s.created_at,
            updated_at: s.updated_at,
        }
    }
}

/// The tag of a session's present version.
pub fn etag(session: &Session) -> Etag {
    Etag::of(session.version)
}

/// A session as an answer, with its ETag.
pub fn respond(status: StatusCode, session: Session) -> Response {
    let tag = etag(&session);
    let mut response = (status, Json(SessionBody::from(session))).into_response();
    if let Ok(value) = HeaderValue::try_from(tag.as_str()) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// A new session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        example = "Algebra II"
    )]
    pub title: String,
    #[schema(max_length = 5000)]
    pub description: Option<String>,
    /// `scheduled` when left out. An `instant` session starts now.
    #[schema(schema_with = schema::kind_or_null)]
    pub kind: Option<SessionKind>,
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    )]
    pub course_id: Option<String>,
    /// The `sub` of the person who holds it; administrators and services only, the caller when left out.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    )]
    pub host_id: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 200)]
    pub host_name: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 254, format = "email")]
    pub host_email: Option<String>,
    /// `invitees` when left out.
    #[schema(schema_with = schema::access_or_null)]
    pub access: Option<Access>,
    /// Which provider; when left out together with `provider_config_id`: the tenant's default, else the operator's.
    #[schema(schema_with = schema::provider_or_null)]
    pub provider: Option<ProviderKind>,
    /// Which of the tenant's provider configurations. When left out: of `provider`, the default or the oldest.
    pub provider_config_id: Option<Uuid>,
    /// Required unless `kind` is `instant`.
    #[schema(example = "2030-09-02T09:00:00+03:00")]
    pub starts_at: Option<DateTime<Utc>>,
    /// Required unless `kind` is `instant`; at most 24 hours after the start.
    #[schema(example = "2030-09-02T10:00:00+03:00")]
    pub ends_at: Option<DateTime<Utc>>,
    /// Of an instant session; 60 when left out.
    #[schema(minimum = 1, maximum = 1440)]
    pub duration_minutes: Option<i64>,
    /// IANA name; the tenant's zone when left out.
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 64, example = "Europe/Istanbul")]
    pub timezone: Option<String>,
    /// The host is not counted; no limit when left out.
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_participants: Option<i32>,
    pub recording_enabled: Option<bool>,
    #[schema(max_items = 10_000)]
    pub invitees: Option<Vec<NewInvitee>>,
}

crate::input!(NewSession, max_bytes = LARGEST);

/// All that can be changed of a session. While it is live: title and description only.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionUpdate {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    )]
    pub title: String,
    #[schema(max_length = 5000)]
    pub description: Option<String>,
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    )]
    pub course_id: Option<String>,
    /// Administrators and services only; the same as before when left out.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    )]
    pub host_id: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 200)]
    pub host_name: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 254, format = "email")]
    pub host_email: Option<String>,
    #[schema(schema_with = schema::access_or_null)]
    pub access: Option<Access>,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    /// The tenant's zone when left out.
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 64)]
    pub timezone: Option<String>,
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_participants: Option<i32>,
    pub recording_enabled: Option<bool>,
}

crate::input!(SessionUpdate);

impl From<&Session> for SessionUpdate {
    fn from(s: &Session) -> Self {
        Self {
            title: s.title.clone(),
            description: Some(s.description.clone()),
            course_id: s.course_id.clone(),
            host_id: Some(s.host_id.clone()),
            host_name: Some(s.host_name.clone()),
            host_email: s.host_email.clone(),
            access: Some(s.access),
            starts_at: s.starts_at,
            ends_at: s.ends_at,
            timezone: Some(s.timezone.clone()),
            max_participants: s.max_participants,
            recording_enabled: Some(s.recording_enabled),
        }
    }
}

/// A change of some fields (JSON merge patch, RFC 7396): what is left out stays, `null` clears.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionPatch {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        nullable = false
    )]
    pub title: Option<String>,
    #[schema(max_length = 5000)]
    pub description: Option<String>,
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    )]
    pub course_id: Option<String>,
    /// Administrators and services only.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    )]
    pub host_id: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 200)]
    pub host_name: Option<String>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 254, format = "email")]
    pub host_email: Option<String>,
    #[schema(schema_with = schema::access_or_null)]
    pub access: Option<Access>,
    #[schema(nullable = false)]
    pub starts_at: Option<DateTime<Utc>>,
    #[schema(nullable = false)]
    pub ends_at: Option<DateTime<Utc>>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length = 64)]
    pub timezone: Option<String>,
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_participants: Option<i32>,
    pub recording_enabled: Option<bool>,
}

crate::input!(SessionPatch);

/// Why a session is called off.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancellation {
    /// Told to the invitees.
    #[schema(max_length = 1000)]
    pub reason: Option<String>,
}

crate::input!(Cancellation);

/// The id in an address of a new session.
pub fn location(public_url: &str, id: SessionId) -> String {
    format!("{}{}/sessions/{id}/", public_url.trim_end_matches('/'), crate::router::BASE)
}
