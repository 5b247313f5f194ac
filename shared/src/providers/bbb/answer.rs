//! What a BigBlueButton answers: XML, with status 200 also where it refuses.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use super::BbbMeeting;

/// The fields of `<response>` that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub returncode: String,
    /// Of the API.
    pub version: String,
    /// Of the program (`bbbVersion`); a balancer or an administrator may keep it to themselves.
    pub program: String,
    /// `messageKey`, or the first key of `<errors>`.
    pub key: String,
    /// When the meeting was made, in milliseconds; tells it from others of the same id.
    pub create_time: String,
    /// `internalMeetingID`.
    pub internal_id: String,
    /// The meeting was ended, and is about to go.
    pub forcibly_ended: String,
}

/// Why a server does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the shared secret is wrong, or the server does not take this checksum")]
    Checksum,
    /// There is no such meeting; or not any more.
    #[error("there is no such meeting")]
    NotFound,
    /// It was ended, and lingers for some seconds, in which nobody gets in.
    #[error("the meeting is just being ended")]
    Ending,
    /// A balancer has no server at the moment, or the server has trouble of its own.
    #[error("the server has trouble of its own")]
    Trouble,
    /// Another reason, by the server's word (`messageKey`): a defect on either side.
    #[error("the server refuses: {0}")]
    Other(String),
}

impl Refusal {
    fn of(key: &str) -> Self {
        match key {
            "checksumError" => Self::Checksum,
            "notFound" | "invalidMeetingIdentifier" => Self::NotFound,
            "meetingForciblyEnded" => Self::Ending,
            // Scalelite's.
            "internalError" | "serverUnavailable" | "serverTagUnavailable" => Self::Trouble,
            // It goes into logs.
            other => Self::Other(other.chars().filter(char::is_ascii_alphanumeric).take(64).collect()),
        }
    }
}

impl Answer {
    /// `None` when it is none. What is cut off is read as far as it goes.
    pub fn read(xml: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(xml);
        let mut reader = Reader::from_str(&text);
        let mut answer = Self::default();
        let mut path: Vec<String> = Vec::new();
        loop {
            let mut told = None;
            match reader.read_event() {
                Ok(Event::Start(element)) => {
                    answer.take_error(&element);
                    path.push(String::from_utf8_lossy(element.name().as_ref()).into_owned());
                }
                Ok(Event::Empty(element)) => answer.take_error(&element),
                Ok(Event::End(_)) => _ = path.pop(),
                Ok(Event::Text(text)) => told = Some(String::from_utf8_lossy(&text).into_owned()),
                Ok(Event::CData(text)) => told = Some(String::from_utf8_lossy(&text).into_owned()),
                Ok(Event::Eof) | Err(_) => break,
                Ok(_) => {}
            }
            if let (Some(told), [root, name]) = (told, path.as_slice())
                && root == "response"
                && let Some(field) = answer.field(name)
            {
                field.push_str(told.trim());
            }
        }
        (!answer.returncode.is_empty()).then_some(answer)
    }

    /// Nothing more, where the call succeeded.
    pub fn success(&self) -> Result<(), Refusal> {
        if self.returncode == "SUCCESS" { Ok(()) } else { Err(Refusal::of(&self.key)) }
    }

    /// The meeting that `create` made or found, or that `getMeetingInfo` tells of.
    pub fn meeting(&self) -> Result<BbbMeeting, Refusal> {
        self.success()?;
        if self.forcibly_ended == "true" {
            return Err(Refusal::Ending);
        }
        let created_ms = self.create_time.parse().map_err(|_| Refusal::Other("no createTime".to_owned()))?;
        Ok(BbbMeeting { created_ms, internal_id: self.internal_id.clone(), server: String::new() })
    }

    fn field(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "returncode" => Some(&mut self.returncode),
            "version" => Some(&mut self.version),
            "bbbVersion" => Some(&mut self.program),
            "messageKey" => Some(&mut self.key),
            "createTime" => Some(&mut self.create_time),
            "internalMeetingID" => Some(&mut self.internal_id),
            "hasBeenForciblyEnded" => Some(&mut self.forcibly_ended),
            _ => None,
        }
    }

    fn take_error(&mut self, element: &BytesStart<'_>) {
        if element.name().as_ref() == b"error"
            && self.key.is_empty()
            && let Ok(Some(key)) = element.try_get_attribute("key")
        {
            self.key = String::from_utf8_lossy(&key.value).into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Option<Answer> {
        Answer::read(xml.as_bytes())
    }

    #[test]
    fn answers_are_read_in_all_their_forms() {
        let about = read(
            "<?xml version=\"1.0\"?>\n<response>\n  <returncode>SUCCESS</returncode>\n  <version>2.0</version>\n  \
             <apiVersion>2.0</apiVersion><bbbVersion><![CDATA[3.0.4]]></bbbVersion></response>",
        )
        .unwrap();
        assert_eq!((about.version.as_str(), about.program.as_str()), ("2.0", "3.0.4"));
        let refused = "<response><returncode>FAILED</returncode><messageKey>checksumError</messageKey></response>";
        assert_eq!(read(refused).unwrap().key, "checksumError");
        let errors = "<response><returncode>FAILED</returncode><errors><error key=\"checksumError\" message=\"x\"/>\
                      <error key=\"b\" message=\"y\"/></errors></response>";
        assert_eq!(read(errors).unwrap().key, "checksumError");
        let cut = "<response><returncode>SUCCESS</returncode><meetings><meeting><version>9</version><meetingNa";
        assert_eq!(read(cut).unwrap(), Answer { returncode: "SUCCESS".into(), ..Answer::default() });
        for other in
            ["", "<html><body>hello</body></html>", "{}", "<response>", "<returncode>SUCCESS</returncode>", "\u{0}"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_meeting_is_known_by_the_time_of_its_making() {
        let made = |more: &str| {
            let xml = format!("<response><returncode>SUCCESS</returncode>{more}</response>");
            read(&xml).unwrap().meeting()
        };
        let first = made("<createTime>1795766400123</createTime><hasBeenForciblyEnded>false</hasBeenForciblyEnded>");
        assert_eq!(first, Ok(BbbMeeting { created_ms: 1_795_766_400_123, ..BbbMeeting::default() }));
        let again = made("<createTime><![CDATA[1795766400123]]></createTime><messageKey>duplicateWarning</messageKey>");
        assert_eq!(again, first);
        let ending = made("<createTime>1</createTime><hasBeenForciblyEnded>true</hasBeenForciblyEnded>");
        assert_eq!(ending, Err(Refusal::Ending));
        assert!(matches!(made(""), Err(Refusal::Other(_))));
    }

    #[test]
    fn refusals_are_told_apart() {
        for (key, refusal) in [
            ("checksumError", Refusal::Checksum),
            ("notFound", Refusal::NotFound),
            ("invalidMeetingIdentifier", Refusal::NotFound),
            ("serverUnavailable", Refusal::Trouble),
            ("idNotUnique", Refusal::Other("idNotUnique".into())),
            ("line\nbreak", Refusal::Other("linebreak".into())),
        ] {
            let xml = format!("<response><returncode>FAILED</returncode><messageKey>{key}</messageKey></response>");
            assert_eq!(read(&xml).unwrap().meeting(), Err(refusal), "{key}");
        }
    }
}
