//! Recordings: listed, published, deleted; and made on demand, with all that a server tells of that.

use std::{collections::HashMap, sync::Arc};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::clock::Clock;

use super::{Server, hooks, reply::Reply};
use crate::process::lock;

/// A recording to be made, of a meeting that is over or was never there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRecording {
    pub meeting_id: String,
    /// The meeting's internal id; of the room's last meeting when left out.
    #[serde(default)]
    pub record_id: Option<String>,
    pub formats: Vec<Format>,
    /// Where the server calls for each format; what `create` said when left out.
    #[serde(default)]
    pub ready_url: Option<String>,
}

/// One form to watch it in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// `presentation`, `video`, …
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    /// Whole minutes.
    #[serde(default)]
    pub length: i64,
}

/// One that is there.
#[derive(Debug, Clone, Serialize)]
pub struct Recording {
    pub record_id: String,
    pub meeting_id: String,
    pub published: bool,
    pub formats: Vec<Format>,
    start_ms: i64,
}

#[derive(Debug, Default)]
pub struct Recordings(Vec<Recording>);

impl Recordings {
    pub fn all(&self) -> Vec<Recording> {
        self.0.clone()
    }

    pub fn call(&mut self, call: &str, given: &HashMap<String, String>) -> (Reply, Vec<Value>) {
        let list = |name: &str| -> Vec<String> {
            let text = given.get(name).map(String::as_str).unwrap_or_default();
            text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let records = list("recordID");
        if call == "getRecordings" {
            return (self.list(&list("meetingID"), &records, &list("state")), Vec::new());
        }
        if records.is_empty() {
            return (Reply::refusal("missingParamRecordID", "You must specify one or more a record IDs."), Vec::new());
        }
        let publish = match (call, given.get("publish").map(String::as_str)) {
            ("publishRecordings", Some("true")) => Some(true),
            ("publishRecordings", Some("false")) => Some(false),
            ("publishRecordings", _) => {
                return (
                    Reply::refusal("missingParamPublish", "You must specify a publish value true or false."),
                    Vec::new(),
                );
            }
            _ => None,
        };
        let known: Vec<String> = self.0.iter().map(|r| r.record_id.clone()).filter(|id| records.contains(id)).collect();
        if known.is_empty() {
            return (Reply::refusal("notFound", "We could not find recordings"), Vec::new());
        }
        let name = match publish {
            Some(true) => "rap-published",
            Some(false) => "rap-unpublished",
            None => "rap-deleted",
        };
        let reply = match publish {
            Some(publish) => {
                self.0.iter_mut().filter(|r| known.contains(&r.record_id)).for_each(|r| r.published = publish);
                Reply::success(&format!("<published>{publish}</published>"))
            }
            None => {
                self.0.retain(|r| !known.contains(&r.record_id));
                Reply::success("<deleted>true</deleted>")
            }
        };
        // What the meeting was called outside is forgotten by then.
        let now = Clock::System.now().timestamp_millis();
        let told =
            |id: &String| hooks::event(name, json!({"meeting": {"internal-meeting-id": id}, "record-id": id}), now);
        (reply, known.iter().map(told).collect())
    }

    fn list(&self, meetings: &[String], records: &[String], states: &[String]) -> Reply {
        let shown = |r: &&Recording| {
            let state = if r.published { "published" } else { "unpublished" };
            (meetings.is_empty() || meetings.contains(&r.meeting_id))
                && (records.is_empty() || records.iter().any(|id| r.record_id.starts_with(id.as_str())))
                && (states.is_empty() || states.iter().any(|wanted| wanted == "any" || wanted == state))
        };
        let all: String = self.0.iter().filter(shown).map(Recording::xml).collect();
        if all.is_empty() {
            return Reply::success(
                "<recordings></recordings>\n<messageKey>noRecordings</messageKey>\n\
                 <message>There are no recordings for the meeting(s).</message>",
            );
        }
        Reply::success(&format!("<recordings>\n{all}</recordings>\n"))
    }
}

impl Recording {
    /// With the white space and the CDATA of the real template.
    fn xml(&self) -> String {
        let formats: String = self
            .formats
            .iter()
            .map(|format| {
                let (kind, length) = (&format.kind, format.length);
                let url = format.url.replace('&', "&amp;").replace('<', "&lt;");
                format!(
                    "<format>\n<type>{kind}</type>\n<url>\n          {url}\n        </url>\n<processingTime>1200</processingTime>\n\
                     <length>{length}</length>\n<size>1048576</size>\n</format>\n"
                )
            })
            .collect();
        format!(
            "<recording>\n<recordID>{id}</recordID>\n<meetingID><![CDATA[{meeting}]]></meetingID>\n\
             <internalMeetingID>{id}</internalMeetingID>\n<name><![CDATA[{meeting}]]></name>\n<isBreakout>false</isBreakout>\n\
             <published>{published}</published>\n<state>{state}</state>\n<startTime>{start}</startTime>\n<endTime>{end}</endTime>\n\
             <participants>2</participants>\n<metadata>\n<empty><![CDATA[]]></empty>\n</metadata>\n<playback>\n{formats}\
             </playback>\n</recording>\n",
            id = self.record_id,
            meeting = self.meeting_id,
            published = self.published,
            state = if self.published { "published" } else { "unpublished" },
            start = self.start_ms,
            end = self.start_ms + 60_000,
        )
    }
}

/// Makes a recording, and tells of it by webhooks and by the callback, once for each format. Returns its id.
pub async fn record(server: &Arc<Server>, new: NewRecording) -> String {
    let meeting = lock(&server.meetings).last(&new.meeting_id);
    let start_ms = Clock::System.now().timestamp_millis() - 60_000;
    let record_id = new.record_id.or_else(|| meeting.as_ref().map(|meeting| meeting.internal_id()));
    let record_id = record_id.unwrap_or_else(|| super::checksum::internal_id(&new.meeting_id, start_ms));
    let ready_url = new.ready_url.or_else(|| meeting?.meta.get("bbb-recording-ready-url").cloned());
    let recording = Recording {
        record_id: record_id.clone(),
        meeting_id: new.meeting_id.clone(),
        published: true,
        formats: new.formats,
        start_ms,
    };
    {
        let mut recordings = lock(&server.recordings);
        recordings.0.retain(|known| known.record_id != record_id);
        recordings.0.push(recording.clone());
    }
    let now = Clock::System.now().timestamp_millis();
    let of = |more: Value| {
        let mut attributes = json!({"meeting": {"internal-meeting-id": record_id}, "record-id": record_id, "success": true, "step-time": 700});
        more.as_object().into_iter().flatten().for_each(|(name, value)| attributes[name] = value.clone());
        attributes
    };
    let mut events = vec![hooks::event("rap-archive-ended", of(json!({"recorded": true, "duration": 60_000})), now)];
    for format in &recording.formats {
        let playback = json!({"format": format.kind, "link": format.url, "processing_time": 1200, "duration": 60_000, "size": "1048576"});
        let told = json!({"workflow": format.kind, "recording": {"name": new.meeting_id, "is-breakout": "false",
            "start-time": start_ms.to_string(), "end-time": (start_ms + 60_000).to_string(), "metadata": {}, "playback": playback}});
        events.push(hooks::event("rap-publish-ended", of(told), now));
    }
    hooks::emit(server, events);
    if let Some(url) = ready_url {
        let claims = json!({"meeting_id": new.meeting_id, "record_id": record_id});
        // As Ruby's library writes it.
        let header = Header { typ: None, ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(server.secret.as_bytes());
        for _ in &recording.formats {
            let Ok(token) = encode(&header, &claims, &key) else { continue };
            server
                .called_back("recording-ready", super::form(server.http.post(&url), &[("signed_parameters", &token)]))
                .await;
        }
    }
    record_id
}

/// Sends the learning analytics of a meeting, as the script among `post_events` does. `attendees` as that has them.
pub async fn send_analytics(server: &Arc<Server>, meeting_id: &str, attendees: Value) {
    let Some(meeting) = lock(&server.meetings).last(meeting_id) else { return };
    let Some(url) = meeting.meta.get("analytics-callback-url").cloned() else { return };
    let now = Clock::System.now();
    let body = json!({"version": "1.0", "meeting_id": meeting_id, "internal_meeting_id": meeting.internal_id(), "data": {
        "metadata": {}, "duration": 60, "start": now - chrono::TimeDelta::minutes(1), "finish": now, "attendees": attendees,
        "files": [], "polls": []}});
    let claims = json!({"exp": now.timestamp() + 86_400});
    let key = EncodingKey::from_secret(server.secret.as_bytes());
    let Ok(token) = encode(&Header::new(Algorithm::HS512), &claims, &key) else { return };
    let request = server.http.post(&url).header("user-agent", "BigBlueButton Analytics Callback").bearer_auth(token);
    server.called_back("analytics", request.json(&body)).await;
}
