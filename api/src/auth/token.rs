//! Judges the LMS's tokens (JWT, RFC 7519): by a secret, by public keys, or by either, each for the one algorithm that it is
//! made for. A token chooses among our keys by `alg` and `kid`; it never brings one (`jwk`, `jku`, `x5u`, `x5c` are not
//! looked at).

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, dangerous::insecure_decode_claims, decode, decode_header, errors::ErrorKind,
};
use serde_json::{Value, value::RawValue};
use shared::config::AuthConfig;

use super::{
    claims::{Claims, Names},
    jwks::Jwks,
    refusal::{Denial, Refusal},
};

/// Longest token that is looked at, in bytes.
const LONGEST: usize = 16_384;

/// Checks tokens; built once.
pub struct TokenJudge {
    /// Newest first; none where no HS256 token is taken.
    secrets: Vec<DecodingKey>,
    jwks: Option<Jwks>,
    /// One per algorithm.
    validations: Vec<Validation>,
    names: Names,
}

impl TokenJudge {
    /// From now on the public keys are looked after, where there are any. Needs a runtime; does not wait for the keys.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn start(config: &AuthConfig) -> anyhow::Result<Self> {
        let secrets = [&config.auth_jwt_secret, &config.auth_jwt_old_secret];
        Ok(Self {
            secrets: secrets
                .into_iter()
                .filter(|secret| !secret.is_empty())
                .map(|secret| DecodingKey::from_secret(secret.as_bytes()))
                .collect(),
            jwks: config.has_jwks().then(|| Jwks::start(config)).transpose()?,
            validations: [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
                .map(|algorithm| validation(algorithm, config))
                .into(),
            names: Names::new(config),
        })
    }

    /// Returns when the public keys are there, or will not be soon: so that a new process need not turn tokens away which
    /// the others take. The service starts without the keys, too.
    pub async fn ready(&self) {
        if let Some(jwks) = &self.jwks {
            jwks.ready().await;
        }
    }

    /// What the token says, if it is right.
    pub async fn judge(&self, token: &str) -> Result<Claims, Denial> {
        if token.len() > LONGEST {
            return Err(Refusal::TooLong.into());
        }
        // Without public keys there is nothing to choose from.
        let Some(jwks) = &self.jwks else { return Ok(self.by_secret(token)?) };
        let header = decode_header(token).map_err(|e| Refusal::of(e.kind()))?;
        match header.alg {
            Algorithm::HS256 => Ok(self.by_secret(token)?),
            Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA => {
                let key = jwks.find(header.kid.as_deref(), header.alg).await?;
                Ok(self.by(token, &key.key, key.algorithm)?)
            }
            _ => Err(Refusal::Signature.into()),
        }
    }

    fn by_secret(&self, token: &str) -> Result<Claims, Refusal> {
        let mut judged = Err(Refusal::Signature);
        for secret in &self.secrets {
            judged = self.by(token, secret, Algorithm::HS256);
            if judged.as_ref().err() != Some(&Refusal::Signature) {
                break;
            }
        }
        judged
    }

    /// The algorithm is that of the key: `none`, or a public key taken for a secret, never match.
    fn by(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, Refusal> {
        let validation = self.validations.iter().find(|validation| validation.algorithms == [algorithm]);
        let validation = validation.ok_or(Refusal::Signature)?;
        // The signature comes first: what is said of the claims, only somebody hears who could sign them.
        let token = decode::<Box<RawValue>>(token, key, validation).map_err(|e| why(token, e.kind()))?;
        if token.header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        self.names.read(token.claims.get())
    }
}

fn validation(algorithm: Algorithm, config: &AuthConfig) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = config.auth_jwt_leeway;
    validation.validate_nbf = true;
    let mut required = vec!["exp", "sub"];
    validation.validate_aud = !config.auth_jwt_audience.is_empty();
    if validation.validate_aud {
        validation.set_audience(&[&config.auth_jwt_audience]);
        required.push("aud");
    }
    if !config.auth_jwt_issuer.is_empty() {
        validation.set_issuer(&[&config.auth_jwt_issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// The library calls a claim missing that it cannot read; of a token with a right signature we may look.
fn why(token: &str, kind: &ErrorKind) -> Refusal {
    let (ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim)) = kind else {
        return Refusal::of(kind);
    };
    let claims: Value = insecure_decode_claims(token).unwrap_or_default();
    let wanted = match claim.as_str() {
        "exp" | "nbf" => "a time, in seconds since 1970",
        "sub" => "a text",
        _ => "a text or a list of texts",
    };
    match &claims[claim] {
        Value::Null => Refusal::Absent(claim.clone()),
        _ => Refusal::Kind(claim.clone(), wanted),
    }
}
