//! Public keys out of a JWK set (RFC 7517 §5). A key is good for one algorithm; what is not meant for signatures, or too
//! weak for them, is left out, so that one odd key does not cost the others.

use std::sync::Arc;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Keys that are taken out of a set; each unknown `kid` is compared with all of them.
const MOST: usize = 100;
/// RFC 7518 §3.3; and the longest that the library verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key.
pub struct Key {
    pub kid: Option<String>,
    /// The one algorithm that the key is used with.
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

/// The usable keys of a set.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
    /// How many others the set has, and why the last of them is not used.
    pub left_out: usize,
    pub last_reason: Option<&'static str>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// # Errors
    /// When this is no JWK set. One without a usable key is one.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let document: Document = serde_json::from_slice(bytes).context("what is there is no JWK set (RFC 7517 §5)")?;
        let mut set = Self::default();
        for key in document.keys {
            let key = if set.keys.len() < MOST { Key::of(key) } else { Err("there are too many") };
            match key {
                Ok(key) => set.keys.push(Arc::new(key)),
                Err(reason) => (set.left_out, set.last_reason) = (set.left_out + 1, Some(reason)),
            }
        }
        Ok(set)
    }

    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The key that a token means. Without a `kid` it means the only one of its algorithm.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Arc<Key>> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

impl Key {
    /// # Errors
    /// Why the key is not used.
    fn of(key: Value) -> Result<Self, &'static str> {
        // Whoever reads the set could sign with it.
        if key.get("d").is_some() || key.get("k").is_some() {
            return Err("it is a private key or a secret, in public");
        }
        let jwk: Jwk = serde_json::from_value(key).map_err(|_| "it is no JWK")?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("it is not for signatures (use)");
        }
        if jwk.common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
            return Err("it is not for signatures (key_ops)");
        }
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "its numbers are no base64url");
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => {
                if !RSA_BITS.contains(&bits(&bytes(&key.n)?)) {
                    return Err("an RSA key has to have 2048 to 8192 bits");
                }
                Algorithm::RS256
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                if bytes(&key.x)?.len() != 32 || bytes(&key.y)?.len() != 32 {
                    return Err("it is no point of its curve");
                }
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                if bytes(&key.x)?.len() != 32 {
                    return Err("it is no point of its curve");
                }
                Algorithm::EdDSA
            }
            _ => return Err("it is of a kind that is not used here (kty, crv)"),
        };
        if jwk.common.key_algorithm.is_some_and(|alg| alg != KeyAlgorithm::from(algorithm)) {
            return Err("it is for an algorithm that is not used here (alg)");
        }
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| "it cannot be read")?;
        Ok(Self { kid: jwk.common.key_id, algorithm, key })
    }
}

/// Of a number in network order, without leading zeros.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros).map_or(0, |first| (number.len() - zeros) * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(keys: &Value) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn rsa(bytes: usize) -> Value {
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(vec![0x80; bytes]), "e": "AQAB", "kid": "r"})
    }

    #[test]
    fn a_key_without_alg_gets_it_from_its_kind() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        for (key, algorithm) in [
            (rsa(256), Algorithm::RS256),
            (json!({"kty": "EC", "crv": "P-256", "x": x, "y": x, "kid": "r"}), Algorithm::ES256),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "r", "use": "sig"}), Algorithm::EdDSA),
        ] {
            let set = set(&json!([key]));
            for other in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256, Algorithm::PS256] {
                assert_eq!(set.find(Some("r"), other).is_some(), other == algorithm, "{key} {other:?}");
            }
        }
    }

    #[test]
    fn keys_that_are_not_for_signatures_or_too_weak_are_left_out() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let with = |name: &str, value: Value| {
            let mut key = rsa(256);
            key[name] = value;
            key
        };
        let odd = [
            with("use", json!("enc")),
            with("use", json!("other")),
            with("key_ops", json!(["encrypt"])),
            with("alg", json!("RSA-OAEP")),
            with("alg", json!("RS512")),
            with("alg", json!("HS256")),
            with("alg", json!("none")),
            with("d", json!("AQAB")),
            with("n", json!("?")),
            with("kid", json!(7)),
            rsa(128),
            rsa(255),
            rsa(1025),
            json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}),
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": "AQAB"}),
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": x, "alg": "RS256"}),
            json!({"kty": "OKP", "crv": "X25519", "x": x}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}),
            json!({"kty": "oct", "k": x, "alg": "HS256"}),
            json!({"kty": "?"}),
            json!(7),
            json!(null),
        ];
        for key in &odd {
            let set = set(&json!([key, with("kid", json!("good"))]));
            assert_eq!((set.count(), set.left_out), (1, 1), "{key}");
            assert!(set.find(Some("good"), Algorithm::RS256).is_some());
        }
        for none in ["", "[]", "{}", "{\"keys\":{}}", "<html>", "\u{feff}{\"keys\":[]}"] {
            assert!(KeySet::parse(none.as_bytes()).is_err(), "{none}");
        }
        assert_eq!(set(&json!([])).count(), 0);
    }

    #[test]
    fn without_a_kid_there_has_to_be_one_key_of_the_algorithm() {
        let one = set(&json!([rsa(256)]));
        assert!(one.find(None, Algorithm::RS256).is_some() && one.find(None, Algorithm::ES256).is_none());
        let two = set(&json!([rsa(256), rsa(257)]));
        assert!(two.find(None, Algorithm::RS256).is_none() && two.find(Some(""), Algorithm::RS256).is_none());
    }
}
