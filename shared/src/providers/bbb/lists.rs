//! What a server lists: who is in a meeting, what was recorded, where it sends webhooks.
//!
//! Shapes are those of BigBlueButton's templates for `getMeetingInfo` and `getRecordings`, of Scalelite's
//! `get_recordings.xml.builder`, and of `responses.js` of bbb-webhooks.

use chrono::{DateTime, Utc};
use url::Url;

use super::xml::Element;

/// One person in a meeting; in two tabs they are listed twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attendee {
    /// What the link said (`userID`).
    pub person: String,
    pub name: String,
}

/// What `getMeetingInfo` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Tells this life of the meeting from others of the same room; empty where the server does not say.
    pub internal_id: String,
    pub attendees: Vec<Attendee>,
}

impl Info {
    pub fn read(root: &Element) -> Self {
        let internal_id = root.text("internalMeetingID").to_owned();
        let attendees = root.child("attendees").into_iter().flat_map(|list| list.all("attendee"));
        let attendees = attendees.filter(|one| !one.text("userID").is_empty()).map(|one| Attendee {
            person: one.text("userID").to_owned(),
            name: one.text("fullName").chars().filter(|c| !c.is_control()).take(200).collect(),
        });
        Self { internal_id, attendees: attendees.collect() }
    }
}

/// How much is going on at a server (`getMeetings`): people, then meetings.
pub fn load(root: &Element) -> (i64, i64) {
    let meetings = root.child("meetings").into_iter().flat_map(|list| list.all("meeting"));
    let open = meetings.filter(|meeting| meeting.text("hasBeenForciblyEnded") != "true");
    open.fold((0, 0), |(people, count), meeting| {
        (people + meeting.number("participantCount").unwrap_or(0).max(0), count + 1)
    })
}

/// One form in which a recording can be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playback {
    /// `recordID` and format: the provider's name of it.
    pub external_id: String,
    /// `presentation`, `video`, `notes`, …
    pub format: String,
    pub url: String,
    pub duration_seconds: Option<i64>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    /// Whether people may see it.
    pub published: bool,
}

impl Playback {
    /// Whether the address is that of a media file, and not of a page that plays it.
    pub fn is_file(&self) -> bool {
        is_file(&self.url)
    }
}

/// See [`Playback::is_file`].
pub fn is_file(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let path = url.path().to_ascii_lowercase();
    [".mp4", ".m4v", ".webm"].iter().any(|end| path.ends_with(end))
}

/// [`Playback::external_id`].
pub fn external_id(record: &str, format: &str) -> String {
    format!("{record}/{format}")
}

/// The `recordID` of an [`external_id`].
pub fn record(external_id: &str) -> Option<&str> {
    external_id.split_once('/').map(|(record, _)| record)
}

/// All forms of all recordings (`getRecordings`) that are or were to be seen; those in the making have none yet.
pub fn playbacks(root: &Element) -> Vec<Playback> {
    let recordings = root.child("recordings").into_iter().flat_map(|list| list.all("recording"));
    recordings.flat_map(playbacks_of).collect()
}

fn playbacks_of(recording: &Element) -> Vec<Playback> {
    let record = recording.text("recordID");
    let state = recording.text("state");
    let published = recording.text("published") == "true" && matches!(state, "" | "published");
    let time = |name| recording.number(name).filter(|ms| *ms > 0).and_then(DateTime::from_timestamp_millis);
    let formats = recording.child("playback").into_iter().flat_map(|list| list.all("format"));
    let shown = formats.filter(|format| {
        let is_link = format.text("url").starts_with("http://") || format.text("url").starts_with("https://");
        // Of use to operators alone.
        let is_inner = matches!(format.text("type"), "" | "statistics" | "capture");
        is_link && !is_inner && !record.is_empty()
    });
    let playback = |format: &Element| Playback {
        external_id: external_id(record, format.text("type")),
        format: format.text("type").to_owned(),
        url: format.text("url").to_owned(),
        // Whole minutes; none for what is shorter.
        duration_seconds: format.number("length").filter(|minutes| (1..10_080).contains(minutes)).map(|m| m * 60),
        from: time("startTime"),
        to: time("endTime"),
        published,
    };
    shown.map(playback).collect()
}

/// A place to which a server sends webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub id: String,
    pub callback_url: String,
    /// Of one meeting alone.
    pub meeting: String,
    /// Which events, in lower case, sorted; empty: all.
    pub events: Vec<String>,
    /// Of the server's own configuration: it cannot be removed, and comes with everything.
    pub permanent: bool,
    /// Sends what the programs of the server tell each other, instead of events.
    pub raw: bool,
}

/// What `hooks/list` tells.
pub fn hooks(root: &Element) -> Vec<Hook> {
    let hooks = root.child("hooks").into_iter().flat_map(|list| list.all("hook"));
    let read = |hook: &Element| {
        let mut events: Vec<String> =
            hook.text("eventID").split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        events.retain(|name| !name.is_empty());
        events.sort_unstable();
        Hook {
            id: hook.text("hookID").to_owned(),
            callback_url: hook.text("callbackURL").to_owned(),
            meeting: hook.text("meetingID").to_owned(),
            events,
            permanent: hook.text("permanentHook") == "true",
            raw: hook.text("rawData") == "true",
        }
    };
    hooks.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(inner: &str) -> Element {
        Element::read(format!("<response><returncode>SUCCESS</returncode>{inner}</response>").as_bytes()).unwrap()
    }

    #[test]
    fn people_are_listed_once_for_each_tab() {
        let attendee = "<attendee><userID>ali/1</userID><fullName><![CDATA[Ali <b>]]></fullName></attendee>";
        let info = root(&format!(
            "<internalMeetingID>abc-1</internalMeetingID><attendees>{attendee}{attendee}<attendee/></attendees>"
        ));
        let ali = Attendee { person: "ali/1".into(), name: "Ali <b>".into() };
        assert_eq!(Info::read(&info), Info { internal_id: "abc-1".into(), attendees: vec![ali.clone(), ali] });
        let empty = root("<internalMeetingID>abc-1</internalMeetingID><attendees/>");
        assert_eq!(Info::read(&empty).attendees, []);
        assert_eq!(Info::read(&root("")), Info { internal_id: String::new(), attendees: vec![] });
    }

    #[test]
    fn the_load_is_what_goes_on_now() {
        assert_eq!(load(&root("<meetings/><messageKey>noMeetings</messageKey>")), (0, 0));
        let meeting = |people: u8, ended: bool| {
            format!(
                "<meeting><participantCount>{people}</participantCount><hasBeenForciblyEnded>{ended}\
                 </hasBeenForciblyEnded></meeting>"
            )
        };
        let all = [meeting(3, false), meeting(0, false), meeting(90, true)].concat();
        assert_eq!(load(&root(&format!("<meetings>{all}</meetings>"))), (3, 2));
    }

    /// The shape of BigBlueButton's and of Scalelite's template.
    #[test]
    fn each_format_of_a_recording_is_one_to_watch() {
        let recording = |published: &str, state: &str, formats: &str| {
            root(&format!(
                "<recordings><recording><recordID>r-1</recordID><meetingID><![CDATA[m1]]></meetingID>\
                 <published>{published}</published>{state}<startTime>1708381155717</startTime><endTime>0</endTime>\
                 <metadata><empty><![CDATA[]]></empty></metadata><playback>{formats}</playback></recording></recordings>"
            ))
        };
        let presentation = "<format><type>presentation</type><url>\n  https://bbb.test/playback/2.3/r-1?a=1&amp;b=2\n </url>\
                            <length>31</length><preview><images><image>https://x/</image></images></preview></format>";
        let video = "<format><type>video</type><url>https://bbb.test/r-1/video-0.m4v</url><length>0</length></format>";
        let statistics = "<format><type>statistics</type><url>https://bbb.test/s</url></format>";
        let odd = "<format><type>video</type><url>javascript:alert(1)</url></format><format/>";
        let found =
            playbacks(&recording("true", "<state>published</state>", &[presentation, video, statistics, odd].concat()));
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].external_id.as_str(), found[0].duration_seconds), ("r-1/presentation", Some(1860)));
        assert_eq!(found[0].url, "https://bbb.test/playback/2.3/r-1?a=1&b=2");
        assert_eq!((found[0].from.map(|at| at.timestamp_millis()), found[0].to), (Some(1_708_381_155_717), None));
        assert_eq!(found.iter().map(Playback::is_file).collect::<Vec<_>>(), [false, true]);
        assert!(found.iter().all(|playback| playback.published));
        // One alone is read like many; without a state `published` decides.
        assert!(playbacks(&recording("true", "", presentation))[0].published);
        for hidden in [recording("false", "", video), recording("true", "<state>deleted</state>", video)] {
            assert!(!playbacks(&hidden)[0].published);
        }
        assert_eq!(playbacks(&root("<recordings/>")), []);
        assert_eq!(playbacks(&root("")), []);
    }

    #[test]
    fn hooks_are_known_by_their_address() {
        let list = root(
            "<hooks><hook> <hookID>7</hookID> <callbackURL><![CDATA[https://a/?b&c]]></callbackURL> \
             <eventID><![CDATA[User-Left,user-joined]]></eventID> <permanentHook>false</permanentHook> \
             <rawData>false</rawData> </hook></hooks>",
        );
        let hook = hooks(&list).pop().unwrap();
        assert_eq!((hook.id.as_str(), hook.callback_url.as_str(), hook.meeting.as_str()), ("7", "https://a/?b&c", ""));
        assert_eq!(hook.events, ["user-joined", "user-left"]);
        assert!(!hook.permanent && !hook.raw);
        assert_eq!(hooks(&root("<hooks></hooks>")), []);
    }
}
