//! Signatures as [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
//! has them: our own Prosody module (`deploy/prosody/mod_webhook.lua`) signs so, and is asked so.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{TOLERANCE, WebhookError, fields::epoch, header};

const ID: &str = "webhook-id";
const TIME: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

pub struct StandardWebhooks {
    /// Empty: not configured.
    key: Vec<u8>,
}

/// Whether the sender signs in this way, rightly or not.
pub fn signed(headers: &[(String, Vec<u8>)]) -> bool {
    headers.iter().any(|(name, _)| name == SIGNATURE)
}

impl StandardWebhooks {
    /// `whsec_` and base64, as the specification wants it, or any other text as it is.
    pub fn new(secret: &str) -> Self {
        let secret = secret.trim();
        let decoded = secret.strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
        Self { key: decoded.unwrap_or_else(|| secret.into()) }
    }

    /// `webhook-signature: v1,<base64> [v1,…]`: HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<raw body>`, where the time is
    /// that of the attempt in seconds.
    pub fn verify(&self, headers: &[(String, Vec<u8>)], body: &[u8], now: DateTime<Utc>) -> Result<(), WebhookError> {
        if self.key.is_empty() {
            return Err(WebhookError::NotConfigured);
        }
        let value = |name| header(headers, name).ok_or(WebhookError::BadSignature);
        let (id, time, signatures) = (value(ID)?, value(TIME)?, value(SIGNATURE)?);
        let mac = self.mac(id, time, body).ok_or(WebhookError::NotConfigured)?;
        // `verify_slice` compares in constant time. All are tried, so that the time does not tell which fits.
        let fitting = signatures
            .split(' ')
            .filter_map(|signature| BASE64_STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .filter(|signature| mac.clone().verify_slice(signature).is_ok())
            .count();
        if fitting == 0 {
            return Err(WebhookError::BadSignature);
        }
        let signed_at = time.parse().ok().and_then(epoch).ok_or(WebhookError::BadSignature)?;
        if (now - signed_at).abs() > TOLERANCE { Err(WebhookError::Stale) } else { Ok(()) }
    }

    /// The headers that sign a body, for one attempt at this time.
    pub fn sign(&self, id: &str, at: DateTime<Utc>, body: &[u8]) -> [(&'static str, String); 3] {
        let time = at.timestamp().to_string();
        let signature = self.mac(id, &time, body).map(|mac| mac.finalize().into_bytes());
        let signature = format!("v1,{}", BASE64_STANDARD.encode(signature.unwrap_or_default()));
        [(ID, id.to_owned()), (TIME, time), (SIGNATURE, signature)]
    }

    /// HMAC takes keys of any length: there always is one.
    fn mac(&self, id: &str, time: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(mac)
    }
}
