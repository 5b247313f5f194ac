//! What people do in meetings, and what Zoom tells of it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::clock::Clock;

use super::{
    Server,
    meetings::{Meeting, Run, Stay, new_uuid, time},
};
use crate::process::lock;

/// Something that happens in the meeting with this number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// The host opens it: a new run, `meeting.started`.
    Start { meeting: i64 },
    /// Somebody comes: `meeting.participant_joined`; by way of the waiting room, its events before.
    Join {
        meeting: i64,
        #[serde(flatten)]
        visitor: Visitor,
        #[serde(default)]
        through_waiting_room: bool,
    },
    /// `meeting.participant_left`.
    Leave { meeting: i64, user_id: String },
    /// Everybody leaves, then `meeting.ended`.
    End { meeting: i64 },
    /// The last run has been recorded: `recording.completed`.
    Record { meeting: i64, files: Vec<NewFile> },
    /// Its transcript is there: `recording.transcript_completed`.
    Transcribe { meeting: i64, files: Vec<NewFile> },
}

/// Who comes, as Zoom tells it; what is empty is left out. The host comes with `host: true`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Visitor {
    pub user_name: String,
    /// The account of somebody who is signed in.
    pub id: String,
    pub email: String,
    pub registrant_id: String,
    pub customer_key: String,
    pub host: bool,
}

/// A file of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewFile {
    /// `MP4`, `M4A`, `TRANSCRIPT`, `CHAT`, `TIMELINE`, …
    pub file_type: String,
    #[serde(default)]
    pub recording_type: String,
    pub bytes: u64,
}

impl NewFile {
    #[must_use]
    pub fn new(file_type: &str, recording_type: &str, bytes: u64) -> Self {
        Self { file_type: file_type.to_owned(), recording_type: recording_type.to_owned(), bytes }
    }
}

/// Its name, its object, what is beside the payload.
pub(super) type Event = (&'static str, Value, Value);

impl Server {
    pub(super) async fn act(&self, act: Act) -> Result<Value, String> {
        let (made, events) = self.happen(act)?;
        self.tell(events).await;
        Ok(made)
    }

    pub(super) async fn tell(&self, events: Vec<Event>) {
        for (event, object, more) in events {
            let payload = json!({"account_id": self.account.account_id, "object": object});
            self.send(event, payload, more).await;
        }
    }

    /// Nothing of the world is held while the events are sent.
    fn happen(&self, act: Act) -> Result<(Value, Vec<Event>), String> {
        let id = act.meeting();
        let mut world = lock(&self.world);
        let download_token = hex::encode(rand::random::<[u8; 24]>());
        if matches!(act, Act::Record { .. } | Act::Transcribe { .. }) {
            world.download_tokens.push(download_token.clone());
        }
        let number = world.meetings.len() + world.meetings.get(&id).map_or(0, |meeting| meeting.runs.len());
        let meeting = world.meetings.get_mut(&id).ok_or_else(|| format!("there is no meeting {id}"))?;
        let now = Clock::System.now();
        let more = json!({"download_token": download_token});
        match act {
            Act::Start { .. } => Ok(start(meeting, number, now)),
            Act::Join { visitor, through_waiting_room, .. } => join(meeting, visitor, through_waiting_room, now),
            Act::Leave { user_id, .. } => leave(meeting, &user_id, now),
            Act::End { .. } => end(meeting, now),
            Act::Record { files, .. } => {
                let files = self.file(meeting, &files)?;
                Ok((files.clone(), vec![("recording.completed", recorded(meeting, &files)?, more)]))
            }
            Act::Transcribe { files, .. } => {
                let files = self.file(meeting, &files)?;
                Ok((files.clone(), vec![("recording.transcript_completed", recorded(meeting, &files)?, more)]))
            }
        }
    }

    fn file(&self, meeting: &mut Meeting, files: &[NewFile]) -> Result<Value, String> {
        let url = self.url();
        let run = meeting.runs.last_mut().ok_or("the meeting has not taken place yet")?;
        let ended_at = run.ended_at.unwrap_or_else(|| Clock::System.now());
        let made: Vec<Value> = files.iter().map(|file| told(file, run, ended_at, &url)).collect();
        run.files.extend(made.clone());
        Ok(made.into())
    }
}

impl Act {
    fn meeting(&self) -> i64 {
        match self {
            Self::Start { meeting }
            | Self::Join { meeting, .. }
            | Self::Leave { meeting, .. }
            | Self::End { meeting }
            | Self::Record { meeting, .. }
            | Self::Transcribe { meeting, .. } => *meeting,
        }
    }
}

fn start(meeting: &mut Meeting, number: usize, now: DateTime<Utc>) -> (Value, Vec<Event>) {
    meeting.uuid = new_uuid(number);
    "started".clone_into(&mut meeting.status);
    let run = Run { uuid: meeting.uuid.clone(), started_at: now, ended_at: None, stays: Vec::new(), files: Vec::new() };
    meeting.runs.push(run);
    let mut object = meeting.object(&meeting.uuid, false);
    object["start_time"] = time(now).into();
    (json!({"uuid": meeting.uuid}), vec![("meeting.started", object, Value::Null)])
}

fn join(
    meeting: &mut Meeting,
    visitor: Visitor,
    through_waiting_room: bool,
    now: DateTime<Utc>,
) -> Result<(Value, Vec<Event>), String> {
    let about = meeting.clone();
    let run = meeting.going_on().ok_or("nobody has started it")?;
    let mut events = Vec::new();
    let mut made = Value::Null;
    // Each of the two joins has a number of its own.
    for in_waiting_room in [true, false].into_iter().skip(usize::from(!through_waiting_room)) {
        let user_id = (16_778_240 + 1_024 * run.stays.len()).to_string();
        let participant_uuid = hex::encode_upper(rand::random::<[u8; 16]>());
        let left_at = in_waiting_room.then_some(now);
        let visitor = visitor.clone();
        let stay =
            Stay { user_id: user_id.clone(), participant_uuid, visitor, joined_at: now, left_at, in_waiting_room };
        let named: &[(&'static str, &str)] = match in_waiting_room {
            true => &[
                ("meeting.participant_joined_waiting_room", "date_time"),
                ("meeting.participant_admitted", "date_time"),
                ("meeting.participant_left_waiting_room", "date_time"),
            ],
            false => &[("meeting.participant_joined", "join_time")],
        };
        for (event, at) in named {
            let mut object = about.object(&run.uuid, false);
            object["participant"] = participant(&about.host_id, &stay, at, now);
            events.push((*event, object, Value::Null));
        }
        made = json!({"user_id": user_id, "uuid": run.uuid});
        run.stays.push(stay);
    }
    Ok((made, events))
}

fn leave(meeting: &mut Meeting, user_id: &str, now: DateTime<Utc>) -> Result<(Value, Vec<Event>), String> {
    let about = meeting.clone();
    let run = meeting.going_on().ok_or("nobody has started it")?;
    let uuid = run.uuid.clone();
    let stay = run.stays.iter_mut().find(|stay| stay.user_id == user_id && stay.left_at.is_none());
    let stay = stay.ok_or_else(|| format!("nobody there has the user_id {user_id}"))?;
    stay.left_at = Some(now);
    Ok((json!({}), vec![left(&about, &uuid, stay, now)]))
}

fn left(meeting: &Meeting, uuid: &str, stay: &Stay, now: DateTime<Utc>) -> Event {
    let mut object = meeting.object(uuid, false);
    object["participant"] = participant(&meeting.host_id, stay, "leave_time", now);
    object["participant"]["leave_reason"] =
        format!("{} left the meeting.<br>Reason: left the meeting.", stay.visitor.user_name).into();
    ("meeting.participant_left", object, Value::Null)
}

pub(super) fn end(meeting: &mut Meeting, now: DateTime<Utc>) -> Result<(Value, Vec<Event>), String> {
    let about = meeting.clone();
    "waiting".clone_into(&mut meeting.status);
    let run = meeting.going_on().ok_or("it does not go on")?;
    run.ended_at = Some(now);
    let uuid = run.uuid.clone();
    let mut events = Vec::new();
    for stay in run.stays.iter_mut().filter(|stay| stay.left_at.is_none()) {
        stay.left_at = Some(now);
        events.push(left(&about, &uuid, stay, now));
    }
    let mut object = about.object(&uuid, false);
    object["start_time"] = time(run.started_at).into();
    object["end_time"] = time(now).into();
    events.push(("meeting.ended", object, Value::Null));
    Ok((json!({"uuid": uuid}), events))
}

/// With everything that is not empty; `email` is always there.
fn participant(host_id: &str, stay: &Stay, at_field: &str, at: DateTime<Utc>) -> Value {
    let visitor = &stay.visitor;
    let mut told = json!({
        "user_id": stay.user_id, "user_name": visitor.user_name, "participant_uuid": stay.participant_uuid,
        "email": visitor.email, at_field: time(at),
    });
    let id = if visitor.host { host_id } else { &visitor.id };
    for (field, value) in [
        ("id", id),
        ("participant_user_id", id),
        ("registrant_id", visitor.registrant_id.as_str()),
        ("customer_key", visitor.customer_key.as_str()),
    ] {
        if !value.is_empty() {
            told[field] = value.into();
        }
    }
    told
}

fn recorded(meeting: &Meeting, files: &Value) -> Result<Value, String> {
    let run = meeting.runs.last().ok_or("the meeting has not taken place yet")?;
    let mut object = meeting.object(&run.uuid, true);
    let sizes = files.as_array().into_iter().flatten().filter_map(|file| file["file_size"].as_u64());
    object["total_size"] = sizes.sum::<u64>().into();
    object["recording_count"] = files.as_array().map_or(0, Vec::len).into();
    object["start_time"] = time(run.started_at).into();
    object["recording_files"] = files.clone();
    Ok(object)
}

/// A file, as a recording tells it. Those that are no film, sound or transcript have neither id nor size.
fn told(file: &NewFile, run: &Run, ended_at: DateTime<Utc>, url: &str) -> Value {
    let id = hex::encode(rand::random::<[u8; 16]>());
    let extension = match file.file_type.as_str() {
        kind @ ("MP4" | "M4A" | "CSV") => kind,
        "TRANSCRIPT" | "CC" => "VTT",
        "CHAT" => "TXT",
        _ => "JSON",
    };
    let mut told = json!({
        "meeting_id": run.uuid, "recording_start": time(run.started_at),
        "recording_end": time(ended_at.max(run.started_at + TimeDelta::seconds(1))),
        "file_type": file.file_type, "file_extension": extension, "recording_type": file.recording_type,
        "download_url": format!("{url}/rec/download/{id}?size={}", file.bytes),
    });
    if matches!(file.file_type.as_str(), "MP4" | "M4A" | "TRANSCRIPT") {
        told["id"] = id.into();
        told["file_size"] = file.bytes.into();
        told["status"] = "completed".into();
        told["play_url"] = format!("{url}/rec/play/{}", hex::encode(rand::random::<[u8; 8]>())).into();
    }
    told
}
