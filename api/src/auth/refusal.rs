//! Why somebody does not get in: one word for the log, one sentence for the caller.

use jsonwebtoken::errors::ErrorKind;

use crate::{
    error::{Error, Problem, unauthorized, unavailable},
    middleware::current_request_id,
};

/// Why a token or key is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    NotOneBearer,
    TooLong,
    Malformed,
    /// By another secret, key or algorithm.
    Signature,
    /// By a key that the key set does not have.
    Key,
    /// Extensions that a reader has to understand (RFC 7515 §4.1.11); we know none.
    Critical,
    Expired,
    NotYet,
    Issuer,
    Audience,
    /// A claim that is needed.
    Absent(String),
    /// A claim, and what it has to be.
    Kind(String, &'static str),
    /// A claim that is there twice: whose reading would be right?
    Twice(String),
    Subject,
    Tenant,
    ApiKey,
    ApiKeyExpired,
    ApiKeyRevoked,
}

impl Refusal {
    /// What the library says, as far as it needs no look at the claims.
    pub fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYet,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            // No JSON, no base64, no three parts; `none` and other algorithms that nobody should use.
            ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Json(_) | ErrorKind::Utf8(_) => Self::Malformed,
            // By default a doubt about the signature: nothing is told of the claims.
            _ => Self::Signature,
        }
    }

    /// For the log.
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotOneBearer => "not one bearer token",
            Self::TooLong => "too long",
            Self::Malformed => "malformed",
            Self::Signature => "wrong signature",
            Self::Key => "unknown key",
            Self::Critical => "crit in the header",
            Self::Expired => "expired",
            Self::NotYet => "not valid yet",
            Self::Issuer => "wrong issuer",
            Self::Audience => "wrong audience",
            Self::Absent(_) => "a claim is missing",
            Self::Kind(..) => "a claim is of a wrong kind",
            Self::Twice(_) => "a claim is there twice",
            Self::Subject => "sub is empty, too long, not one line or of an API key",
            Self::Tenant => "unknown tenant",
            Self::ApiKey => "unknown API key",
            Self::ApiKeyExpired => "expired API key",
            Self::ApiKeyRevoked => "revoked API key",
        }
    }

    /// For the caller: what to do about it.
    fn detail(&self) -> String {
        let text = match self {
            Self::Missing => "There is no token: send Authorization: Bearer <token>.",
            Self::NotOneBearer => "The Authorization header must be there once and hold one bearer token.",
            Self::TooLong => "The token is longer than 16384 characters.",
            Self::Malformed => "The token is malformed: it is no signed JWT with an object of claims (RFC 7519).",
            Self::Signature => "The token is not signed as agreed: with the algorithm and the key of this service.",
            Self::Key => "The token is signed with a key that is not known here: see its kid and the published keys.",
            Self::Critical => "The token's header demands extensions (crit) that are not known here.",
            Self::Expired => "The token has expired; get a new one.",
            Self::NotYet => "The token is not valid yet (nbf); compare the clocks.",
            Self::Issuer => "The token's iss is not the one that is expected here.",
            Self::Audience => "The token's aud is not the one that is expected here.",
            Self::Absent(claim) => return format!("The token has no claim {claim}."),
            Self::Kind(claim, kind) => return format!("The token's claim {claim} must be {kind}."),
            Self::Twice(claim) => return format!("The token's claim {claim} is there twice."),
            Self::Subject => "The token's sub must be one line of 1 to 255 bytes that does not begin with api-key:.",
            Self::Tenant => "The token's tenant is not known here.",
            Self::ApiKey => "The API key is not known here.",
            Self::ApiKeyExpired => "The API key has expired; an administrator of the tenant makes a new one.",
            Self::ApiKeyRevoked => "The API key was revoked; an administrator of the tenant makes a new one.",
        };
        text.to_owned()
    }
}

/// What came of looking at a token without taking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    Refused(Refusal),
    /// Nobody can tell at the moment: the key set is not there.
    Undecided,
}

impl From<Refusal> for Denial {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Refused(why) => refused(&why).into(),
            // The outage itself is logged by those who look for the keys.
            Denial::Undecided => {
                unavailable("The keys that this token needs are not available at the moment; nothing was changed.")
                    .into()
            }
        }
    }
}

/// Says so in the log as well: otherwise nobody could tell a wrong secret from an attack.
pub fn refused(why: &Refusal) -> Problem {
    tracing::info!(request.id = current_request_id(), reason = why.reason(), "a request without a valid token");
    let challenge = match why {
        Refusal::Missing => "Bearer realm=\"live-sessions\"",
        // RFC 6750 §3.1.
        _ => "Bearer realm=\"live-sessions\", error=\"invalid_token\"",
    };
    unauthorized(why.detail(), challenge)
}
