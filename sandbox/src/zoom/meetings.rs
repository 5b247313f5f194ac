//! What the account has: meetings, their registrants, and the runs that each of them has had.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use shared::clock::Clock;

use super::acts::{Event, Visitor};

#[derive(Debug, Default)]
pub(super) struct World {
    pub meetings: BTreeMap<i64, Meeting>,
    /// Deleted ones, whose runs still have reports and recordings.
    pub deleted: BTreeMap<i64, Meeting>,
    /// Access tokens, and when they run out.
    pub tokens: HashMap<String, Instant>,
    /// What calls of the API have caused, to be sent.
    pub outbox: Vec<Event>,
    /// Tokens that open recordings.
    pub download_tokens: Vec<String>,
}

/// A meeting.
#[derive(Debug, Clone, Serialize)]
pub struct Meeting {
    /// More than 32 bits hold.
    pub id: i64,
    /// Of the next run, or of the one that goes on.
    pub uuid: String,
    pub topic: String,
    pub agenda: String,
    pub host_id: String,
    pub host_email: String,
    pub start_time: String,
    pub duration: i64,
    pub timezone: String,
    pub settings: Value,
    pub created_at: DateTime<Utc>,
    /// `waiting` or `started`.
    pub status: String,
    pub password: String,
    pub registrants: Vec<Registrant>,
    pub runs: Vec<Run>,
}

/// Somebody who was registered.
#[derive(Debug, Clone, Serialize)]
pub struct Registrant {
    pub registrant_id: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub join_url: String,
    /// How often today.
    pub times: u32,
}

/// From a start to the end.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub uuid: String,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub stays: Vec<Stay>,
    pub files: Vec<Value>,
}

/// One connection.
#[derive(Debug, Clone, Serialize)]
pub struct Stay {
    pub user_id: String,
    pub participant_uuid: String,
    pub visitor: Visitor,
    pub joined_at: DateTime<Utc>,
    pub left_at: Option<DateTime<Utc>>,
    pub in_waiting_room: bool,
}

impl World {
    /// A new meeting out of what was sent; an id of eleven digits.
    pub fn create(&mut self, (host_id, host_email): (String, String), body: &Value) -> Meeting {
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let password = Some(text("password")).filter(|p| !p.is_empty());
        let meeting = Meeting {
            id: 81_000_000_000 + i64::from(rand::random::<u32>()),
            uuid: new_uuid(self.meetings.len()),
            topic: text("topic"),
            agenda: text("agenda"),
            host_id,
            host_email,
            start_time: text("start_time"),
            duration: body["duration"].as_i64().unwrap_or(60),
            timezone: text("timezone"),
            settings: body["settings"].clone(),
            created_at: Clock::System.now(),
            status: "waiting".to_owned(),
            password: password.unwrap_or_else(|| hex::encode(rand::random::<[u8; 3]>())),
            registrants: Vec::new(),
            runs: Vec::new(),
        };
        self.meetings.insert(meeting.id, meeting.clone());
        meeting
    }

    /// The run with this UUID, of a meeting that may have been deleted since; or the last one of a meeting's number.
    pub fn run(&self, name: &str) -> Option<(&Meeting, &Run)> {
        let all = || self.meetings.values().chain(self.deleted.values());
        if let Ok(id) = name.parse::<i64>() {
            let meeting = all().find(|meeting| meeting.id == id)?;
            return Some((meeting, meeting.runs.last()?));
        }
        all().find_map(|meeting| meeting.runs.iter().find(|run| run.uuid == name).map(|run| (meeting, run)))
    }
}

impl Meeting {
    /// As a single meeting is told; `url` is Zoom's own address.
    pub fn whole(&self, url: &str) -> Value {
        let mut told = self.line(url);
        if let Some(told) = told.as_object_mut() {
            let zak = hex::encode(rand::random::<[u8; 16]>());
            told.insert("start_url".into(), format!("{url}/s/{}?zak={zak}", self.id).into());
            told.insert("host_email".into(), self.host_email.clone().into());
            told.insert("status".into(), self.status.clone().into());
            told.insert("password".into(), self.password.clone().into());
            told.insert("encrypted_password".into(), hex::encode(&self.password).into());
            told.insert("settings".into(), self.settings.clone());
        }
        told
    }

    /// As the list of a user's meetings tells it: an agenda is cut there.
    pub fn line(&self, url: &str) -> Value {
        json!({
            "uuid": self.uuid, "id": self.id, "host_id": self.host_id, "topic": self.topic, "type": 2,
            "agenda": self.agenda.chars().take(250).collect::<String>(), "start_time": self.start_time,
            "duration": self.duration, "timezone": self.timezone, "created_at": time(self.created_at),
            "join_url": format!("{url}/j/{}?pwd={}", self.id, hex::encode(&self.password)),
        })
    }

    /// As events tell it. The id is a text in `meeting.*`, a number in `recording.*`.
    pub fn object(&self, uuid: &str, id_as_number: bool) -> Value {
        let id = if id_as_number { json!(self.id) } else { json!(self.id.to_string()) };
        json!({
            "uuid": uuid, "id": id, "host_id": self.host_id, "topic": self.topic, "type": 2,
            "start_time": self.start_time, "duration": self.duration, "timezone": self.timezone,
        })
    }

    /// The run that goes on.
    pub fn going_on(&mut self) -> Option<&mut Run> {
        self.runs.last_mut().filter(|run| run.ended_at.is_none())
    }

    pub fn registers(&self) -> bool {
        matches!(self.settings["approval_type"].as_i64(), Some(0 | 1))
    }
}

/// As Zoom writes times.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Base64 of 16 bytes; every other one begins with a slash and has two in a row, which has to be encoded twice.
pub(super) fn new_uuid(number: usize) -> String {
    let mut uuid = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    if number.is_multiple_of(2) {
        uuid.replace_range(0..1, "/");
        uuid.replace_range(7..9, "//");
    }
    uuid
}
