//! The addresses that `create` names, and who may call them (`docs/docs/development/api.md` of BigBlueButton; the scripts
//! under `record-and-playback` for recordings and `post_events` for analytics; Scalelite's notifier sends the same).

use aws_lc_rs::hmac;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::{Deserialize, de::DeserializeOwned};
use subtle::ConstantTimeEq as _;
use url::form_urlencoded;

use super::{
    super::{WebhookError, header},
    Bbb,
    server::Callbacks,
};

/// What `signed_parameters` of a recording that is ready says.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordingReady {
    /// Our room.
    pub meeting_id: String,
    pub record_id: String,
}

/// Of the analytics: a token that tells nothing but that its sender has the secret, and until when.
#[derive(Debug, Clone, Deserialize)]
struct Empty {}

impl Bbb {
    /// For one session; `base` is what the routes of its callbacks begin with, and ends in a slash.
    pub fn callbacks(&self, base: &str, session: &str) -> Callbacks {
        Callbacks {
            end: format!("{base}end/{}/", self.end_token(session)),
            recording_ready: format!("{base}recording-ready/"),
            analytics: format!("{base}analytics/"),
        }
    }

    /// The end of a meeting is told without any signature: the address has to be one that nobody guesses.
    fn end_token(&self, session: &str) -> String {
        let secret = self.secrets().next().unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hex::encode(hmac::sign(&key, format!("end of {session}").as_bytes()))
    }

    /// Whether this is the token of the session's address.
    pub fn verify_end(&self, session: &str, token: &str) -> Result<(), WebhookError> {
        let fits = bool::from(self.end_token(session).as_bytes().ct_eq(token.as_bytes()));
        if fits { Ok(()) } else { Err(WebhookError::BadSignature) }
    }

    /// A form with `signed_parameters`, a token without any time.
    pub fn verify_recording_ready(&self, body: &[u8]) -> Result<RecordingReady, WebhookError> {
        let token = form_urlencoded::parse(body).find(|(name, _)| name == "signed_parameters");
        let token = token.ok_or(WebhookError::BadSignature)?.1;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        self.token(&token, validation)
    }

    /// A bearer token, good for a day.
    pub fn verify_analytics(&self, headers: &[(String, Vec<u8>)]) -> Result<(), WebhookError> {
        let token = header(headers, "authorization").and_then(|value| value.strip_prefix("Bearer "));
        self.token::<Empty>(token.ok_or(WebhookError::BadSignature)?.trim(), Validation::new(Algorithm::HS512))
            .map(drop)
    }

    fn token<T: DeserializeOwned + Clone>(&self, token: &str, mut validation: Validation) -> Result<T, WebhookError> {
        // Scalelite chooses by what its operator allows.
        validation.algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        validation.validate_aud = false;
        let mut known = None;
        for secret in self.secrets() {
            let key = DecodingKey::from_secret(secret.as_bytes());
            known = decode::<T>(token, &key, &validation).ok().map(|data| data.claims).or(known);
        }
        known.ok_or(WebhookError::BadSignature)
    }
}
