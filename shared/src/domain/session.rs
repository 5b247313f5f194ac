//! A class: its states and which of them may follow which.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::{
    ids::{ProviderConfigId, SessionId, TenantId},
    provider::ProviderKind,
};

/// `scheduled → live → ended`, `scheduled → cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum SessionStatus {
    Scheduled,
    Live,
    Ended,
    Cancelled,
}

impl SessionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Live => "live",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether a session may go from here to `next`. Staying is always allowed: start, end and
    /// cancel are idempotent.
    pub fn may_become(self, next: Self) -> bool {
        self == next
            || matches!((self, next), (Self::Scheduled, Self::Live | Self::Cancelled) | (Self::Live, Self::Ended))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum SessionKind {
    /// Planned for a time.
    Scheduled,
    /// Starts at its creation.
    Instant,
    /// Participants only watch.
    Webinar,
}

/// Who may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Access {
    /// Only people on the list of invitees (and the host).
    Invitees,
    /// Everybody of the tenant.
    Tenant,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody entitled ended it.
    Host,
    /// The provider said that the meeting is over.
    Provider,
    /// Past its end and empty.
    Overdue,
    /// Planned, never started, and its time is over.
    Abandoned,
}

/// A row of `sessions`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Session {
    pub id: SessionId,
    pub tenant_id: TenantId,
    pub kind: SessionKind,
    pub status: SessionStatus,
    pub title: String,
    pub description: String,
    pub course_id: Option<String>,
    pub host_id: String,
    pub host_name: String,
    pub host_email: Option<String>,
    pub access: Access,
    pub provider: ProviderKind,
    /// `None`: the provider that the environment configures.
    pub provider_config_id: Option<ProviderConfigId>,
    pub room: String,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    pub timezone: String,
    pub max_participants: Option<i32>,
    pub recording_enabled: bool,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub end_reason: Option<EndReason>,
    pub cancelled_at: Option<DateTime<Utc>>,
    pub cancel_reason: Option<String>,
    pub attendance_rules: Option<serde_json::Value>,
    pub finalized_at: Option<DateTime<Utc>>,
    pub sequence: i32,
    pub version: i64,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Session {
    /// From when on participants may join, and a host's coming starts the session. `before_s` is the tenant's
    /// `join_opens_before`, in seconds.
    pub fn opens_at(&self, before_s: i32) -> DateTime<Utc> {
        self.starts_at - Duration::seconds(i64::from(before_s))
    }
}

#[cfg(test)]
mod tests {
    use super::SessionStatus::*;

    #[test]
    fn only_the_documented_transitions_are_allowed() {
        let all = [Scheduled, Live, Ended, Cancelled];
        let allowed: Vec<_> = all
            .iter()
            .flat_map(|a| all.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| a != b && a.may_become(*b))
            .collect();
        assert_eq!(allowed, [(Scheduled, Live), (Scheduled, Cancelled), (Live, Ended)]);
    }
}
