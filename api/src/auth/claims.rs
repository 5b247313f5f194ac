//! What a token says of somebody, read out of a payload whose signature was found right. Two of the claims have names that
//! are configured, so this is read by hand; in one pass and without a copy of what nobody needs.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use shared::{config::AuthConfig, domain::api_key};

use super::refusal::Refusal;

/// Longest `sub` that is taken; it is a key in tables.
const LONGEST_ID: usize = 255;

/// The claims that mean something here, beside those of time and place (RFC 7519 §4.1), which the library judges.
#[derive(Debug, Default)]
pub struct Claims {
    pub sub: String,
    pub tenant: String,
    /// Texts that name no role of ours are ignored: the LMS may know more of them.
    pub roles: Vec<String>,
    pub name: Option<String>,
    pub email: Option<String>,
}

/// How the claims are called.
#[derive(Debug)]
pub struct Names {
    tenant: String,
    roles: String,
}

const TEXT: &str = "a text";
const TEXTS: &str = "a list of texts";

impl Names {
    pub fn new(config: &AuthConfig) -> Self {
        Self { tenant: config.auth_jwt_tenant_claim.clone(), roles: config.auth_jwt_roles_claim.clone() }
    }

    /// Reads a payload.
    pub fn read(&self, payload: &str) -> Result<Claims, Refusal> {
        let mut json = serde_json::Deserializer::from_str(payload);
        let claims = Reader(self).deserialize(&mut json).map_err(|_| Refusal::Malformed)??;
        let sub = &claims.sub;
        let sane = (1..=LONGEST_ID).contains(&sub.len())
            && !sub.chars().any(char::is_control)
            // Nobody is to be taken for a machine in the records of who did what.
            && !sub.starts_with(api_key::CALLER);
        if !sane {
            return Err(Refusal::Subject);
        }
        // Nor does Postgres take U+0000 in a text that it is asked for.
        if claims.tenant.len() > LONGEST_ID || claims.tenant.chars().any(char::is_control) {
            return Err(Refusal::Tenant);
        }
        Ok(claims)
    }
}

/// The outer error is of JSON, the inner one of the claims.
struct Reader<'a>(&'a Names);

type Read = Result<Claims, Refusal>;

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let (mut sub, mut tenant, mut roles, mut name, mut email) = (None, None, None, None, None);
        let mut twice = None;
        while let Some(Key(claim)) = map.next_key::<Key<'de>>()? {
            let place = match &*claim {
                "sub" => &mut sub,
                "name" => &mut name,
                "email" => &mut email,
                claim if claim == self.0.tenant => &mut tenant,
                claim if claim == self.0.roles => &mut roles,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if place.replace(map.next_value::<Value>()?).is_some() {
                twice = Some(claim.into_owned());
            }
        }
        Ok(match twice {
            Some(claim) => Err(Refusal::Twice(claim)),
            None => self.0.of(sub, tenant, roles, name, email),
        })
    }
}

impl Names {
    fn of(
        &self,
        sub: Option<Value>,
        tenant: Option<Value>,
        roles: Option<Value>,
        name: Option<Value>,
        email: Option<Value>,
    ) -> Read {
        Ok(Claims {
            sub: optional_text("sub", sub)?.ok_or_else(|| Refusal::Absent("sub".into()))?,
            tenant: optional_text(&self.tenant, tenant)?.ok_or_else(|| Refusal::Absent(self.tenant.clone()))?,
            roles: match roles {
                None => Vec::new(),
                Some(Value::Array(items)) => {
                    items.into_iter().map(|item| text(&self.roles, item, TEXTS)).collect::<Result<_, _>>()?
                }
                Some(_) => return Err(Refusal::Kind(self.roles.clone(), TEXTS)),
            },
            name: optional_text("name", name)?,
            email: optional_text("email", email)?,
        })
    }
}

/// `null` says as much as nothing.
fn optional_text(claim: &str, value: Option<Value>) -> Result<Option<String>, Refusal> {
    value.filter(|value| !value.is_null()).map(|value| text(claim, value, TEXT)).transpose()
}

fn text(claim: &str, value: Value, kind: &'static str) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Refusal::Kind(claim.to_owned(), kind)),
    }
}

/// A claim's name; borrowed, unless it has escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_that_is_wrong_is_named() {
        let names = Names { tenant: "school".into(), roles: "groups".into() };
        let read = |payload: &str| names.read(payload);
        let good =
            read(r#"{"sub":"a","school":"s","groups":["x","admin"],"tenant":7,"roles":7,"n\u0061me":"N"}"#).unwrap();
        assert_eq!((&*good.sub, &*good.tenant, good.name.as_deref()), ("a", "s", Some("N")));
        assert_eq!(good.roles, ["x", "admin"]);
        let plain = read(r#"{"sub":"a","school":"s","name":null,"email":null}"#).unwrap();
        assert!(plain.roles.is_empty() && plain.name.is_none());
        let absent = |claim: &str| Refusal::Absent(claim.into());
        let kind = |claim: &str, kind| Refusal::Kind(claim.into(), kind);
        for (payload, why) in [
            (r#"{"school":"s"}"#, absent("sub")),
            (r#"{"sub":null,"school":"s"}"#, absent("sub")),
            (r#"{"sub":"a"}"#, absent("school")),
            (r#"{"sub":"a","tenant":"s"}"#, absent("school")),
            (r#"{"sub":1,"school":"s"}"#, kind("sub", TEXT)),
            (r#"{"sub":"a","school":["s"]}"#, kind("school", TEXT)),
            (r#"{"sub":"a","school":"s","groups":"admin"}"#, kind("groups", TEXTS)),
            (r#"{"sub":"a","school":"s","groups":[1]}"#, kind("groups", TEXTS)),
            (r#"{"sub":"a","school":"s","groups":null}"#, kind("groups", TEXTS)),
            (r#"{"sub":"a","school":"s","email":{}}"#, kind("email", TEXT)),
            (r#"{"sub":"a","school":"s","sub":"b"}"#, Refusal::Twice("sub".into())),
            (r#"{"sub":"a","school":"s","sch\u006fol":"t"}"#, Refusal::Twice("school".into())),
            (r#"{"sub":"","school":"s"}"#, Refusal::Subject),
            (r#"{"sub":"a\nb","school":"s"}"#, Refusal::Subject),
            (r#"{"sub":"api-key:1","school":"s"}"#, Refusal::Subject),
            (r#"{"sub":"a","school":"s\u0000"}"#, Refusal::Tenant),
            (r#"["sub"]"#, Refusal::Malformed),
            (r#"{"sub":"a","school":"s""#, Refusal::Malformed),
        ] {
            assert_eq!(read(payload).unwrap_err(), why, "{payload}");
        }
    }
}
