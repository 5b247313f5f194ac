//! Jitsi, self-hosted and as a service: the token that Prosody's token plugin accepts, and the link that carries it.
//!
//! What is demanded was read from jitsi-meet's `resources/prosody-plugins` (`luajwtjitsi.lib.lua`,
//! `token/util.lib.lua`, `mod_token_affiliation.lua`) and from lib-jitsi-meet's `doc/tokens.md`.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, Header};
use key::{PublicKey, SigningKey};
use serde::Serialize;
use url::Url;

use super::{
    Join, JoinRequest, ProviderError, jaas,
    settings::{ALGORITHMS, HS256_BYTES, JaasSettings, JitsiSettings, RS256},
};
use crate::config::ProvidersConfig;

pub mod control;
pub mod key;

pub use key::generate as generate_key;

/// Prosody knows no leeway: a token of the very second is refused by a clock that is slightly slow.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(10);

/// One server, or one account of JaaS.
pub struct Jitsi {
    /// `https://meet.example.org`, without a slash at the end.
    base: String,
    key: SigningKey,
    issuer: String,
    audience: String,
    subject: String,
    wishes: Wishes,
}

/// How meetings look to those who come.
#[derive(Debug, Clone, Copy, Default)]
struct Wishes {
    /// The page before the meeting is shown.
    prejoin: bool,
    /// Participants wait until they are let in.
    lobby: bool,
    /// Participants come in with microphone and camera off.
    start_muted: bool,
    /// Recordings show moderators alone.
    hide_participants: bool,
}

/// The claims; names are Jitsi's.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    /// One text: Prosody compares it as it is, an array would be refused.
    aud: &'a str,
    sub: &'a str,
    room: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    user: User<'a>,
    features: Features,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<Room>,
}

/// Read by jitsi-contrib's `token_security_ondemand`.
#[derive(Serialize)]
struct Room {
    lobby: bool,
}

#[derive(Serialize)]
struct User<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    /// Read by `mod_token_affiliation`; without that module it has no effect.
    affiliation: &'static str,
    moderator: bool,
    /// Read by jitsi-contrib's `token_lobby_bypass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    lobby_bypass: Option<bool>,
    /// Jibri does not show them.
    #[serde(rename = "hidden-from-recorder", skip_serializing_if = "Option::is_none")]
    hidden_from_recorder: Option<bool>,
}

/// As soon as this object is there it decides alone: what is not `true` here is refused even to
/// moderators. Names are those that Jitsi's web client knows.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Features {
    recording: bool,
    livestreaming: bool,
    transcription: bool,
    create_polls: bool,
    file_upload: bool,
    list_visitors: bool,
    lobby: bool,
    moderation: bool,
    screen_sharing: bool,
    send_groupchat: bool,
    /// Calls cost money per minute.
    inbound_call: bool,
    sip_inbound_call: bool,
    outbound_call: bool,
    sip_outbound_call: bool,
}

impl Jitsi {
    /// Whether participants wait until a moderator lets them in.
    pub fn has_lobby(&self) -> bool {
        self.wishes.lobby
    }

    /// The server of `JITSI_*`; `None` when domain, app id or key is unset, or of no use.
    pub fn of_environment(config: &ProvidersConfig) -> Option<Self> {
        let (domain, app_id) = (config.jitsi_domain.trim(), config.jitsi_app_id.trim());
        let secret = config.jitsi_jwt_secret.trim();
        // A line of an environment file has no line ends.
        let private_key = config.jitsi_private_key.trim().replace("\\n", "\n");
        let key = if private_key.is_empty() { ("JITSI_JWT_SECRET", secret) } else { ("JITSI_PRIVATE_KEY", "set") };
        let unset: Vec<_> = [("JITSI_DOMAIN", domain), ("JITSI_APP_ID", app_id), key]
            .into_iter()
            .filter_map(|(variable, value)| value.is_empty().then_some(variable))
            .collect();
        if unset.len() == 3 {
            return None;
        }
        if !unset.is_empty() {
            tracing::error!(unset = unset.join(", "), "Jitsi is not available: these have to be set as well");
            return None;
        }
        if private_key.is_empty() && secret.len() < HS256_BYTES {
            tracing::warn!(bytes = secret.len(), "JITSI_JWT_SECRET is short: 32 bytes or more cannot be guessed");
        }
        let settings = JitsiSettings {
            domain: domain.to_owned(),
            app_id: app_id.to_owned(),
            audience: config.jitsi_audience.clone(),
            xmpp_domain: config.jitsi_xmpp_domain.clone(),
            algorithm: if private_key.is_empty() { ALGORITHMS[0] } else { RS256 }.to_owned(),
            control_url: None,
            prejoin: false,
            lobby: false,
            start_muted: false,
            hide_participants_from_recorder: false,
            recording_hosts: Vec::new(),
        };
        let jitsi = Self::new(&settings, (secret, &private_key));
        if jitsi.is_none() {
            tracing::error!(
                JITSI_DOMAIN = domain,
                "Jitsi is not available: JITSI_DOMAIN has to be a host such as meet.example.org, and JITSI_PRIVATE_KEY, if \
                 it is set, an RSA private key in PEM form"
            );
        }
        jitsi
    }

    /// A self-hosted server; `None` when the domain is none, or the key that the algorithm needs.
    pub fn new(settings: &JitsiSettings, (secret, private_key): (&str, &str)) -> Option<Self> {
        let key = match settings.signs_with_own_key() {
            true => SigningKey::own(private_key)?,
            false => SigningKey::shared(secret),
        };
        Some(Self {
            base: origin(&settings.domain)?,
            key,
            issuer: settings.app_id.clone(),
            audience: settings.audience.clone(),
            subject: settings.xmpp_domain.clone(),
            wishes: Wishes {
                prejoin: settings.prejoin,
                lobby: settings.lobby,
                start_muted: settings.start_muted,
                hide_participants: settings.hide_participants_from_recorder,
            },
        })
    }

    /// An account of JaaS ("The Jitsi JWT" of its documentation); `None` when the key is none.
    pub fn as_a_service(settings: &JaasSettings, private_key: &str) -> Option<Self> {
        let kid = Some(settings.key_id.clone()).filter(|kid| jaas::is_key_of(kid, &settings.app_id));
        Some(Self {
            base: format!("https://8x8.vc/{}", settings.app_id),
            key: SigningKey {
                header: Header { kid: Some(kid?), ..Header::new(Algorithm::RS256) },
                key: jaas::key(private_key)?,
                public: None,
            },
            issuer: "chat".to_owned(),
            audience: "jitsi".to_owned(),
            subject: settings.app_id.clone(),
            wishes: Wishes::default(),
        })
    }

    /// What Prosody verifies our tokens with; `None` where that is a shared secret.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.key.public.as_ref()
    }

    /// Signs a token for one person and one room and puts it into a link.
    pub fn join(&self, request: &JoinRequest<'_>) -> Result<Join, ProviderError> {
        let room = request.room.to_ascii_lowercase();
        if room.is_empty() || !room.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(ProviderError::Rejected("a Jitsi room consists of letters, digits and hyphens"));
        }
        let not_before = request.not_before - CLOCK_DIFFERENCE;
        if request.expires_at <= request.now.max(not_before) {
            return Err(ProviderError::Rejected("the time to join is over"));
        }
        let claims = self.claims(request, &room, not_before);
        let token = jsonwebtoken::encode(&self.key.header, &claims, &self.key.key)
            .map_err(|_| ProviderError::Rejected("the token could not be signed"))?;
        let Wishes { prejoin, lobby, start_muted, .. } = self.wishes;
        let mut url = format!("{}/{room}?jwt={token}#config.prejoinConfig.enabled={prejoin}", self.base);
        if !request.part.moderates() {
            if lobby {
                // The wish to come in is told without another click.
                url.push_str("&config.lobby.autoKnock=true");
            }
            if start_muted {
                url.push_str("&config.startWithAudioMuted=true&config.startWithVideoMuted=true");
            }
        }
        if !request.subject.is_empty() {
            // The client reads each value as JSON, after decoding it.
            let json = serde_json::Value::from(request.subject).to_string();
            url.push_str("&config.subject=");
            url.push_str(&percent_encode(&json));
        }
        Ok(Join { url, token })
    }

    fn claims<'a>(&'a self, request: &JoinRequest<'a>, room: &'a str, not_before: DateTime<Utc>) -> Claims<'a> {
        let moderator = request.part.moderates();
        let record = moderator && request.recording;
        Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &self.subject,
            room,
            iat: request.now.timestamp(),
            nbf: not_before.timestamp(),
            exp: request.expires_at.timestamp(),
            context: Context {
                user: User {
                    id: request.person.id,
                    name: request.person.name,
                    email: request.person.email,
                    affiliation: if moderator { "owner" } else { "member" },
                    moderator,
                    lobby_bypass: self.wishes.lobby.then_some(moderator),
                    hidden_from_recorder: (self.wishes.hide_participants && !moderator).then_some(true),
                },
                features: Features {
                    recording: record,
                    livestreaming: record,
                    transcription: record,
                    create_polls: moderator,
                    file_upload: moderator,
                    list_visitors: moderator,
                    lobby: moderator,
                    moderation: moderator,
                    screen_sharing: true,
                    send_groupchat: true,
                    inbound_call: false,
                    sip_inbound_call: false,
                    outbound_call: false,
                    sip_outbound_call: false,
                },
                room: self.wishes.lobby.then_some(Room { lobby: true }),
            },
        }
    }
}

/// Scheme, host and port. Without a scheme it is https; http only where written out.
pub fn origin(domain: &str) -> Option<String> {
    let text = if domain.contains("://") { domain.to_owned() } else { format!("https://{domain}") };
    let url = Url::parse(&text).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    (matches!(url.scheme(), "http" | "https") && bare && url.has_host()).then(|| url.origin().ascii_serialization())
}

/// Everything but RFC 3986 §2.3's unreserved characters, so that neither browser nor client can take
/// a part of a title for syntax.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}
