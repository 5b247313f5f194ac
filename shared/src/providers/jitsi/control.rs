//! What our Prosody module does when it is asked to (`deploy/prosody/mod_webhook_control.lua`): a signed command.

use chrono::{DateTime, Utc};
use serde::Serialize;
use url::Url;
use uuid::Uuid;

use crate::providers::standard_webhooks::StandardWebhooks;

/// Where the module listens, and the secret that it believes.
pub struct Control {
    url: Url,
    key: StandardWebhooks,
}

/// What it can do. A room is named without its domain.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command<'a> {
    /// Everybody leaves the room and its breakouts, which are gone.
    EndRoom { room: &'a str },
    /// The person with this id in the token leaves, and is kept out until the room is gone.
    RemovePerson { room: &'a str, person_id: &'a str },
}

/// A command that is signed: to be sent soon, and once.
pub struct SignedCommand {
    pub url: Url,
    pub headers: [(&'static str, String); 3],
    pub body: String,
}

impl Control {
    /// `None` while address or secret is not set, or the address is none.
    pub fn new(url: &str, secret: &str) -> Option<Self> {
        let url = address(url)?;
        (!secret.trim().is_empty()).then(|| Self { url, key: StandardWebhooks::new(secret) })
    }

    pub fn sign(&self, command: Command<'_>, now: DateTime<Utc>) -> SignedCommand {
        let body = serde_json::to_string(&command).unwrap_or_default();
        // Each attempt is one of its own: the module carries none out twice.
        let headers = self.key.sign(&Uuid::now_v7().to_string(), now, body.as_bytes());
        SignedCommand { url: self.url.clone(), headers, body }
    }
}

/// An address such as `https://meet.example.org/webhook-control`.
pub fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}
