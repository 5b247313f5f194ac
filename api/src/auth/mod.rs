//! Who calls: the LMS's token or a machine's API key, judged, as an extractor. `Caller` in a handler's signature means that
//! nobody gets in without a valid one.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use chrono::{DateTime, Utc};
use shared::{
    db::tenants::Tenant,
    domain::{
        api_key,
        person::{Role, is_mail_address},
    },
};

use self::refusal::{Denial, Refusal};
use crate::{error::Error, state::AppState};

mod api_keys;
mod claims;
mod jwks;
mod key_set;
mod refusal;
mod token;

pub use api_keys::ApiKeys;
pub use jwks::check as check_jwks;
pub use token::TokenJudge;

/// The person or machine that a valid token or key speaks of.
#[derive(Debug, Clone)]
pub struct Caller {
    pub tenant: Arc<Tenant>,
    /// The LMS's id of the person, the token's `sub`; `api-key:<id>` of a machine.
    pub id: String,
    pub roles: Vec<Role>,
    pub name: String,
    pub email: Option<String>,
    /// They call with an API key.
    pub is_machine: bool,
    /// When that key ends.
    pub key_expires_at: Option<DateTime<Utc>>,
}

impl Caller {
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// How the audit log names them.
    pub fn actor(&self) -> String {
        if self.is_machine { self.id.clone() } else { format!("person:{}", self.id) }
    }

    async fn by_token(state: &AppState, token: &str) -> Result<Self, Error> {
        let claims = state.tokens.judge(token).await?;
        let tenant = state.tenants.find(&claims.tenant).await?.ok_or(Denial::Refused(Refusal::Tenant))?;
        Ok(Self {
            tenant,
            roles: roles(&claims.roles),
            name: clean_name(claims.name.as_deref().unwrap_or_default()),
            email: claims.email.filter(|email| is_mail_address(email)),
            id: claims.sub,
            is_machine: false,
            key_expires_at: None,
        })
    }

    async fn by_api_key(state: &AppState, key: &str) -> Result<Self, Error> {
        let key = state.api_keys.judge(key, state.clock.now()).await?;
        let tenant = state.tenants.find(&key.tenant_id.to_string()).await?.ok_or(Denial::Refused(Refusal::Tenant))?;
        Ok(Self {
            tenant,
            id: api_key::caller_id(key.id),
            roles: roles(&key.roles),
            name: key.name,
            email: None,
            is_machine: true,
            key_expires_at: key.expires_at,
        })
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        // Already judged, and counted, in this request.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let token = bearer(parts).map_err(Denial::Refused)?;
        let caller = match token.starts_with(api_key::PREFIX) {
            true => Self::by_api_key(state, token).await?,
            false => Self::by_token(state, token).await?,
        };
        state.rates.admit(&caller)?;
        state.places.admit(&caller)?;
        Ok(caller)
    }
}

fn roles(named: &[String]) -> Vec<Role> {
    Role::ALL.into_iter().filter(|role| named.iter().any(|name| name == role.as_str())).collect()
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use shared::config::AuthConfig;

    use super::*;

    #[test]
    fn a_refusal_is_one_line_in_the_log_without_the_token() {
        use std::sync::Mutex;

        let lines = Arc::new(Mutex::new(Vec::new()));
        let judge = TokenJudge::start(&AuthConfig {
            auth_jwt_secret: "0123456789abcdef0123456789abcdef".into(),
            ..AuthConfig::default()
        })
        .unwrap();
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
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            let judged = judge.judge("eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0").now_or_never().unwrap();
            drop(Error::from(judged.unwrap_err()));
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
