//! BigBlueButton, or Scalelite in front of several: where its API is, calls that it accepts as signed, and the links that
//! let people in.
//!
//! What is demanded was read from BigBlueButton's `docs/docs/development/api.md`, `docs/docs/data/{create,join}.tsx` and
//! `bbb-common-web` (`GetChecksumValidator`, `ParamsProcessorUtil`, `ApiErrors`), lines 2.7 to 3.0.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use url::Url;

use super::{Join, JoinRequest, ProviderError, settings::BbbSettings};
use crate::{config::ProvidersConfig, secrets::Secret};

mod answer;
pub mod callback_events;
mod callbacks;
mod lists;
mod server;
pub mod webhook;
mod xml;

pub use answer::{Answer, Refusal};
pub use callbacks::RecordingReady;
pub use lists::{Attendee, Hook, Info, Playback, hooks, load, playbacks, record};
pub use server::{Callbacks, Create, Server};
pub use webhook::Covered;
pub use xml::Element;

/// What tells a meeting from others that the same room has had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BbbMeeting {
    /// When it was made, by the server's clock, in milliseconds of the Unix epoch.
    pub created_ms: i64,
    /// `internalMeetingID`; also the name of its recording.
    #[serde(default)]
    pub internal_id: String,
    /// Which of the servers has it ([`Server::name`]); empty where none was told.
    #[serde(default)]
    pub server: String,
}

impl BbbMeeting {
    /// With the name that the server gives it, where an answer did not say: the SHA-1 of the room, and when it was made.
    pub fn named(mut self, room: &str) -> Self {
        if self.internal_id.is_empty() {
            let room = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, room.as_bytes()));
            self.internal_id = format!("{room}-{}", self.created_ms);
        }
        self
    }
}

/// Hashes for checksums; servers tell them by their length. SHA-1 is not offered: every server that is still kept
/// up knows SHA-256.
pub const ALGORITHMS: &[&str] = &["sha256", "sha512", "sha384", "sha1"];

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
        // For servers whose operator allows no other.
        "sha1" => hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes())),
        _ => hex::encode(Sha256::digest(text)),
    }
}

/// The host, with the port where it is not the scheme's: by this a server is known.
pub fn authority(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default().to_ascii_lowercase();
    base.port().map_or(host.clone(), |port| format!("{host}:{port}"))
}

/// The servers of one configuration.
#[derive(Debug, Clone)]
pub struct Bbb {
    servers: Vec<Server>,
    /// Those that send webhooks, where they are others: behind a balancer.
    behind: Vec<Server>,
    covered: Covered,
}

impl Bbb {
    /// The server of `BBB_*`; `None` when address or secret is unset, or the address is none.
    pub fn of_environment(config: &ProvidersConfig) -> Option<Self> {
        let (server_url, secret) = (config.bbb_server_url.trim(), config.bbb_shared_secret.trim());
        if server_url.is_empty() && secret.is_empty() {
            return None;
        }
        let settings = BbbSettings {
            webhook_checksum: config.bbb_webhook_checksum.clone(),
            ..BbbSettings::of_one_server(server_url)
        };
        let bbb = Self::new(&settings, secret, "");
        if bbb.is_none() {
            tracing::error!(
                "BigBlueButton is not available: BBB_SERVER_URL and BBB_SHARED_SECRET have to be what `bbb-conf --secret` shows"
            );
        }
        bbb
    }

    /// `None` when an address is none, or the secret is empty. `of_servers` are the secrets of servers that have another
    /// one, as `<host>=<secret>`, with commas between.
    pub fn new(settings: &BbbSettings, secret: &str, of_servers: &str) -> Option<Self> {
        if secret.is_empty() {
            return None;
        }
        let server = |url: &String| {
            let base = api_base(url)?;
            let name = authority(&base);
            let own = of_servers.split(',').filter_map(|pair| pair.split_once('='));
            let own = own.filter(|(host, _)| host.eq_ignore_ascii_case(&name)).map(|(_, secret)| secret).next_back();
            Some(Server {
                drained: settings.drained_servers.iter().any(|host| host.eq_ignore_ascii_case(&name)),
                algorithm: settings.checksum.clone(),
                secret: Secret::new(own.unwrap_or(secret)),
                name,
                base,
            })
        };
        let meeting_servers = [&settings.server_url].into_iter().chain(&settings.further_servers);
        Some(Self {
            servers: meeting_servers.map(server).collect::<Option<_>>()?,
            behind: settings.webhook_servers.iter().map(server).collect::<Option<_>>()?,
            covered: Covered::read(&settings.webhook_checksum)?,
        })
    }

    /// Those at which meetings are made, in the order of the settings. Never empty.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of this name; the first, where none is told.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| name.is_empty() || server.name == name)
    }

    /// Those that are asked to send webhooks. A balancer is not asked: it does not know how (Scalelite does not pass on
    /// `hooks/*`).
    pub fn webhook_servers(&self) -> &[Server] {
        if self.behind.is_empty() { &self.servers } else { &self.behind }
    }

    /// Those that hold meetings, and those that send webhooks alone.
    pub fn all(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().chain(&self.behind)
    }

    fn covered(&self) -> Covered {
        self.covered
    }

    fn secrets(&self) -> impl Iterator<Item = &str> {
        self.all().map(|server| server.secret.expose())
    }

    /// The link for one person into this very meeting: once it is over, the link is good for nothing, also when another
    /// one begins under the same name.
    pub fn join(&self, request: &JoinRequest<'_>, meeting: &BbbMeeting) -> Result<Join, ProviderError> {
        let server =
            self.server(&meeting.server).ok_or(ProviderError::Rejected("the meeting's server is not configured"))?;
        let url = server.join(request, meeting).ok_or(ProviderError::Rejected("the link could not be made"))?;
        Ok(Join { url: url.into(), token: String::new() })
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

    #[test]
    fn a_meeting_without_a_name_has_the_one_that_its_server_gives_it() {
        let meeting = BbbMeeting { created_ms: 1_708_381_155_717, ..BbbMeeting::default() };
        let named = "6367c48dd193d56ea7b0baad25b19455e529f5ee-1708381155717";
        assert_eq!(meeting.named("abc123").internal_id, named);
    }

    /// The example of the documentation.
    #[test]
    fn checksums_are_those_of_the_documentation() {
        let query = "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444";
        let secret = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";
        for (algorithm, expected) in [
            ("sha1", "1fcbb0c4fc1f039f73aa6d697d2db9ba7f803f17"),
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
        // Computed by hand.
        let hook = "callbackURL=https%3A%2F%2Flms.example.org%2Fhooks%2Fbbb%3Fk%3Dv&meetingID=m1";
        let expected = "29b05c3ee9251f910d12aa83f6f3b2898e34b593577f74559ad1244513b1b241";
        assert_eq!(checksum("hooks/create", hook, ("sha256", "s3cret")), expected);
        let base = api_base("https://bbb.example.org").unwrap();
        let url = signed(&base, "getMeetings", "", ("sha256", "s3cret")).unwrap();
        assert!(url.as_str().starts_with("https://bbb.example.org/bigbluebutton/api/getMeetings?checksum="), "{url}");
    }
}
