//! BigBlueButton, or Scalelite in front of several: where its API is, calls that it accepts as signed, and the links that
//! let people in.
//!
//! What is demanded was read from BigBlueButton's `docs/docs/development/api.md`, `docs/docs/data/{create,join}.tsx` and
//! `bbb-common-web` (`GetChecksumValidator`, `ParamsProcessorUtil`, `ApiErrors`), lines 2.7 to 3.0.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use url::{Url, form_urlencoded::Serializer};

use super::{Join, JoinRequest, ProviderError, settings::BbbSettings};
use crate::{config::ProvidersConfig, secrets::Secret};

mod answer;
pub mod webhook;

pub use answer::{Answer, Refusal};

/// Characters of a meeting's name; the server refuses longer and shorter ones.
const NAME: std::ops::RangeInclusive<usize> = 2..=64;

/// What tells a meeting from others that the same room has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BbbMeeting {
    /// When it was made, by the server's clock, in milliseconds of the Unix epoch.
    pub created_ms: i64,
}

/// Hashes for checksums; servers tell them by their length. SHA-1 is not offered: every server that is still kept
/// up knows SHA-256.
pub const ALGORITHMS: &[&str] = &["sha256", "sha512", "sha384"];

/// `https://host/bigbluebutton/api/`, out of what people have at hand: the host, what `bbb-conf --secret` shows, or the
/// API's own address. `None` when it is no address.
pub fn api_base(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let sane = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let path = match url.path().trim_end_matches('/') {
        "" => "/bigbluebutton/api/".to_owned(),
        path if path.ends_with("/bigbluebutton") => format!("{path}/api/"),
        path if path.ends_with("/api") => format!("{path}/"),
        _ => return None,
    };
    url.set_path(&path);
    sane.then_some(url)
}

/// The address of a call. `query` goes out as it is: the server hashes the very bytes that it gets.
pub fn signed(base: &Url, call: &str, query: &str, (algorithm, secret): (&str, &str)) -> Option<Url> {
    let checksum = checksum(call, query, (algorithm, secret));
    let joint = if query.is_empty() { "" } else { "&" };
    base.join(&format!("{call}?{query}{joint}checksum={checksum}")).ok()
}

/// Lower-case hex of hash(call + query + secret).
fn checksum(call: &str, query: &str, (algorithm, secret): (&str, &str)) -> String {
    let text = format!("{call}{query}{secret}");
    match algorithm {
        "sha384" => hex::encode(Sha384::digest(text)),
        "sha512" => hex::encode(Sha512::digest(text)),
        _ => hex::encode(Sha256::digest(text)),
    }
}

/// One server and its secret. Makes addresses, which whoever has them may call: never logged.
#[derive(Debug, Clone)]
pub struct Bbb {
    base: Url,
    algorithm: String,
    secret: Secret,
}

impl Bbb {
    /// The server of `BBB_*`; `None` when address or secret is unset, or the address is none.
    pub fn of_environment(config: &ProvidersConfig) -> Option<Self> {
        let (server_url, secret) = (config.bbb_server_url.trim(), config.bbb_shared_secret.trim());
        if server_url.is_empty() && secret.is_empty() {
            return None;
        }
        let settings = BbbSettings {
            server_url: server_url.to_owned(),
            checksum: ALGORITHMS[0].to_owned(),
            recording_hosts: Vec::new(),
        };
        let bbb = Self::new(&settings, secret);
        if bbb.is_none() {
            tracing::error!(
                "BigBlueButton is not available: BBB_SERVER_URL and BBB_SHARED_SECRET have to be what `bbb-conf --secret` shows"
            );
        }
        bbb
    }

    /// `None` when the address is none, or the secret is empty.
    pub fn new(settings: &BbbSettings, secret: &str) -> Option<Self> {
        let base = api_base(&settings.server_url).filter(|_| !secret.is_empty())?;
        Some(Self { base, algorithm: settings.checksum.clone(), secret: Secret::new(secret) })
    }

    /// Makes the meeting, or finds it: a repeat changes nothing, and tells of the one that is there. No passwords are
    /// sent, so that a repeat cannot differ from the first call; people join by their role.
    pub fn create(&self, room: &str, title: &str, recording: bool) -> Option<Url> {
        let mut name: String = title.chars().take(*NAME.end()).collect();
        if name.trim().chars().count() < *NAME.start() {
            room.clone_into(&mut name);
        }
        // It lets moderators record, and does not begin by itself.
        self.call(
            "create",
            &[("meetingID", room), ("name", &name), ("record", if recording { "true" } else { "false" })],
        )
    }

    /// Ends the meeting, a moment later.
    pub fn end(&self, room: &str) -> Option<Url> {
        self.call("end", &[("meetingID", room)])
    }

    /// Asks what the meeting is like.
    pub fn info(&self, room: &str) -> Option<Url> {
        self.call("getMeetingInfo", &[("meetingID", room)])
    }

    /// The link for one person into this very meeting: once it is over, the link is good for nothing, also when another
    /// one begins under the same name.
    pub fn join(&self, request: &JoinRequest<'_>, meeting: &BbbMeeting) -> Result<Join, ProviderError> {
        let name = Some(request.person.name.trim()).filter(|name| !name.is_empty());
        let created = meeting.created_ms.to_string();
        let parameters = [
            ("meetingID", request.room),
            ("fullName", name.unwrap_or(request.person.id)),
            ("userID", request.person.id),
            ("role", if request.part.moderates() { "MODERATOR" } else { "VIEWER" }),
            ("createTime", &created),
            ("redirect", "true"),
        ];
        let url = self.call("join", &parameters).ok_or(ProviderError::Rejected("the link could not be made"))?;
        Ok(Join { url: url.into(), token: String::new() })
    }

    /// As `application/x-www-form-urlencoded`, which is how the server itself would write the parameters.
    fn call(&self, call: &str, parameters: &[(&str, &str)]) -> Option<Url> {
        let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
        signed(&self.base, call, &query, (&self.algorithm, self.secret.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_found_from_what_people_have_at_hand() {
        for text in [
            "https://bbb.example.org",
            "https://bbb.example.org/",
            "https://bbb.example.org/bigbluebutton",
            "https://bbb.example.org/bigbluebutton/",
            "https://bbb.example.org/bigbluebutton/api",
            "https://bbb.example.org/bigbluebutton/api/",
        ] {
            assert_eq!(api_base(text).unwrap().as_str(), "https://bbb.example.org/bigbluebutton/api/", "{text}");
        }
        for wrong in
            ["bbb.example.org", "ftp://a/", "https://a/b", "https://a/?x", "https://u:p@a/", "https://a/#f", ""]
        {
            assert!(api_base(wrong).is_none(), "{wrong}");
        }
    }

    /// The example of the documentation.
    #[test]
    fn checksums_are_those_of_the_documentation() {
        let query = "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444";
        let secret = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";
        for (algorithm, expected) in [
            ("sha256", "da9185f7f333cfdfcd6eeac32dca3777510c4c436020d8b887ba5515bd1d189e"),
            (
                "sha384",
                "891ac633df39d0a1b4f8d597f3e190833216c4b29c4fb51ea3ca72757eeb958d6e7b49a845cf29f5c6019c7d29d029d1",
            ),
            (
                "sha512",
                "de73ad61d11a5c801b68d4bd6ec5248546085cefb0b25c85f3c46249ea93a3a4\
                 b120f92c0a8a58d7512cb77821884951a3b01245f3435dbbef49fff3cc3988b4",
            ),
        ] {
            assert_eq!(checksum("create", query, (algorithm, secret)), expected, "{algorithm}");
        }
        let base = api_base("https://bbb.example.org").unwrap();
        let url = signed(&base, "getMeetings", "", ("sha256", "s3cret")).unwrap();
        assert!(url.as_str().starts_with("https://bbb.example.org/bigbluebutton/api/getMeetings?checksum="), "{url}");
    }
}
