//! Jitsi, self-hosted and as a service: the token that Prosody's token plugin accepts, and the link that carries it.
//!
//! What is demanded was read from jitsi-meet's `resources/prosody-plugins` (`luajwtjitsi.lib.lua`,
//! `token/util.lib.lua`, `mod_token_affiliation.lua`) and from lib-jitsi-meet's `doc/tokens.md`.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use url::Url;

use super::{
    Join, JoinRequest, ProviderError, jaas,
    settings::{HS256_BYTES, JaasSettings, JitsiSettings},
};
use crate::config::ProvidersConfig;

/// Prosody knows no leeway: a token of the very second is refused by a clock that is slightly slow.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(10);

/// One server, or one account of JaaS.
pub struct Jitsi {
    /// `https://meet.example.org`, without a slash at the end.
    base: String,
    header: Header,
    key: EncodingKey,
    issuer: String,
    audience: String,
    subject: String,
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
    moderation: bool,
    screen_sharing: bool,
    send_groupchat: bool,
    /// Costs money per minute.
    outbound_call: bool,
    sip_outbound_call: bool,
}

impl Jitsi {
    /// The server of `JITSI_*`; `None` when domain, app id or secret is unset, or the domain is none.
    pub fn of_environment(config: &ProvidersConfig) -> Option<Self> {
        let (domain, app_id) = (config.jitsi_domain.trim(), config.jitsi_app_id.trim());
        let secret = config.jitsi_jwt_secret.trim();
        let unset: Vec<_> = [("JITSI_DOMAIN", domain), ("JITSI_APP_ID", app_id), ("JITSI_JWT_SECRET", secret)]
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
        if secret.len() < HS256_BYTES {
            tracing::warn!(bytes = secret.len(), "JITSI_JWT_SECRET is short: 32 bytes or more cannot be guessed");
        }
        let settings = JitsiSettings {
            domain: domain.to_owned(),
            app_id: app_id.to_owned(),
            audience: config.jitsi_audience.clone(),
            xmpp_domain: config.jitsi_xmpp_domain.clone(),
            recording_hosts: Vec::new(),
        };
        let jitsi = Self::new(&settings, secret);
        if jitsi.is_none() {
            tracing::error!(
                JITSI_DOMAIN = domain,
                "Jitsi is not available: JITSI_DOMAIN has to be a host such as meet.example.org"
            );
        }
        jitsi
    }

    /// A self-hosted server; `None` when the domain is none.
    pub fn new(settings: &JitsiSettings, secret: &str) -> Option<Self> {
        Some(Self {
            base: origin(&settings.domain)?,
            header: Header::new(Algorithm::HS256),
            key: EncodingKey::from_secret(secret.as_bytes()),
            issuer: settings.app_id.clone(),
            audience: settings.audience.clone(),
            subject: settings.xmpp_domain.clone(),
        })
    }

    /// An account of JaaS ("The Jitsi JWT" of its documentation); `None` when the key is none.
    pub fn as_a_service(settings: &JaasSettings, private_key: &str) -> Option<Self> {
        let kid = Some(settings.key_id.clone()).filter(|kid| jaas::is_key_of(kid, &settings.app_id));
        Some(Self {
            base: format!("https://8x8.vc/{}", settings.app_id),
            header: Header { kid: Some(kid?), ..Header::new(Algorithm::RS256) },
            key: jaas::key(private_key)?,
            issuer: "chat".to_owned(),
            audience: "jitsi".to_owned(),
            subject: settings.app_id.clone(),
        })
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
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map_err(|_| ProviderError::Rejected("the token could not be signed"))?;
        let mut url = format!("{}/{room}?jwt={token}#config.prejoinConfig.enabled=false", self.base);
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
                },
                features: Features {
                    recording: record,
                    livestreaming: record,
                    transcription: record,
                    create_polls: moderator,
                    file_upload: moderator,
                    list_visitors: moderator,
                    moderation: moderator,
                    screen_sharing: true,
                    send_groupchat: true,
                    outbound_call: false,
                    sip_outbound_call: false,
                },
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
