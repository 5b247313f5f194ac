//! The calls, and what they do to the meetings.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use shared::clock::Clock;

use super::{
    hooks::event,
    meeting::{Attendee, Meeting},
    reply::Reply,
};

/// A meeting that nobody joins is removed after this time (`meetingExpireIfNoUserJoinedInMinutes`).
const EXPIRES: Duration = Duration::from_secs(5 * 60);

/// By id.
#[derive(Debug, Default)]
pub struct Meetings {
    open: BTreeMap<String, Meeting>,
    /// The last of each id, also when it is over.
    last: BTreeMap<String, Meeting>,
}

impl Meetings {
    pub fn all(&mut self, end_takes: Duration) -> Vec<Meeting> {
        self.advance(end_takes);
        self.open.values().cloned().collect()
    }

    /// The last meeting of this id, also when it is over.
    pub fn last(&self, id: &str) -> Option<Meeting> {
        self.open.get(id).or_else(|| self.last.get(id)).cloned()
    }

    /// With the events that it causes at once.
    pub fn call(&mut self, call: &str, given: &HashMap<String, String>, end_takes: Duration) -> (Reply, Vec<Value>) {
        let before: BTreeMap<String, usize> =
            self.open.iter().map(|(id, meeting)| (meeting_key(id, meeting), meeting.attendees.len())).collect();
        let reply = self.answer(call, given, end_takes);
        let mut events = Vec::new();
        for (id, meeting) in &self.open {
            let known = before.get(&meeting_key(id, meeting)).copied();
            if known.is_none() {
                events.push(event("meeting-created", json!({"meeting": meeting.told()}), meeting.created_ms));
            }
            let now = Clock::System.now().timestamp_millis();
            let came = meeting.attendees.iter().skip(known.unwrap_or(0));
            events.extend(came.map(|one| event("user-joined", meeting.with(one.told()), now)));
        }
        (reply, events)
    }

    /// Somebody leaves: all of a person's connections, or one. Nothing where nobody is known by this id.
    pub fn leave(&mut self, id: &str, who: &str) -> Vec<Value> {
        let Some(meeting) = self.open.get_mut(id) else { return Vec::new() };
        let is_meant = |one: &Attendee| one.user_id == who || one.internal_id == who;
        let gone: Vec<Attendee> = meeting.attendees.iter().filter(|one| is_meant(one)).cloned().collect();
        meeting.attendees.retain(|one| !is_meant(one));
        let now = Clock::System.now().timestamp_millis();
        let told = |one: &Attendee| json!({"internal-user-id": one.internal_id, "external-user-id": one.user_id, "guest": false});
        gone.iter().map(|one| event("user-left", meeting.with(told(one)), now)).collect()
    }

    /// Somebody presses the button that records.
    pub fn record(&mut self, id: &str) -> Vec<Value> {
        let Some(meeting) = self.open.get_mut(id).filter(|meeting| meeting.record) else { return Vec::new() };
        meeting.marks = true;
        let now = Clock::System.now().timestamp_millis();
        vec![event("meeting-recording-started", json!({"meeting": meeting.names()}), now)]
    }

    /// The end has come of one that was told to end. What a server tells of that, and whom it calls.
    pub fn finish(&mut self, id: &str, created_ms: i64) -> (Vec<Value>, Option<String>) {
        let known = [self.open.get(id), self.last.get(id)].into_iter().flatten();
        let Some(meeting) = known.into_iter().find(|meeting| meeting.created_ms == created_ms) else {
            return (Vec::new(), None);
        };
        let now = Clock::System.now().timestamp_millis();
        // Whoever is still there leaves with it, a moment later by the clock and before it on the wire.
        let mut events: Vec<Value> =
            meeting.attendees.iter().map(|one| event("user-left", meeting.with(one.told()), now + 1)).collect();
        events.push(event("meeting-ended", json!({"meeting": meeting.names()}), now));
        let url = meeting.meta.get("endcallbackurl").map(|url| {
            let joint = if url.contains('?') { '&' } else { '?' };
            format!("{url}{joint}recordingmarks={}", meeting.marks)
        });
        (events, url)
    }

    fn answer(&mut self, call: &str, given: &HashMap<String, String>, end_takes: Duration) -> Reply {
        self.advance(end_takes);
        let get = |name: &str| given.get(name).map_or("", String::as_str);
        let id = get("meetingID");
        if id.is_empty() && call != "getMeetings" {
            return Reply::refusal("missingParamMeetingID", "You must specify a meeting ID");
        }
        match call {
            "create" => self.create(id, given),
            "join" => self.join(id, given),
            "end" => self.end(id, get("password")),
            "isMeetingRunning" => {
                let running = self.open.get(id).is_some_and(|m| !m.attendees.is_empty() && !m.forcibly_ended);
                Reply::success(&format!("  <running>{running}</running>\n"))
            }
            "getMeetingInfo" => match self.open.get(id) {
                Some(meeting) => Reply::success(&meeting.info()),
                None => Reply::refusal("notFound", "We could not find a meeting with that meeting ID"),
            },
            "getMeetings" if self.open.is_empty() => {
                Reply::success("  <meetings/>\n  <messageKey>noMeetings</messageKey>\n")
            }
            "getMeetings" => {
                let all: String = self.open.values().map(|m| format!("<meeting>\n{}</meeting>\n", m.info())).collect();
                Reply::success(&format!("<meetings>\n{all}</meetings>\n"))
            }
            _ => Reply::refusal("unsupportedRequest", "This request is not supported"),
        }
    }

    /// What time does to meetings.
    fn advance(&mut self, end_takes: Duration) {
        let stays = |meeting: &Meeting| match meeting.told_to_end.map(|at| at.elapsed()) {
            Some(since) => since < end_takes * 2,
            None => !meeting.attendees.is_empty() || meeting.made.is_none_or(|at| at.elapsed() < EXPIRES),
        };
        for (id, meeting) in self.open.iter().filter(|(_, meeting)| !stays(meeting)) {
            self.last.insert(id.clone(), meeting.clone());
        }
        self.open.retain(|_, meeting| stays(meeting));
        for meeting in self.open.values_mut() {
            meeting.forcibly_ended = meeting.told_to_end.is_some_and(|at| at.elapsed() >= end_takes);
        }
    }

    fn create(&mut self, id: &str, given: &HashMap<String, String>) -> Reply {
        let get = |name: &str| given.get(name).map(String::as_str);
        let name = get("name").unwrap_or_default();
        if !(2..=64).contains(&name.chars().count()) {
            return Reply::invalid("Meeting name must be between 2 and 64 characters");
        }
        if !(2..=256).contains(&id.chars().count()) || id.contains(',') {
            return Reply::invalid("Meeting ID must be between 2 and 256 characters and cannot contain a comma");
        }
        let passwords = [get("attendeePW"), get("moderatorPW")];
        if passwords.iter().flatten().any(|password| !(2..=64).contains(&password.chars().count())) {
            return Reply::invalid("Passwords must be between 2 and 64 characters");
        }
        if !matches!(get("record"), None | Some("true" | "false")) {
            return Reply::invalid("Record must be a boolean");
        }
        if let Some(meeting) = self.open.get(id) {
            let kept = [&meeting.attendee_password, &meeting.moderator_password];
            if passwords.iter().zip(kept).any(|(given, kept)| given.is_some_and(|given| given != kept)) {
                return Reply::refusal("idNotUnique", "A meeting already exists with that meeting ID");
            }
            return Reply::success(&format!(
                "{}  <messageKey>duplicateWarning</messageKey>\n  <message>This conference was already in existence and \
                 may currently be in progress.</message>\n",
                meeting.created()
            ));
        }
        let password =
            |given: Option<&str>| given.map_or_else(|| hex::encode(rand::random::<[u8; 4]>()), str::to_owned);
        let meeting = Meeting {
            meeting_id: id.to_owned(),
            name: name.to_owned(),
            created_ms: Clock::System.now().timestamp_millis(),
            record: get("record") == Some("true"),
            forcibly_ended: false,
            attendees: Vec::new(),
            meta: given
                .iter()
                .filter_map(|(name, value)| Some((name.strip_prefix("meta_")?.to_lowercase(), value.clone())))
                .collect(),
            marks: false,
            attendee_password: password(passwords[0]),
            moderator_password: password(passwords[1]),
            made: Some(Instant::now()),
            told_to_end: None,
        };
        let reply =
            Reply::success(&format!("{}  <messageKey></messageKey>\n  <message></message>\n", meeting.created()));
        self.open.insert(id.to_owned(), meeting);
        reply
    }

    fn join(&mut self, id: &str, given: &HashMap<String, String>) -> Reply {
        let get = |name: &str| given.get(name).map_or("", String::as_str);
        if get("fullName").is_empty() {
            return Reply::refusal(
                "missingParamFullName",
                "You must specify a name for the attendee who will be joining",
            );
        }
        let Some(meeting) = self.open.get_mut(id) else {
            return Reply::refusal("invalidMeetingIdentifier", "The meeting ID that you supplied did not match any");
        };
        if meeting.forcibly_ended {
            return Reply::refusal("meetingForciblyEnded", "You can not re-join a meeting that has already been ended");
        }
        if given.get("createTime").is_some_and(|time| *time != meeting.created_ms.to_string()) {
            return Reply::refusal("mismatchCreateTimeParam", "The createTime parameter submitted mismatches");
        }
        let role = match (get("role").to_ascii_uppercase().as_str(), get("password")) {
            (role @ ("MODERATOR" | "VIEWER"), _) => role.to_owned(),
            (_, password) if password == meeting.moderator_password => "MODERATOR".to_owned(),
            (_, password) if password == meeting.attendee_password => "VIEWER".to_owned(),
            _ => return Reply::refusal("invalidPassword", "You either did not supply a password or it is wrong"),
        };
        let internal = format!("w_{}", hex::encode(rand::random::<[u8; 6]>()));
        let user_id = Some(get("userID")).filter(|id| !id.is_empty()).unwrap_or(&internal).to_owned();
        let full_name = get("fullName").to_owned();
        meeting.attendees.push(Attendee { internal_id: internal.clone(), user_id, full_name, role });
        let url = format!("/html5client/join?sessionToken={}", hex::encode(rand::random::<[u8; 8]>()));
        let reply = Reply::success(&format!("  <user_id>{internal}</user_id>\n  <url>{url}</url>\n"));
        Reply { redirect: (get("redirect") != "false").then_some(url), ..reply }
    }

    pub fn end(&mut self, id: &str, password: &str) -> Reply {
        let Some(meeting) = self.open.get_mut(id) else {
            return Reply::refusal("notFound", "We could not find a meeting with that meeting ID");
        };
        if !password.is_empty() && password != meeting.moderator_password {
            return Reply::refusal("invalidPassword", "The supplied moderator password is incorrect");
        }
        meeting.told_to_end.get_or_insert_with(Instant::now);
        Reply::success(
            "  <messageKey>sentEndMeetingRequest</messageKey>\n  <message>A request to end the meeting was sent.  Please \
             wait a few seconds, and then use the getMeetingInfo or isMeetingRunning API calls to verify that it was \
             ended.</message>\n",
        )
    }
}

fn meeting_key(id: &str, meeting: &Meeting) -> String {
    format!("{id} {}", meeting.created_ms)
}
