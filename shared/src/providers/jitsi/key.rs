//! The keys with which tokens are signed, and how Prosody gets to know the public ones: `asap_key_server` (one PEM file per key,
//! named by the SHA-256 of its id) or `cache_keys_url` (a JWK set), see jitsi-meet's `token/util.lib.lua`.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize, PublicKeyComponents},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{AlgorithmParameters, Jwk, ThumbprintHash},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// So long are the lines of a PEM file (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// Signs tokens.
pub struct SigningKey {
    pub header: Header,
    pub key: EncodingKey,
    /// What Prosody verifies them with; `None` where that is the same secret, or not ours to publish.
    pub public: Option<PublicKey>,
}

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Of the tokens' header: the key's thumbprint (RFC 7638), so that another key is never taken for this one.
    pub kid: String,
    /// `SubjectPublicKeyInfo` in PEM form.
    pub pem: String,
    jwk: Value,
}

impl SigningKey {
    /// HS256 with Prosody's `app_secret`.
    pub fn shared(secret: &str) -> Self {
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self { header: Header::new(Algorithm::HS256), key, public: None }
    }

    /// RS256 with a private key in PEM form, whose public half we publish; `None` when it is none.
    pub fn own(private_key: &str) -> Option<Self> {
        let key = EncodingKey::from_rsa_pem(private_key.as_bytes()).ok()?;
        let public = PublicKey::of(&key)?;
        let header = Header { kid: Some(public.kid.clone()), ..Header::new(Algorithm::RS256) };
        Some(Self { header, key, public: Some(public) })
    }
}

impl PublicKey {
    fn of(key: &EncodingKey) -> Option<Self> {
        let jwk = Jwk::from_encoding_key(key, Algorithm::RS256).ok()?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        let AlgorithmParameters::RSA(rsa) = &jwk.algorithm else { return None };
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let components = PublicKeyComponents { n: part(&rsa.n)?, e: part(&rsa.e)? };
        let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
        let jwk = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": rsa.n, "e": rsa.e});
        Some(Self { kid, pem: pem("PUBLIC KEY", der.as_ref()), jwk })
    }

    /// The name under which Prosody asks for it: `<lower-case hex SHA-256 of the kid>.pem`.
    pub fn file_name(&self) -> String {
        file_name(&self.kid)
    }

    /// As a JWK set (RFC 7517 §5).
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.jwk]})
    }
}

fn file_name(kid: &str) -> String {
    format!("{}.pem", hex::encode(Sha256::digest(kid)))
}

/// A new private key of 2048 bits in PEM form; takes a good part of a second. `None` when the library cannot make one.
pub fn generate() -> Option<String> {
    let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
    let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    Some(pem("PRIVATE KEY", der.as_ref()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode, encode};

    use super::*;

    #[test]
    fn a_key_s_file_is_named_as_prosody_asks_for_it() {
        // sha256sum of "mykid".
        assert_eq!(file_name("mykid"), "e578476a403380b4309fac073953b15b2e89b33645627264f30ff412c8587483.pem");
    }

    #[test]
    fn what_is_published_verifies_what_is_signed() {
        let key = SigningKey::own(&generate().unwrap()).unwrap();
        let public = key.public.clone().unwrap();
        let token = encode(&key.header, &json!({"room": "algebra"}), &key.key).unwrap();
        let mut rules = Validation::new(Algorithm::RS256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        let by_pem = DecodingKey::from_rsa_pem(public.pem.as_bytes()).unwrap();
        assert_eq!(decode::<Value>(&token, &by_pem, &rules).unwrap().claims["room"], "algebra");
        let jwks = public.jwks();
        let jwk: Jwk = serde_json::from_value(jwks["keys"][0].clone()).unwrap();
        assert_eq!(jwk.common.key_id.as_deref(), Some(public.kid.as_str()));
        let token = decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &rules).unwrap();
        assert_eq!(token.header.kid.as_deref(), Some(public.kid.as_str()));
    }
}
