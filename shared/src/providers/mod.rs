//! Meeting providers: how somebody gets into a meeting, and what its server tells us about it. One
//! adapter per file, one exhaustive `match` here to find it. No I/O and no database: adapters make
//! and judge text, the callers send and store it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::ProvidersConfig,
    domain::{person::Part, provider::ProviderKind},
    secrets::Secret,
};

pub mod bbb;
mod capabilities;
mod delivery;
mod event;
mod event_sync;
mod fields;
mod jaas;
mod jitsi;
mod room;
pub mod settings;
mod standard_webhooks;
pub mod zoom;

pub use capabilities::Capabilities;
pub use delivery::{Delivery, Received, Verified, without_credentials};
pub use event::{Alias, EventKind, FileKind, Occupancy, ProviderEvent, RecordedFile, WebhookSource};
pub use jitsi::{
    control::{Command as JitsiCommand, Control as JitsiControl},
    generate_key as generate_jitsi_key,
    key::PublicKey as JitsiPublicKey,
    origin as jitsi_origin,
};
pub use room::room_name;
use settings::{Configuration, Settings};

/// A webhook's signature older than this, or from further in the future, is a replay.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// The configured adapters. Cheap to clone.
#[derive(Clone)]
pub struct Providers {
    adapters: Arc<Adapters>,
}

struct Adapters {
    jitsi: Option<jitsi::Jitsi>,
    jitsi_control: Option<JitsiControl>,
    jaas_meetings: Option<jitsi::Jitsi>,
    bbb: Option<bbb::Bbb>,
    event_sync: event_sync::EventSync,
    /// Of the same Prosody with our own module instead of event_sync, and of the same secret.
    mod_webhook: standard_webhooks::StandardWebhooks,
    jaas: jaas::Jaas,
    zoom: Option<zoom::Zoom>,
    zoom_webhooks: zoom::webhook::Webhooks,
}

/// A meeting that was made at its server: what ways in are made from. Stored with the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "lowercase")]
pub enum Meeting {
    Bbb(bbb::BbbMeeting),
    Zoom(zoom::ZoomMeeting),
}

impl Meeting {
    /// What the provider calls this very meeting.
    pub fn external_id(&self) -> String {
        match self {
            Self::Bbb(meeting) => meeting.internal_id.clone(),
            Self::Zoom(meeting) => meeting.number.to_string(),
        }
    }

    /// Which of several servers has it, where it tells.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Zoom(_) => None,
            Self::Bbb(meeting) => Some(meeting.server.as_str()).filter(|server| !server.is_empty()),
        }
    }
}

/// Who wants to join what, as what, and for how long the way in shall be open.
#[derive(Debug, Clone)]
pub struct JoinRequest<'a> {
    pub kind: ProviderKind,
    /// The session's room: `[a-z0-9-]`, see [`room_name`].
    pub room: &'a str,
    pub person: JoinPerson<'a>,
    pub part: Part,
    /// The way in opens here (a few seconds earlier, for clocks that differ) …
    pub not_before: DateTime<Utc>,
    /// … and closes here.
    pub expires_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
    /// Whether moderators may record.
    pub recording: bool,
    /// Shown as the meeting's title.
    pub subject: &'a str,
    /// Where a meeting has to be made first ([`ProviderKind::makes_meetings`]): the one that was.
    pub meeting: Option<&'a Meeting>,
    /// Where the provider makes a link for each person: this person's.
    pub link: Option<&'a Secret>,
}

/// The person as the provider shall know it.
#[derive(Debug, Clone)]
pub struct JoinPerson<'a> {
    /// The LMS's id; comes back in webhooks.
    pub id: &'a str,
    pub name: &'a str,
    pub email: Option<&'a str>,
}

/// The way in. Both parts let anybody in who holds them: never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// Opens the meeting in a browser; the token is part of it.
    pub url: String,
    /// The credential alone, for pages that embed the meeting; empty where there is none but the link.
    pub token: String,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").finish_non_exhaustive()
    }
}

/// Why there is no way in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Nothing, or not enough, is configured for this kind.
    #[error("no {} server is configured", .0.as_str())]
    NotConfigured(ProviderKind),
    /// There is no adapter that could do this.
    #[error("{what} is not supported for {}", provider.as_str())]
    Unsupported { provider: ProviderKind, what: &'static str },
    /// The request can never work as it is.
    #[error("{0}")]
    Rejected(&'static str),
}

/// Why a webhook is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Without a secret nothing can be verified.
    #[error("webhooks of this provider are not configured")]
    NotConfigured,
    /// Signature or secret is missing or wrong.
    #[error("the signature is missing or wrong")]
    BadSignature,
    /// Rightly signed, but too long ago (or in the future): a replay.
    #[error("the signature's time is out of tolerance")]
    Stale,
    /// Rightly signed, but not what this provider sends.
    #[error("the body cannot be read: {0}")]
    Malformed(String),
}

impl Providers {
    /// Adapters for what `config` names; what is unset or unusable stays not configured. The reason
    /// is logged, naming the variable.
    pub fn new(config: &ProvidersConfig) -> Self {
        Self {
            adapters: Arc::new(Adapters {
                jitsi: jitsi::Jitsi::of_environment(config),
                jitsi_control: JitsiControl::new(&config.jitsi_control_url, &config.jitsi_control_secret),
                jaas_meetings: None,
                bbb: bbb::Bbb::of_environment(config),
                event_sync: event_sync::EventSync::new(&config.jitsi_webhook_secret),
                mod_webhook: standard_webhooks::StandardWebhooks::new(&config.jitsi_webhook_secret),
                jaas: jaas::Jaas::new(&config.jaas_webhook_secret),
                zoom: None,
                zoom_webhooks: zoom::webhook::Webhooks::new(""),
            }),
        }
    }

    /// The adapter for what a tenant has configured, alone. What is unusable stays not configured.
    pub fn of(configuration: &Configuration) -> Self {
        let secret = |field| configuration.secret(field);
        let (mut jitsi, mut jitsi_control, mut jaas_meetings, mut bbb) = (None, None, None, None);
        let (mut event_sync, mut jaas) = (event_sync::EventSync::new(""), jaas::Jaas::new(""));
        let mut mod_webhook = standard_webhooks::StandardWebhooks::new("");
        let (mut zoom, mut zoom_webhooks) = (None, zoom::webhook::Webhooks::new(""));
        match &configuration.settings {
            Settings::Jitsi(settings) => {
                jitsi = jitsi::Jitsi::new(settings, (secret("jwt_secret"), secret("private_key")));
                let control_url = settings.control_url.as_deref().unwrap_or_default();
                jitsi_control = JitsiControl::new(control_url, secret("control_secret"));
                event_sync = event_sync::EventSync::new(secret("webhook_secret"));
                mod_webhook = standard_webhooks::StandardWebhooks::new(secret("webhook_secret"));
            }
            Settings::Jaas(settings) => {
                jaas_meetings = jitsi::Jitsi::as_a_service(settings, secret("private_key"));
                jaas = jaas::Jaas::new(secret("webhook_secret"));
            }
            Settings::Bbb(settings) => bbb = bbb::Bbb::new(settings, secret("shared_secret"), secret("server_secrets")),
            Settings::Zoom(settings) => {
                zoom = zoom::Zoom::new(settings, secret("client_secret"), secret("sdk_secret"));
                zoom_webhooks = zoom::webhook::Webhooks::new(secret("webhook_secret"));
            }
        }
        let adapters =
            Adapters { jitsi, jitsi_control, jaas_meetings, bbb, event_sync, mod_webhook, jaas, zoom, zoom_webhooks };
        Self { adapters: Arc::new(adapters) }
    }

    /// Where sessions are held that say nothing of it.
    pub fn default_kind(&self) -> ProviderKind {
        let usable = |kind: &ProviderKind| self.configured(*kind);
        [ProviderKind::Jitsi, ProviderKind::Bbb].into_iter().find(usable).unwrap_or(ProviderKind::Jitsi)
    }

    /// Whether [`Self::join`] can work for sessions of this kind.
    pub fn configured(&self, kind: ProviderKind) -> bool {
        match kind {
            ProviderKind::Jitsi => self.adapters.jitsi.is_some(),
            ProviderKind::Jaas => self.adapters.jaas_meetings.is_some(),
            ProviderKind::Bbb => self.adapters.bbb.is_some(),
            ProviderKind::Zoom => self.adapters.zoom.is_some(),
        }
    }

    /// The BigBlueButton, for those who make and end meetings there.
    pub fn bbb(&self) -> Result<&bbb::Bbb, ProviderError> {
        self.adapters.bbb.as_ref().ok_or(ProviderError::NotConfigured(ProviderKind::Bbb))
    }

    /// The Zoom account, for those who ask its API.
    pub fn zoom(&self) -> Result<&zoom::Zoom, ProviderError> {
        self.adapters.zoom.as_ref().ok_or(ProviderError::NotConfigured(ProviderKind::Zoom))
    }

    /// The module in the Prosody of a Jitsi that can be told to do things.
    ///
    /// # Errors
    /// `Unsupported`, when it has no control address or secret.
    pub fn jitsi_control(&self) -> Result<&JitsiControl, ProviderError> {
        let what = "telling Prosody without a control address";
        self.adapters.jitsi_control.as_ref().ok_or(ProviderError::Unsupported { provider: ProviderKind::Jitsi, what })
    }

    /// The key with which a Jitsi verifies our tokens; `None` where that is a shared secret.
    pub fn jitsi_public_key(&self) -> Option<&JitsiPublicKey> {
        self.adapters.jitsi.as_ref()?.public_key()
    }

    /// A way in for one person, into one room, for a limited time. Makes no request.
    pub fn join(&self, request: &JoinRequest<'_>) -> Result<Join, ProviderError> {
        let adapter = match request.kind {
            ProviderKind::Jitsi => &self.adapters.jitsi,
            ProviderKind::Jaas => &self.adapters.jaas_meetings,
            ProviderKind::Bbb => {
                let Some(Meeting::Bbb(meeting)) = request.meeting else {
                    return Err(ProviderError::Rejected("the meeting was not made"));
                };
                return self.bbb()?.join(request, meeting);
            }
            ProviderKind::Zoom => {
                let Some(Meeting::Zoom(meeting)) = request.meeting else {
                    return Err(ProviderError::Rejected("the meeting was not made"));
                };
                return self.zoom()?.join(request, meeting);
            }
        };
        adapter.as_ref().ok_or(ProviderError::NotConfigured(request.kind))?.join(request)
    }

    /// Judges a webhook by its raw body, then reads it. Events of no interest are [`EventKind::Other`].
    pub fn verify_webhook(&self, delivery: &Delivery<'_>) -> Result<Verified, WebhookError> {
        match delivery.source {
            WebhookSource::Jitsi => self.verify_jitsi(delivery.headers, delivery.body, delivery.now)?,
            WebhookSource::Jaas => self.adapters.jaas.verify(delivery.headers, delivery.body, delivery.now)?,
            WebhookSource::Bbb => {
                let bbb = self.adapters.bbb.as_ref().ok_or(WebhookError::NotConfigured)?;
                return bbb.verify(delivery).map(Verified::Events);
            }
            WebhookSource::Zoom => return self.adapters.zoom_webhooks.verify(delivery),
        }
        let body = json(delivery.body)?;
        let event = parse(delivery.source, &body, delivery.now)?;
        Ok(Verified::Events(vec![Received { event, body }]))
    }

    /// Judges a call of Jitsi's reservation API by its bearer token: event_sync's.
    pub fn verify_reservation(&self, headers: &[(String, Vec<u8>)]) -> Result<(), WebhookError> {
        self.adapters.event_sync.verify(headers)
    }

    /// Judges what comes from the machines of a Jitsi: signed by our own programs there, or with the secret as the bearer token.
    pub fn verify_jitsi(
        &self,
        headers: &[(String, Vec<u8>)],
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), WebhookError> {
        match standard_webhooks::signed(headers) {
            true => self.adapters.mod_webhook.verify(headers, body, now),
            false => self.adapters.event_sync.verify(headers),
        }
    }

    /// The room that a body names which nobody has verified yet: good for finding out by which secret to judge it, and for
    /// nothing else.
    pub fn unverified_room(&self, source: WebhookSource, body: &[u8]) -> Option<String> {
        let room = match source {
            WebhookSource::Bbb => bbb::webhook::unverified_room(body)?,
            _ => parse(source, &serde_json::from_slice(body).ok()?, DateTime::UNIX_EPOCH).ok()?.room,
        };
        Some(room).filter(|room| !room.is_empty() && !room.contains('\0'))
    }

    /// What else a stored event names the person as whom it is about, the surest first.
    pub fn aliases(&self, source: WebhookSource, body: &Value) -> Vec<Alias> {
        match source {
            WebhookSource::Zoom => zoom::webhook::event_aliases(body),
            WebhookSource::Jitsi | WebhookSource::Jaas | WebhookSource::Bbb => Vec::new(),
        }
    }

    /// Reads what is stored of an event again, see [`Received::body`]. An event without a time of its own
    /// (only unknown ones have none) is put at the epoch.
    pub fn parse_stored(&self, source: WebhookSource, body: &Value) -> Result<ProviderEvent, WebhookError> {
        parse(source, body, DateTime::UNIX_EPOCH)
    }
}

/// The headers by which our own programs sign what they send, for one attempt at this time.
pub fn sign_standard(secret: &str, id: &str, at: DateTime<Utc>, body: &[u8]) -> [(&'static str, String); 3] {
    standard_webhooks::StandardWebhooks::new(secret).sign(id, at, body)
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers").field("jitsi", &self.configured(ProviderKind::Jitsi)).finish_non_exhaustive()
    }
}

fn parse(source: WebhookSource, body: &Value, received: DateTime<Utc>) -> Result<ProviderEvent, WebhookError> {
    match source {
        WebhookSource::Jitsi => event_sync::parse(body, received),
        WebhookSource::Jaas => jaas::parse(body, received),
        WebhookSource::Bbb => bbb::webhook::parse(body, received),
        WebhookSource::Zoom => zoom::webhook::parse(body, received),
    }
}

/// What can be stored of a body.
fn json(body: &[u8]) -> Result<Value, WebhookError> {
    // The parser refuses nesting deeper than 128, so that what follows may recurse.
    let body: Value = serde_json::from_slice(body).map_err(|e| WebhookError::Malformed(e.to_string()))?;
    if fields::has_nul(&body) {
        return Err(WebhookError::Malformed("it holds U+0000, which cannot be stored".to_owned()));
    }
    Ok(body)
}

/// The value of a header that is there once; twice is as good as missing.
fn header<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|(n, _)| n == name);
    let (_, value) = found.next()?;
    if found.next().is_some() {
        return None;
    }
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests;
