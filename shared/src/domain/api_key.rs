//! The keys of machines, as they are written: `lsk_<id>_<secret>`, both in hex. The fixed shape lets secret scanners find
//! a key that was committed or mailed: `lsk_[0-9a-f]{32}_[0-9a-f]{64}`.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::ids::ApiKeyId;

/// How every key begins; no JWT does.
pub const PREFIX: &str = "lsk_";

/// A key in clear, as its owner holds it. No `Debug`: it must not get into a log.
pub struct ApiKeySecret {
    pub id: ApiKeyId,
    secret: [u8; 32],
}

impl ApiKeySecret {
    /// A new key, of 256 random bits.
    #[expect(clippy::new_without_default, reason = "a default key would be a new one each time")]
    pub fn new() -> Self {
        Self { id: ApiKeyId::new(), secret: rand::random() }
    }

    /// Reads a key; `None` for everything that is not exactly of its shape.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(id, 32) || !is_hex(secret, 64) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(secret, &mut bytes).ok()?;
        Some(Self { id: id.parse().ok()?, secret: bytes })
    }

    /// The key as it is shown, once.
    pub fn reveal(&self) -> String {
        format!("{}_{}", visible(self.id), hex::encode(self.secret))
    }

    /// What is kept. One round of SHA-256 is right here: slow hashes protect passwords, which can be guessed. 256 random
    /// bits cannot, and a slow hash for every request would only serve those who want to keep us busy.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// Whether this is the key of which `hash` was kept; takes the same time wherever they differ.
    pub fn is(&self, hash: &[u8]) -> bool {
        self.hash().ct_eq(hash).into()
    }
}

/// The part of a key that is no secret and by which it is recognised.
pub fn visible(id: ApiKeyId) -> String {
    format!("{PREFIX}{}", id.0.simple())
}

/// The id of the caller who holds the key, in the columns that say who did something.
pub fn caller_id(id: ApiKeyId) -> String {
    format!("{CALLER}{id}")
}

/// How these ids begin; no person's may.
pub const CALLER: &str = "api-key:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_shown_and_known_by_its_hash() {
        let (key, other) = (ApiKeySecret::new(), ApiKeySecret::new());
        let read = ApiKeySecret::parse(&key.reveal()).unwrap();
        assert_eq!(key.reveal().len(), 4 + 32 + 1 + 64);
        assert_eq!((read.id, read.hash()), (key.id, key.hash()));
        assert!(read.is(&key.hash()) && !other.is(&key.hash()) && !key.is(&[]) && !key.is(&key.hash()[..31]));
        assert!(key.reveal().starts_with(&visible(key.id)));
    }

    #[test]
    fn a_key_has_one_spelling() {
        let key = ApiKeySecret::new().reveal();
        let upper = format!("{PREFIX}{}", key[4..].to_uppercase());
        let dashed = format!("{PREFIX}{}_{}", uuid::Uuid::nil(), "0".repeat(64));
        for bad in ["", "lsk_", "lsk__", &key[1..], &key[..key.len() - 1], &format!("{key}0"), &upper, &dashed] {
            assert!(ApiKeySecret::parse(bad).is_none(), "{bad}");
        }
    }
}
