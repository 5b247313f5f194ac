//! Calls of Zoom's API: with a token that is asked for when it is needed, and as often as Zoom allows it, over all processes.
//!
//! A call that is refused for its token is made once more with another one; one that came too soon, once more after the
//! wait, if that is short. Nothing else is repeated here: another process may do it, or the person who waits.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use url::Url;

use super::{End, MeetingError, NewMeeting, Place};
use crate::{
    clock::Clock,
    config::ZoomConfig,
    outbound::{Outbound, Rule},
    providers::{
        RecordedFile,
        zoom::{self, Plan, Registered, Stay, Zoom, ZoomMeeting},
    },
    secrets::Secret,
};

mod calls;
mod limits;
mod tokens;

use calls::{Call, get, no_user, not_zoom};
pub use tokens::Token;
use tokens::Tokens;

/// Lines of a page; Zoom gives no more.
const PAGE: usize = 300;
/// Pages of a list that are read.
const MOST_PAGES: usize = 100;
/// For one call.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct ZoomApi {
    outbound: Outbound,
    places: ZoomConfig,
    tokens: Tokens,
    /// Where pauses are told to the other processes.
    db: PgPool,
}

/// What a report has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// All of it.
    Stays(Vec<Stay>),
    /// It is still being made.
    NotYet,
}

impl ZoomApi {
    /// The operator says where Zoom is, so that may be a private address.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(places: &ZoomConfig, db: PgPool) -> reqwest::Result<Self> {
        let rule = Rule { allow_private: true, setting: "ZOOM_API_URL" };
        let outbound = Outbound::new(rule, super::CONNECT_LIMIT, CALL_LIMIT)?;
        Ok(Self { outbound, places: places.clone(), tokens: Tokens::default(), db })
    }

    /// Makes a meeting. Each call makes another one: so, where somebody may have made it before without telling, it is looked
    /// for first.
    pub async fn make(&self, zoom: &Zoom, new: &NewMeeting<'_>) -> Result<ZoomMeeting, MeetingError> {
        if new.tried_before
            && let Some(found) = self.find(zoom, new.room).await?
        {
            return Ok(found);
        }
        let body = zoom.meeting(&plan(new), Clock::System.now());
        let user = match new.place {
            Place::At(host) => host,
            Place::Any | Place::NotAt(_) => zoom.user_ids.first().map(String::as_str).unwrap_or_default(),
        };
        let path = format!("users/{}/meetings", zoom::in_path(user));
        let call = Call { name: "create", method: Method::POST, path, body: Some(&body) };
        // 404: it is the user that is not there.
        let made = self.call(zoom, call).await.map_err(|error| match error {
            MeetingError::Gone => no_user(),
            other => other,
        })?;
        number(zoom, &made)
    }

    /// The meeting of a room among those of all users.
    pub async fn find(&self, zoom: &Zoom, room: &str) -> Result<Option<ZoomMeeting>, MeetingError> {
        for user in &zoom.user_ids {
            if let Some(found) = self.find_of(zoom, user, room).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find_of(&self, zoom: &Zoom, user: &str, room: &str) -> Result<Option<ZoomMeeting>, MeetingError> {
        let path = format!("users/{}/meetings", zoom::in_path(user));
        let mut next = String::new();
        for _ in 0..MOST_PAGES {
            let page = self.page(zoom, "list", &path, &[("type", "scheduled")], &next).await?;
            let lines = page["meetings"].as_array().into_iter().flatten();
            if let Some(found) = lines.into_iter().find(|line| Zoom::is_of_room(line, room)) {
                return number(zoom, found).map(Some);
            }
            let Some(token) = more(&page) else { break };
            next = token;
        }
        Ok(None)
    }

    /// What opens the meeting for its host. Good for two hours: asked for when somebody wants to go there, and kept nowhere.
    pub async fn host_link(&self, zoom: &Zoom, meeting: ZoomMeeting) -> Result<Secret, MeetingError> {
        self.link(zoom, meeting, "start_url").await
    }

    /// The link that everybody else has, where nobody is registered.
    pub async fn guest_link(&self, zoom: &Zoom, meeting: ZoomMeeting) -> Result<Secret, MeetingError> {
        self.link(zoom, meeting, "join_url").await
    }

    async fn link(&self, zoom: &Zoom, meeting: ZoomMeeting, field: &str) -> Result<Secret, MeetingError> {
        let told = self.call(zoom, get("get", format!("meetings/{}", meeting.number))).await?;
        zoom::link(&told, field).ok_or_else(|| not_zoom("it tells no link"))
    }

    /// A link for one person.
    pub async fn register(
        &self,
        zoom: &Zoom,
        meeting: ZoomMeeting,
        (name, address): (&str, &str),
    ) -> Result<Registered, MeetingError> {
        let body = zoom::registrant(name, address);
        let path = format!("meetings/{}/registrants", meeting.number);
        let call = Call { name: "register", method: Method::POST, path, body: Some(&body) };
        zoom::registered(&self.call(zoom, call).await?).ok_or_else(|| not_zoom("it tells no link"))
    }

    /// Changes name, time and length.
    pub async fn update(&self, zoom: &Zoom, meeting: ZoomMeeting, new: &NewMeeting<'_>) -> Result<(), MeetingError> {
        let now = Clock::System.now();
        let mut body = zoom.meeting(&plan(new), now);
        if let Some(body) = body.as_object_mut() {
            // How people are registered stays: they have their links.
            let recording = body["settings"]["auto_recording"].take();
            body.insert("settings".into(), json!({"auto_recording": recording}));
            if new.starts_at <= now {
                // It goes on, or is about to: its beginning is not moved.
                body.remove("start_time");
            }
        }
        let path = format!("meetings/{}", meeting.number);
        self.call(zoom, Call { name: "update", method: Method::PATCH, path, body: Some(&body) }).await.map(drop)
    }

    /// Ends it, if it goes on. `delete`: it is called off, and goes from the user's list once it does not go on.
    pub async fn end(&self, zoom: &Zoom, meeting: ZoomMeeting, delete: bool) -> Result<End, MeetingError> {
        let path = format!("meetings/{}", meeting.number);
        let told = match self.call(zoom, get("get", path.clone())).await {
            Err(MeetingError::Gone) => return Ok(End::Over),
            told => told?,
        };
        let (call, end) = if told["status"] == "started" {
            let path = format!("{path}/status");
            (Call { name: "end", method: Method::PUT, path, body: Some(&json!({"action": "end"})) }, End::Told)
        } else if delete {
            (Call { name: "delete", method: Method::DELETE, path, body: None }, End::Over)
        } else {
            return Ok(End::Over);
        };
        match self.call(zoom, call).await {
            Err(MeetingError::Gone) => Ok(End::Over),
            done => done.map(|_| end),
        }
    }

    /// Who a user is, by Zoom's id.
    pub async fn user_id(&self, zoom: &Zoom, user: &str) -> Result<String, MeetingError> {
        let path = format!("users/{}", zoom::in_path(user));
        let told = self.call(zoom, get("user", path)).await.map_err(|error| match error {
            MeetingError::Gone => no_user(),
            other => other,
        })?;
        told["id"].as_str().map(str::to_owned).ok_or_else(|| not_zoom("it tells no user"))
    }

    /// The runs that a meeting has had, by their UUIDs.
    pub async fn runs(&self, zoom: &Zoom, meeting: ZoomMeeting) -> Result<Vec<String>, MeetingError> {
        let told = match self.call(zoom, get("instances", format!("past_meetings/{}/instances", meeting.number))).await
        {
            Err(MeetingError::Gone) => return Ok(Vec::new()),
            told => told?,
        };
        let runs = told["meetings"].as_array().into_iter().flatten();
        Ok(runs.filter_map(|run| run["uuid"].as_str().map(str::to_owned)).collect())
    }

    /// Who was there in a run. The report needs a paid account; the list that others have tells less of people.
    pub async fn report(&self, zoom: &Zoom, uuid: &str, host_id: Option<&str>) -> Result<Report, MeetingError> {
        let uuid_in_path = zoom::in_path(uuid);
        let with_registrants = [("include_fields", "registrant_id")];
        let paid = format!("report/meetings/{uuid_in_path}/participants");
        match self.stays(zoom, "report", &paid, &with_registrants, (uuid, host_id)).await {
            Err(MeetingError::Refused(_)) => {
                let free = format!("past_meetings/{uuid_in_path}/participants");
                self.stays(zoom, "participants", &free, &[], (uuid, host_id)).await
            }
            report => report,
        }
    }

    async fn stays(
        &self,
        zoom: &Zoom,
        name: &'static str,
        path: &str,
        parameters: &[(&str, &str)],
        (uuid, host_id): (&str, Option<&str>),
    ) -> Result<Report, MeetingError> {
        let (mut stays, mut next) = (Vec::new(), String::new());
        for _ in 0..MOST_PAGES {
            let page = match self.page(zoom, name, path, parameters, &next).await {
                Err(MeetingError::Gone) => return Ok(Report::NotYet),
                page => page?,
            };
            stays.extend(zoom::stays(&page, uuid, host_id));
            let Some(token) = more(&page) else { return Ok(Report::Stays(stays)) };
            next = token;
        }
        Err(not_zoom("its report has no end"))
    }

    /// The files of a run's recording; none, as long as there are none.
    pub async fn files(&self, zoom: &Zoom, uuid: &str) -> Result<Vec<RecordedFile>, MeetingError> {
        match self.call(zoom, get("recordings", format!("meetings/{}/recordings", zoom::in_path(uuid)))).await {
            Err(MeetingError::Gone) => Ok(Vec::new()),
            told => told.map(|told| zoom::files(&told)),
        }
    }

    /// Whether Zoom has files behind this address: then, and only then, it is shown a token. Its own hosts, or whichever the
    /// operator says is Zoom.
    pub fn serves(&self, url: &Url) -> bool {
        let zooms = url.scheme() == "https"
            && url.port().is_none()
            && url.host_str().is_some_and(|host| host == "zoom.us" || host.ends_with(".zoom.us"));
        zooms || url.origin() == self.places.zoom_api_url.origin()
    }
}

fn plan<'a>(new: &NewMeeting<'a>) -> Plan<'a> {
    Plan {
        room: new.room,
        title: new.title,
        starts_at: new.starts_at,
        ends_at: new.ends_at,
        timezone: new.timezone,
        recording: new.recording,
    }
}

fn number(zoom: &Zoom, told: &Value) -> Result<ZoomMeeting, MeetingError> {
    let number = zoom::meeting_number(told).ok_or_else(|| not_zoom("it tells no meeting"))?;
    Ok(ZoomMeeting { number, registers: zoom.registration })
}

/// Where the next page begins.
fn more(page: &Value) -> Option<String> {
    page["next_page_token"].as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}
