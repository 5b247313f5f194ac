//! Secrets at rest: sealed with AES-256-GCM (NIST SP 800-38D) under the first of the operator's keys, opened by any of
//! them. Where a secret belongs is authenticated with it, so that a ciphertext that was moved to another row, tenant or
//! field does not open. What keeps them is `db::provider_configs`; not for tokens and passwords of people.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    config::SecretsConfig,
    domain::ids::{ProviderConfigId, TenantId},
};

const KEY_BYTES: usize = 32;
const LONGEST_KEY_ID: usize = 32;

/// A secret in the clear. It has no `Display` and no `Serialize`, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for the one who signs, verifies or seals.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("••••")
    }
}

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which key opens it.
    pub key_id: String,
    /// Nonce, ciphertext, tag.
    pub ciphertext: Vec<u8>,
}

/// Where a secret belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub tenant: TenantId,
    pub config: ProviderConfigId,
    pub field: &'a str,
}

impl Place<'_> {
    /// Ids have one length, so that no two places have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.field.len());
        bytes.extend_from_slice(self.tenant.0.as_bytes());
        bytes.extend_from_slice(self.config.0.as_bytes());
        bytes.extend_from_slice(self.field.as_bytes());
        bytes
    }
}

/// Why a secret is not sealed or opened. Tells nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    #[error("neither SECRETS_KEYS nor SECRETS_KEYS_FILE is set")]
    NoKeys,
    #[error("the key {0:?} that sealed it is not among SECRETS_KEYS")]
    UnknownKey(String),
    /// Another key with the same id, damaged, cut off, or moved from where it belongs.
    #[error("it does not open with the key {0:?}: another key has this id, or the row was tampered with")]
    Damaged(String),
    #[error("it could not be sealed")]
    NotSealed,
}

/// The operator's keys. Cheap to clone.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Arc<Keys>,
}

#[derive(Default)]
struct Keys {
    first: Option<String>,
    by_id: BTreeMap<String, RandomizedNonceKey>,
}

impl Keyring {
    /// The configured keys; none when nothing is set.
    ///
    /// # Errors
    /// What is wrong with them, naming the variable, without repeating a key.
    pub fn load(config: &SecretsConfig) -> anyhow::Result<Self> {
        match &config.secrets_keys_file {
            None => Self::parse(&config.secrets_keys).map_err(|e| anyhow::anyhow!("SECRETS_KEYS: {e}")),
            Some(_) if !config.secrets_keys.trim().is_empty() => {
                anyhow::bail!("SECRETS_KEYS and SECRETS_KEYS_FILE are both set: keep one of them")
            }
            Some(file) => {
                let shown = file.display();
                let text = std::fs::read_to_string(file)
                    .map_err(|e| anyhow::anyhow!("SECRETS_KEYS_FILE: cannot read {shown}: {e}"))?;
                let keys = Self::parse(&text).map_err(|e| anyhow::anyhow!("SECRETS_KEYS_FILE ({shown}): {e}"))?;
                anyhow::ensure!(!keys.is_empty(), "SECRETS_KEYS_FILE: {shown} holds no key");
                Ok(keys)
            }
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Keys::default();
        let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        for (n, part) in parts.enumerate() {
            let place = format!("key number {}", n + 1);
            let (id, key) = part.split_once(':').ok_or_else(|| format!("{place} is not id:base64"))?;
            let sane = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if id.is_empty() || id.len() > LONGEST_KEY_ID || !sane {
                return Err(format!("the id of {place} is not 1 to {LONGEST_KEY_ID} letters, digits, - or _"));
            }
            let bytes = BASE64_STANDARD.decode(key).map_err(|_| format!("the key {id:?} is not base64"))?;
            if bytes.len() != KEY_BYTES {
                return Err(format!("the key {id:?} has {} bytes instead of {KEY_BYTES}", bytes.len()));
            }
            let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| format!("the key {id:?} is no key"))?;
            if keys.by_id.insert(id.to_owned(), key).is_some() {
                return Err(format!("the id {id:?} is there twice"));
            }
            keys.first.get_or_insert_with(|| id.to_owned());
        }
        Ok(Self { keys: Arc::new(keys) })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.first.is_none()
    }

    /// The id of the key that seals.
    pub fn first(&self) -> Option<&str> {
        self.keys.first.as_deref()
    }

    /// Seals under the first key.
    pub fn seal(&self, secret: &Secret, place: Place<'_>) -> Result<Sealed, SecretsError> {
        let key_id = self.first().ok_or(SecretsError::NoKeys)?;
        let key = self.keys.by_id.get(key_id).ok_or(SecretsError::NoKeys)?;
        let mut sealed = secret.expose().as_bytes().to_vec();
        let nonce =
            key.seal_in_place_append_tag(Aad::from(place.bytes()), &mut sealed).map_err(|_| SecretsError::NotSealed)?;
        let mut ciphertext = nonce.as_ref().to_vec();
        ciphertext.extend_from_slice(&sealed);
        Ok(Sealed { key_id: key_id.to_owned(), ciphertext })
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, sealed: &Sealed, place: Place<'_>) -> Result<Secret, SecretsError> {
        if self.is_empty() {
            return Err(SecretsError::NoKeys);
        }
        let unknown = || SecretsError::UnknownKey(sealed.key_id.clone());
        let key = self.keys.by_id.get(&sealed.key_id).ok_or_else(unknown)?;
        let damaged = || SecretsError::Damaged(sealed.key_id.clone());
        let (nonce, text) = sealed.ciphertext.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut text = text.to_vec();
        let opened = key.open_in_place(nonce, Aad::from(place.bytes()), &mut text).map_err(|_| damaged())?;
        std::str::from_utf8(opened).map(Secret::new).map_err(|_| damaged())
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyring").field(&self.keys.by_id.keys().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests;
