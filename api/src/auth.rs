//! Who calls: the LMS's token, judged, as an extractor. `Caller` in a handler's signature means that
//! nobody gets in without a valid one.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
use serde::Deserialize;
use shared::{config::AuthConfig, db::tenants::Tenant, domain::person::Role};

use crate::{
    error::{Error, Problem, unauthorized},
    middleware::current_request_id,
    state::AppState,
};

/// Longest `sub` that is taken; it is a key in tables.
const LONGEST_ID: usize = 255;

/// The person or machine that a valid token speaks of.
#[derive(Debug, Clone)]
pub struct Caller {
    pub tenant: Arc<Tenant>,
    /// The LMS's id of the person, the token's `sub`.
    pub id: String,
    pub roles: Vec<Role>,
    pub name: String,
    pub email: Option<String>,
}

impl Caller {
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// Checks tokens; built once.
pub struct TokenJudge {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    tenant: String,
    /// Texts that name no role of ours are ignored: the LMS may know more of them.
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
}

impl TokenJudge {
    pub fn new(config: &AuthConfig) -> Self {
        // The algorithm is pinned to the key: `none`, or the secret taken for a public key, never match.
        let mut validation = Validation::new(Algorithm::HS256);
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
        Self { key: DecodingKey::from_secret(config.auth_jwt_secret.as_bytes()), validation }
    }

    fn claims(&self, token: &str) -> Result<Claims, Refusal> {
        // The signature comes first: what is said of the claims, only somebody hears who could sign them.
        let token = decode::<Claims>(token, &self.key, &self.validation).map_err(|e| Refusal::of(e.kind()))?;
        if token.header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        let sub = &token.claims.sub;
        let sane = (1..=LONGEST_ID).contains(&sub.len()) && !sub.chars().any(char::is_control);
        if sane { Ok(token.claims) } else { Err(Refusal::Subject) }
    }
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Missing,
    NotOneBearer,
    Malformed,
    /// By another secret or algorithm.
    Signature,
    /// Extensions that a reader has to understand (RFC 7515 §4.1.11); we know none.
    Critical,
    Expired,
    NotYet,
    Issuer,
    Audience,
    Claims,
    Subject,
    Tenant,
}

impl Refusal {
    fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                Self::Signature
            }
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYet,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }

    /// For the log.
    fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotOneBearer => "not one bearer token",
            Self::Malformed => "malformed",
            Self::Signature => "wrong signature",
            Self::Critical => "crit in the header",
            Self::Expired => "expired",
            Self::NotYet => "not valid yet",
            Self::Issuer => "wrong issuer",
            Self::Audience => "wrong audience",
            Self::Claims => "a claim is missing or of a wrong type",
            Self::Subject => "sub is empty, too long or not one line",
            Self::Tenant => "unknown tenant",
        }
    }

    /// For the caller: what to do about it.
    fn detail(self) -> &'static str {
        match self {
            Self::Missing => "There is no token: send Authorization: Bearer <token>.",
            Self::NotOneBearer => "The Authorization header must be there once and hold one bearer token.",
            Self::Malformed => "The token is malformed: it is no JWT with the agreed claims.",
            Self::Signature => "The token is not signed as agreed: HS256, with the secret of this service.",
            Self::Critical => "The token's header demands extensions (crit) that are not known here.",
            Self::Expired => "The token has expired; get a new one.",
            Self::NotYet => "The token is not valid yet (nbf); compare the clocks.",
            Self::Issuer => "The token's iss is not the one that is expected here.",
            Self::Audience => "The token's aud is not the one that is expected here.",
            Self::Claims => "A claim is missing or of a wrong type: exp, sub and tenant are needed.",
            Self::Subject => "The token's sub must be one line of 1 to 255 bytes.",
            Self::Tenant => "The token's tenant is not known here.",
        }
    }
}

/// Says so in the log as well: otherwise nobody could tell a wrong secret from an attack.
fn refused(why: Refusal) -> Problem {
    tracing::info!(request.id = current_request_id(), reason = why.reason(), "a request without a valid token");
    let challenge = match why {
        Refusal::Missing => "Bearer realm=\"live-sessions\"",
        // RFC 6750 §3.1.
        _ => "Bearer realm=\"live-sessions\", error=\"invalid_token\"",
    };
    unauthorized(why.detail(), challenge)
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        // Already judged, and counted, in this request.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let claims = bearer(parts).and_then(|token| state.tokens.claims(token)).map_err(refused)?;
        let tenant = state.tenants.find(&claims.tenant).await?.ok_or_else(|| refused(Refusal::Tenant))?;
        let caller = Self {
            tenant,
            roles: Role::ALL.into_iter().filter(|role| claims.roles.iter().any(|r| r == role.as_str())).collect(),
            name: clean_name(claims.name.as_deref().unwrap_or_default()),
            email: claims.email.filter(|email| is_address(email)),
            id: claims.sub,
        };
        state.rates.admit(&caller)?;
        Ok(caller)
    }
}

fn bearer(parts: &Parts) -> Result<&str, Refusal> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::NotOneBearer);
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Refusal::NotOneBearer)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Refusal::NotOneBearer) }
}

/// Names go into mails, calendars and provider tokens: one line, of a length that all of them take.
fn clean_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim().to_owned()
}

/// Whether mail could be sent there; the LMS answers for the rest.
fn is_address(text: &str) -> bool {
    text.len() <= 254
        && text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';' | '"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_could_forge_mail_headers_are_not_taken() {
        assert!(is_address("ayşe@okul.example"));
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b\r\nBcc: c@d", "<a@b>", "a@b,c@d"] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_in_the_log_without_the_token() {
        use std::sync::Mutex;

        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let lines = lines.clone();
            move || Lines(lines.clone())
        };
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let judge = TokenJudge::new(&AuthConfig {
            auth_jwt_secret: "0123456789abcdef0123456789abcdef".into(),
            auth_jwt_issuer: String::new(),
            auth_jwt_audience: String::new(),
            auth_jwt_leeway: 0,
        });
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            let _ = judge.claims("eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0").map_err(refused);
        });
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" INFO ") && text.contains("reason=\"wrong signature\""), "{text}");
        assert!(!text.contains("eyJ") && !text.contains("c2VjcmV0"), "{text}");
    }

    #[test]
    fn names_are_one_line_of_bounded_length() {
        assert_eq!(clean_name(" Ali\r\nVeli\0 "), "AliVeli");
        assert_eq!(clean_name(&"ğ".repeat(500)).chars().count(), 200);
    }
}
