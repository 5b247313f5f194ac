//! Access tokens of server-to-server OAuth apps: an hour's, without a refresh token. Kept per app in this process; a second
//! process asks for one of its own, which leaves the first one's good.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use url::Url;

use crate::secrets::Secret;

/// A token is not used for this long before it runs out.
const MARGIN: Duration = Duration::from_secs(60);
/// Apps remembered at most.
const MOST: usize = 1_000;

/// A token that is good at this moment, as far as is known.
#[derive(Debug, Clone)]
pub struct Token {
    pub text: Secret,
    /// The regional host that answers for the account, where Zoom names one.
    pub base: Option<Url>,
    until: Instant,
}

impl Token {
    /// Out of the answer to the grant, which was asked for at `asked`.
    pub fn of(answer: &Value, asked: Instant) -> Option<Self> {
        let text = answer["access_token"].as_str().filter(|text| !text.is_empty())?;
        let seconds = answer["expires_in"].as_u64().unwrap_or(3_600).min(86_400);
        let life = Duration::from_secs(seconds);
        // One that lives shorter than the margin is good for its life's half.
        let life = if life > MARGIN * 2 { life - MARGIN } else { life / 2 };
        let base = answer["api_url"].as_str().and_then(|url| Url::parse(url).ok());
        Some(Self { text: Secret::new(text), base: base.filter(is_zooms), until: asked + life })
    }

    fn is_good(&self) -> bool {
        Instant::now() < self.until
    }
}

/// The token goes to no other host.
fn is_zooms(url: &Url) -> bool {
    url.scheme() == "https" && url.port().is_none() && url.host_str().is_some_and(|host| host.ends_with(".zoom.us"))
}

/// Of one app. Who holds it asks for the next token; the others wait for that one.
pub type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, Slot>>>);

impl Tokens {
    pub fn slot(&self, app: &str) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST && !slots.contains_key(app) {
            slots.clear();
        }
        slots.entry(app.to_owned()).or_default().clone()
    }
}

/// The token of a slot, unless it is the one that was just refused.
pub fn good(slot: &Option<Token>, refused: Option<&Token>) -> Option<Token> {
    let token = slot.as_ref().filter(|token| token.is_good())?;
    let is_refused = refused.is_some_and(|refused| refused.text == token.text);
    (!is_refused).then(|| token.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_given_up_before_it_runs_out_and_follows_zoom_s_own_hosts_alone() {
        let asked = Instant::now();
        let token = |seconds: u64, url: &str| {
            Token::of(&json!({"access_token": "t", "expires_in": seconds, "api_url": url}), asked).unwrap()
        };
        assert_eq!(token(3_599, "").until - asked, Duration::from_secs(3_539));
        assert_eq!(token(2, "").until - asked, Duration::from_secs(1));
        assert!(token(1, "https://api-us.zoom.us").base.is_some());
        for other in ["https://api.zoom.us.evil.test", "http://api.zoom.us", "https://zoom.us:8443", "x"] {
            assert!(token(1, other).base.is_none(), "{other}");
        }
        assert!(Token::of(&json!({"error": "invalid_client"}), asked).is_none());
    }
}
