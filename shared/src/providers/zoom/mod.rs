//! Zoom: what is asked of its API and what it answers, signatures for pages that embed a meeting, and (`webhook`) its events.
//!
//! After Zoom's documentation ("Server-to-Server OAuth", "Meetings APIs", "Meeting SDK auth", "Using webhooks") and the types of
//! its `@zoom/rivet`. Answers are read leniently: most of their fields are there most of the time.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Alias, FileKind, Join, JoinRequest, ProviderError, RecordedFile,
    fields::{number, text},
    settings::ZoomSettings,
};
use crate::{domain::person::Part, secrets::Secret};

pub mod webhook;

/// Of a meeting's topic.
const TOPIC_CHARS: usize = 200;
/// Of each part of a registrant's name.
const NAME_CHARS: usize = 64;
/// Of a registrant's address.
const EMAIL_BYTES: usize = 128;
/// A meeting's planned length, in minutes.
const DURATION: std::ops::RangeInclusive<i64> = 1..=1_440;
/// An SDK signature is good for no less, and no more.
const SIGNATURE: [TimeDelta; 2] = [TimeDelta::minutes(30), TimeDelta::hours(48)];
/// Clocks differ: as Zoom's own sample does.
const SIGNED_EARLIER: TimeDelta = TimeDelta::seconds(30);

/// A server-to-server OAuth app and the user whose meetings they are; perhaps a Meeting SDK app.
#[derive(Debug, Clone)]
pub struct Zoom {
    pub account_id: String,
    pub client_id: String,
    pub client_secret: Secret,
    /// Ids or mail addresses of the hosts. Never empty.
    pub user_ids: Vec<String>,
    /// Whether people get links of their own.
    pub registration: bool,
    sdk: Option<(String, Secret)>,
}

/// A meeting as it shall be.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The session's room: in the agenda, so that the meeting is found again.
    pub room: &'a str,
    pub title: &'a str,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    /// IANA name.
    pub timezone: &'a str,
    pub recording: bool,
}

/// A meeting that was made. Neither its links nor its password: who needs one gets it from Zoom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoomMeeting {
    /// More than 32 bits hold.
    pub number: i64,
    /// Whether people are registered for it, as the account was configured when it was made.
    pub registers: bool,
}

/// Somebody's own way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Comes back in events and reports.
    pub registrant_id: String,
    /// Lets in whoever has it: never logged, stored sealed alone.
    pub join_url: Secret,
}

impl Zoom {
    /// `None` when a part of what is needed is empty.
    pub fn new(settings: &ZoomSettings, client_secret: &str, sdk_secret: &str) -> Option<Self> {
        let needed = [&settings.account_id, &settings.client_id, &settings.user_id];
        if client_secret.is_empty() || needed.iter().any(|text| text.trim().is_empty()) {
            return None;
        }
        let sdk_key = settings.sdk_key.clone().filter(|key| !key.is_empty() && !sdk_secret.is_empty());
        Some(Self {
            account_id: settings.account_id.trim().to_owned(),
            client_id: settings.client_id.trim().to_owned(),
            client_secret: Secret::new(client_secret),
            user_ids: users(settings),
            registration: settings.registration == "on",
            sdk: sdk_key.map(|key| (key, Secret::new(sdk_secret))),
        })
    }

    /// Names the app and its secret without telling them: whose tokens and rate limits they are.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.account_id.as_str(), &self.client_id, self.client_secret.expose()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hex::encode(&hash.finalize()[..16])
    }

    /// Whether a page of one's own can be let in, see [`Self::sdk_signature`].
    pub fn embeds(&self) -> bool {
        self.sdk.is_some()
    }

    /// The link that Zoom made for this person, and beside it what lets a page of one's own in.
    pub fn join(&self, request: &JoinRequest<'_>, meeting: &ZoomMeeting) -> Result<Join, ProviderError> {
        let link = request.link.ok_or(ProviderError::Rejected("Zoom has made no link"))?;
        let signature =
            self.sdk_signature(meeting.number, request.part == Part::Host, (request.now, request.expires_at));
        Ok(Join { url: link.expose().to_owned(), token: signature.unwrap_or_default() })
    }

    /// What lets a page with the Meeting SDK into a meeting; `None` without an SDK app. It tells role and meeting; who
    /// somebody is, the `tk` of their link tells, and for a host the `zak`.
    pub fn sdk_signature(
        &self,
        meeting: i64,
        host: bool,
        (now, expires_at): (DateTime<Utc>, DateTime<Utc>),
    ) -> Option<String> {
        let (key, secret) = self.sdk.as_ref()?;
        let issued = now - SIGNED_EARLIER;
        let expires = expires_at.clamp(issued + SIGNATURE[0], issued + SIGNATURE[1]).timestamp();
        let claims = json!({
            // Older SDKs read the one, newer ones the other.
            "appKey": key, "sdkKey": key, "mn": meeting.to_string(), "role": u8::from(host), "iat": issued.timestamp(),
            "exp": expires, "tokenExp": expires,
        });
        let key = EncodingKey::from_secret(secret.expose().as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).ok()
    }

    /// For a new meeting, or one that changes. `now`: a time that is past is no start.
    pub fn meeting(&self, plan: &Plan<'_>, now: DateTime<Utc>) -> Value {
        let topic: String = plan.title.trim().chars().take(TOPIC_CHARS).collect();
        let length = (plan.ends_at - plan.starts_at).num_seconds();
        let minutes = ((length + 59) / 60).clamp(*DURATION.start(), *DURATION.end());
        // Zoom knows fewer names of zones than there are; the time itself is in UTC.
        let zone = plan.timezone.parse::<Tz>().map_or("UTC", |zone| zone.name());
        json!({
            "topic": if topic.is_empty() { plan.room } else { &topic },
            "type": 2,
            "start_time": plan.starts_at.max(now).to_rfc3339_opts(SecondsFormat::Secs, true),
            "duration": minutes,
            "timezone": zone,
            "agenda": plan.room,
            "settings": {
                "approval_type": if self.registration { 0 } else { 2 },
                "registration_type": 1,
                // They get their invitations from us.
                "registrants_email_notification": false,
                "registrants_confirmation_email": false,
                "auto_recording": if plan.recording { "cloud" } else { "none" },
            },
        })
    }

    /// Whether a meeting of the user's list is the one of this room.
    pub fn is_of_room(meeting: &Value, room: &str) -> bool {
        text(meeting, "agenda").is_some_and(|agenda| agenda.split_whitespace().next() == Some(room))
    }
}

/// The first, then the further ones; each once.
pub fn users(settings: &ZoomSettings) -> Vec<String> {
    let mut users: Vec<String> = Vec::new();
    for user in [&settings.user_id].into_iter().chain(&settings.further_user_ids) {
        let user = user.trim();
        if !user.is_empty() && !users.iter().any(|known| known == user) {
            users.push(user.to_owned());
        }
    }
    users
}

/// For a registration. `address` is where nobody is written to.
pub fn registrant(name: &str, address: &str) -> Value {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let name = name.trim();
    let (first, last) = name.rsplit_once(char::is_whitespace).unwrap_or((name, ""));
    let cut = |text: &str| text.trim().chars().take(NAME_CHARS).collect::<String>();
    let first = if first.trim().is_empty() { "–".to_owned() } else { cut(first) };
    // Without a last name Zoom's form for guests would be incomplete.
    let last = if last.is_empty() { "–".to_owned() } else { cut(last) };
    json!({"first_name": first, "last_name": last, "email": address, "auto_approve": true})
}

/// The address of somebody's registration: one for each person and class, whoever else has the same mailbox (siblings, say),
/// because at Zoom the same address is the same person. Nobody is written to there (RFC 2606), and Zoom learns
/// nobody's own address. Zoom advises the same ("Join a meeting with registration").
pub fn registrant_address(room: &str, person: &str) -> String {
    let hash = hex::encode(&Sha256::digest(format!("{room}\n{person}"))[..12]);
    let address = format!("{hash}@registrants.example.com");
    debug_assert!(address.len() <= EMAIL_BYTES);
    address
}

/// The meeting's number, out of an answer that tells of a meeting.
pub fn meeting_number(answer: &Value) -> Option<i64> {
    answer["id"].as_i64().or_else(|| text(answer, "id")?.parse().ok()).filter(|id| *id > 0)
}

/// Out of the answer to a registration.
pub fn registered(answer: &Value) -> Option<Registered> {
    let link = text(answer, "join_url").filter(|url| is_link(url))?;
    Some(Registered { registrant_id: text(answer, "registrant_id")?, join_url: Secret::new(link) })
}

/// A link of a meeting's: `start_url` for its host, `join_url` for all others.
pub fn link(answer: &Value, field: &str) -> Option<Secret> {
    text(answer, field).filter(|url| is_link(url)).map(Secret::new)
}

fn is_link(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// A stay, as the report after the end tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stay {
    /// As events call it, see [`webhook`].
    pub connection: String,
    /// The id of ours that a page of our own gave.
    pub person: Option<String>,
    pub known_as: Vec<Alias>,
    pub name: String,
    pub joined_at: DateTime<Utc>,
    pub left_at: Option<DateTime<Utc>>,
}

/// The stays of a page of the report about this run. Waiting rooms are no stay, nor is a line without a beginning.
pub fn stays(page: &Value, uuid: &str, host_id: Option<&str>) -> Vec<Stay> {
    let lines = page["participants"].as_array().into_iter().flatten();
    let stay = |line: &Value| {
        if text(line, "status").is_some_and(|status| status == "in_waiting_room") {
            return None;
        }
        Some(Stay {
            connection: webhook::connection(uuid, line)?,
            person: text(line, "customer_key"),
            known_as: webhook::aliases(line, host_id),
            name: webhook::person_name(line),
            joined_at: webhook::moment(line, "join_time")?,
            left_at: webhook::moment(line, "leave_time"),
        })
    };
    lines.filter_map(stay).collect()
}

/// The UUID of a run in a path: always encoded; twice, where the first time would leave what looks like parts of a path.
pub fn in_path(text: &str) -> String {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let once = encoded(text);
    if text.starts_with('/') || text.contains("//") { encoded(&once) } else { once }
}

/// The files of a recording that are worth keeping: films; the sound, where there is no film; transcripts. Those that are still
/// being made, and lists for machines (`TIMELINE`, …), are none.
pub fn files(recording: &Value) -> Vec<RecordedFile> {
    read_files(recording).into_iter().map(|(file, _)| file).collect()
}

/// The same as Zoom writes them.
fn kept(recording: &Value) -> Vec<Value> {
    read_files(recording).into_iter().map(|(_, raw)| raw.clone()).collect()
}

fn read_files(recording: &Value) -> Vec<(RecordedFile, &Value)> {
    let uuid = text(recording, "uuid").unwrap_or_default();
    let told = recording["recording_files"].as_array().into_iter().flatten();
    let mut all: Vec<_> = told.filter_map(|file| Some((read_file(file, &uuid)?, file))).collect();
    if all.iter().any(|(file, _)| file.kind == FileKind::Film) {
        all.retain(|(file, _)| file.kind != FileKind::Sound);
    }
    all
}

fn read_file(file: &Value, uuid: &str) -> Option<RecordedFile> {
    if text(file, "status").is_some_and(|status| status != "completed") {
        return None;
    }
    let kind = match text(file, "file_type")?.to_ascii_uppercase().as_str() {
        "MP4" => FileKind::Film,
        "M4A" => FileKind::Sound,
        "TRANSCRIPT" => FileKind::Transcript,
        _ => return None,
    };
    let external_id = text(file, "id").unwrap_or_else(|| {
        let part = |field| text(file, field).unwrap_or_default();
        format!("{uuid}/{}/{}", part("recording_type"), part("recording_start"))
    });
    Some(RecordedFile {
        external_id,
        kind,
        url: text(file, "download_url").filter(|url| is_link(url))?,
        bytes: number(file, "file_size").filter(|bytes| (1.0..1e15).contains(bytes)).map(|bytes| bytes as i64),
        from: webhook::moment(file, "recording_start"),
        to: webhook::moment(file, "recording_end"),
    })
}
