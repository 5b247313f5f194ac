//! One server's calls, as addresses that it accepts as signed.

use url::{Url, form_urlencoded::Serializer};

use super::{BbbMeeting, JoinRequest, signed, webhook};
use crate::secrets::Secret;

/// Characters of a meeting's name; the server refuses longer and shorter ones.
const NAME: std::ops::RangeInclusive<usize> = 2..=64;

/// One server and its secret. Makes addresses, which whoever has them may call: never logged.
#[derive(Debug, Clone)]
pub struct Server {
    /// Host, and port where it is not the usual one.
    pub name: String,
    /// It takes no new meetings: somebody wants it empty.
    pub drained: bool,
    pub(super) base: Url,
    pub(super) algorithm: String,
    pub(super) secret: Secret,
}

/// A meeting to be made.
#[derive(Debug, Clone, Copy)]
pub struct Create<'a> {
    pub room: &'a str,
    pub title: &'a str,
    /// Whether moderators may record.
    pub recording: bool,
    /// Leads back to our session; comes back with recordings.
    pub session: &'a str,
    /// Where the server tells what became of the meeting; nowhere, where the service does not know its own address.
    pub callbacks: Option<&'a Callbacks>,
}

/// Addresses of one session, see `callbacks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callbacks {
    pub end: String,
    pub recording_ready: String,
    pub analytics: String,
}

impl Server {
    /// Where its API is; asked without anything, it tells its version.
    pub fn api(&self) -> &Url {
        &self.base
    }

    /// Makes the meeting, or finds it: a repeat changes nothing, and tells of the one that is there. No passwords are
    /// sent, so that a repeat cannot differ from the first call; people join by their role.
    pub fn create(&self, new: &Create<'_>) -> Option<Url> {
        let mut name: String = new.title.chars().take(*NAME.end()).collect();
        if name.trim().chars().count() < *NAME.start() {
            new.room.clone_into(&mut name);
        }
        let mut parameters = vec![
            ("meetingID", new.room),
            ("name", &name),
            // It lets moderators record, and does not begin by itself.
            ("record", if new.recording { "true" } else { "false" }),
            ("meta_live-session-id", new.session),
        ];
        if let Some(callbacks) = new.callbacks {
            parameters.extend([
                ("meta_endCallbackUrl", callbacks.end.as_str()),
                ("meta_bbb-recording-ready-url", &callbacks.recording_ready),
                // Made of the events, which are thrown away otherwise where nothing is recorded.
                ("meta_analytics-callback-url", &callbacks.analytics),
                ("meetingKeepEvents", "true"),
            ]);
        }
        self.call("create", &parameters)
    }

    /// Ends the meeting, a moment later.
    pub fn end(&self, room: &str) -> Option<Url> {
        self.call("end", &[("meetingID", room)])
    }

    /// Asks what the meeting is like.
    pub fn info(&self, room: &str) -> Option<Url> {
        self.call("getMeetingInfo", &[("meetingID", room)])
    }

    /// Asks what meetings there are.
    pub fn meetings(&self) -> Option<Url> {
        self.call("getMeetings", &[])
    }

    pub(super) fn join(&self, request: &JoinRequest<'_>, meeting: &BbbMeeting) -> Option<Url> {
        let name = Some(request.person.name.trim()).filter(|name| !name.is_empty());
        let created = meeting.created_ms.to_string();
        self.call(
            "join",
            &[
                ("meetingID", request.room),
                ("fullName", name.unwrap_or(request.person.id)),
                ("userID", request.person.id),
                ("role", if request.part.moderates() { "MODERATOR" } else { "VIEWER" }),
                ("createTime", &created),
                ("redirect", "true"),
            ],
        )
    }

    /// Asks what was recorded in a room, whatever its lives; also what is hidden.
    pub fn recordings(&self, room: &str) -> Option<Url> {
        self.call("getRecordings", &[("meetingID", room), ("state", "published,unpublished")])
    }

    /// Deletes a recording in all its forms.
    pub fn delete_recording(&self, record: &str) -> Option<Url> {
        self.call("deleteRecordings", &[("recordID", record)])
    }

    /// Shows a recording in all its forms, or hides it.
    pub fn publish_recording(&self, record: &str, publish: bool) -> Option<Url> {
        self.call("publishRecordings", &[("recordID", record), ("publish", if publish { "true" } else { "false" })])
    }

    /// Asks where webhooks are sent. With a meeting's name bbb-webhooks 3 fails where that has no hook of its own.
    pub fn hooks(&self) -> Option<Url> {
        self.call("hooks/list", &[])
    }

    /// Has webhooks of all meetings sent here. One hook for all is what bbb-webhooks does best: of several for one meeting it
    /// finds only the first, and those of a meeting get nothing of its recordings.
    pub fn create_hook(&self, callback_url: &str) -> Option<Url> {
        self.call("hooks/create", &[("callbackURL", callback_url), ("eventID", &webhook::EVENTS.join(","))])
    }

    pub fn destroy_hook(&self, id: &str) -> Option<Url> {
        self.call("hooks/destroy", &[("hookID", id)])
    }

    /// As `application/x-www-form-urlencoded`, which is how the server itself would write the parameters.
    fn call(&self, call: &str, parameters: &[(&str, &str)]) -> Option<Url> {
        let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
        signed(&self.base, call, &query, (&self.algorithm, self.secret.expose()))
    }
}
