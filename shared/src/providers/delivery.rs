//! A webhook as it came, and what is left of it once it was judged.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{ProviderEvent, WebhookSource};

/// A webhook that nobody has judged yet.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    pub source: WebhookSource,
    /// The address that it was sent to, as its sender was told it; `None` where the service does not know its own.
    pub callback_url: Option<&'a str>,
    /// What follows the `?` of the request; empty where nothing does.
    pub query: &'a str,
    /// Names in lower case.
    pub headers: &'a [(String, Vec<u8>)],
    /// The very bytes.
    pub body: &'a [u8],
    pub now: DateTime<Utc>,
}

/// A webhook that comes from where it says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verified {
    /// To be stored, each one of them alone. Never empty.
    Events(Vec<Received>),
    /// A question of the provider: to be answered with this, and not stored.
    Answer(Value),
}

/// One event, and what is stored of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub event: ProviderEvent,
    /// [`Providers::parse_stored`](super::Providers::parse_stored) makes the same event of it.
    pub body: Value,
}

/// Fields whose values let somebody in, by the words that their names are made of.
const CREDENTIALS: [&str; 8] = [
    "moderatorpass",
    "viewerpass",
    "password",
    "passcode",
    "downloadtoken",
    "sessiontoken",
    "preauthenticatedlink",
    "starturl",
];

/// A body as it may be shown: `…` stands for passwords, tokens and links that carry one.
pub fn without_credentials(body: Value) -> Value {
    match body {
        Value::Object(fields) => {
            let shown = fields.into_iter().map(|(name, value)| {
                let word: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
                let secret = CREDENTIALS.iter().any(|credential| word.contains(credential)) && !value.is_null();
                let value = if secret { Value::from("…") } else { without_credentials(value) };
                (name, value)
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => items.into_iter().map(without_credentials).collect(),
        other => other,
    }
}
