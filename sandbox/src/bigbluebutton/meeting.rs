//! One meeting: what is known of it, and how that is told, as XML and as JSON.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::checksum::internal_id;

/// A meeting as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct Meeting {
    pub meeting_id: String,
    pub name: String,
    /// `createTime`, in milliseconds.
    pub created_ms: i64,
    pub record: bool,
    /// Ended, and about to be gone.
    pub forcibly_ended: bool,
    /// One for each join: a person in two tabs is there twice.
    pub attendees: Vec<Attendee>,
    /// What `create` said with `meta_`, in lower case.
    pub meta: BTreeMap<String, String>,
    /// Whether anybody pressed the button that records.
    pub marks: bool,
    #[serde(skip)]
    pub(super) attendee_password: String,
    #[serde(skip)]
    pub(super) moderator_password: String,
    #[serde(skip)]
    pub(super) made: Option<Instant>,
    #[serde(skip)]
    pub(super) told_to_end: Option<Instant>,
}

/// Somebody who came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attendee {
    /// Of this one join.
    pub internal_id: String,
    pub user_id: String,
    pub full_name: String,
    /// `MODERATOR` or `VIEWER`.
    pub role: String,
}

impl Attendee {
    pub(super) fn told(&self) -> Value {
        json!({
            "internal-user-id": self.internal_id, "external-user-id": self.user_id, "name": self.full_name, "role": self.role,
            "presenter": false, "guest": false, "ip-address": "192.0.2.7", "session-token": "a-session-token",
        })
    }
}

impl Meeting {
    pub fn internal_id(&self) -> String {
        internal_id(&self.meeting_id, self.created_ms)
    }

    pub(super) fn names(&self) -> Value {
        json!({"internal-meeting-id": self.internal_id(), "external-meeting-id": self.meeting_id})
    }

    pub(super) fn with(&self, user: Value) -> Value {
        json!({"meeting": self.names(), "user": user})
    }

    /// With its passwords, as there.
    pub(super) fn told(&self) -> Value {
        json!({
            "internal-meeting-id": self.internal_id(), "external-meeting-id": self.meeting_id, "name": self.name,
            "is-breakout": false, "parent-id": "bbb-none", "duration": 0, "create-time": self.created_ms,
            "moderator-pass": self.moderator_password, "viewer-pass": self.attendee_password, "record": self.record,
            "metadata": self.meta,
        })
    }

    pub(super) fn created(&self) -> String {
        format!(
            "  <meetingID>{id}</meetingID>\n  <internalMeetingID>{internal}</internalMeetingID>\n  \
             <parentMeetingID>bbb-none</parentMeetingID>\n  <attendeePW>{attendee}</attendeePW>\n  \
             <moderatorPW>{moderator}</moderatorPW>\n  <createTime>{created}</createTime>\n  \
             <hasUserJoined>{joined}</hasUserJoined>\n  <duration>0</duration>\n  \
             <hasBeenForciblyEnded>{ended}</hasBeenForciblyEnded>\n",
            id = escaped(&self.meeting_id),
            internal = internal_id(&self.meeting_id, self.created_ms),
            attendee = escaped(&self.attendee_password),
            moderator = escaped(&self.moderator_password),
            created = self.created_ms,
            joined = !self.attendees.is_empty(),
            ended = self.forcibly_ended,
        )
    }

    pub(super) fn info(&self) -> String {
        let mut text = format!("  <meetingName>{}</meetingName>\n{}", escaped(&self.name), self.created());
        let running = !self.attendees.is_empty() && !self.forcibly_ended;
        let _ = write!(
            text,
            "  <running>{running}</running>\n  <recording>{}</recording>\n  <participantCount>{}</participantCount>\n  \
             <attendees>\n",
            self.record,
            self.attendees.len()
        );
        for attendee in &self.attendees {
            let _ = writeln!(
                text,
                "    <attendee><userID>{}</userID><fullName>{}</fullName><role>{}</role></attendee>",
                escaped(&attendee.user_id),
                escaped(&attendee.full_name),
                attendee.role
            );
        }
        text.push_str("  </attendees>\n  <metadata>\n");
        for (name, value) in &self.meta {
            let _ = writeln!(text, "    <{name}>{}</{name}>", escaped(value));
        }
        text.push_str("  </metadata>\n");
        text
    }
}

/// As CDATA, as the real server writes what people chose.
fn escaped(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}
