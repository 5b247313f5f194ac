//! Ids and parameters out of the address; what does not fit becomes a problem document.

use std::fmt;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};
use chrono::{DateTime, Datelike as _, Utc};
use serde::de::DeserializeOwned;
use shared::domain::ids::{ApiKeyId, ErasureId, JobId, ProviderConfigId, RecordingId, SessionId, WebhookEventId};

use crate::{
    error::{self, Error, Problem},
    faults,
};

/// The `{id}` of a path. What is no id names nothing that exists: 404.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

/// What an id in a path names.
pub trait Named: std::str::FromStr {
    const NAME: &'static str;
}

impl Named for SessionId {
    const NAME: &'static str = "session";
}

impl Named for RecordingId {
    const NAME: &'static str = "recording";
}

impl Named for ProviderConfigId {
    const NAME: &'static str = "provider configuration";
}

impl Named for ErasureId {
    const NAME: &'static str = "erasure";
}

impl Named for JobId {
    const NAME: &'static str = "job";
}

impl Named for WebhookEventId {
    const NAME: &'static str = "webhook event";
}

impl Named for ApiKeyId {
    const NAME: &'static str = "API key";
}

impl<S: Send + Sync, T: Named> FromRequestParts<S> for Id<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| error::not_found(T::NAME))?;
        let text = params.iter().find(|(name, _)| *name == "id").map(|(_, value)| value);
        // Only the usual spelling: one thing has one address.
        text.filter(|text| text.len() == 36)
            .and_then(|text| text.parse().ok())
            .map(Self)
            .ok_or_else(|| error::not_found(T::NAME).into())
    }
}

/// The `{name}` of a path.
#[derive(Debug, Clone)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| error::not_found("name"))?;
        let name = params.iter().find(|(name, _)| *name == "name").map(|(_, value)| value.to_owned());
        name.map(Self).ok_or_else(|| error::not_found("name").into())
    }
}

/// The `{person_id}` of a path: the LMS's id of somebody, known here or not.
#[derive(Debug, Clone)]
pub struct Person(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| error::not_found("person"))?;
        let id = params.iter().find(|(name, _)| *name == "person_id").map(|(_, value)| value.to_owned());
        let sane = |id: &String| (1..=255).contains(&id.len()) && !id.chars().any(char::is_control);
        id.filter(sane).map(Self).ok_or_else(|| error::not_found("person").into())
    }
}

/// The parameters after `?`; unknown ones are refused by name.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        // Postgres text cannot hold U+0000.
        let query = parts.uri.query().unwrap_or_default();
        if let Some((name, _)) =
            url::form_urlencoded::parse(query.as_bytes()).find(|(n, v)| n.contains('\0') || v.contains('\0'))
        {
            return Err(error::bad_parameter(&name.replace('\0', ""), "holds the character U+0000").into());
        }
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let detail = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                let (parameter, mut detail) = faults::of_parameter(detail);
                let query = parts.uri.query().unwrap_or_default();
                let raw = query.split('&').find_map(|pair| pair.strip_prefix(&*parameter)?.strip_prefix('='));
                if raw.is_some_and(|value| value.contains('+')) {
                    detail.push_str("; a + in an address means a space: write %2B");
                }
                Err(error::bad_parameter(parameter, detail).into())
            }
        }
    }
}

/// A time in a parameter, within what the database can hold.
pub fn sane_time(name: &str, at: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, Problem> {
    match at {
        Some(at) if !(1..=9999).contains(&at.year()) => {
            Err(error::bad_parameter(name, "is not within the years 1 to 9999"))
        }
        at => Ok(at),
    }
}

/// The version of a thing, as an ETag (RFC 9110 §8.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    pub fn of(version: impl fmt::Display) -> Self {
        Self(format!("\"{version}\""))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `If-Match` allows to write what has this tag; no header allows it, one without a tag is a mistake.
    pub fn allows_write(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let given: Vec<_> = headers.get_all(header::IF_MATCH).iter().collect();
        if given.iter().any(|value| value.as_bytes().trim_ascii().is_empty()) {
            return Err(error::bad_request("empty-if-match", "If-Match is empty: send an ETag, or leave it out."));
        }
        if given.is_empty() || given.iter().any(|value| self.is_in(value.as_bytes(), false)) {
            return Ok(());
        }
        Err(error::precondition_failed())
    }

    /// Whether `If-None-Match` says that the caller has this already.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::IF_NONE_MATCH).iter().any(|value| self.is_in(value.as_bytes(), true))
    }

    fn is_in(&self, list: &[u8], weak: bool) -> bool {
        let Ok(list) = std::str::from_utf8(list) else { return false };
        list.split(',').map(str::trim).any(|tag| {
            let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
            tag == "*" || tag == self.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_wants_the_present_version_and_no_weak_one() {
        let tag = Etag::of(7);
        for (given, allowed) in
            [("\"7\"", true), ("*", true), ("\"6\", \"7\"", true), ("\"6\"", false), ("W/\"7\"", false), ("7", false)]
        {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, given.parse().unwrap())]);
            assert_eq!(tag.allows_write(&headers).is_ok(), allowed, "{given}");
        }
        assert!(tag.allows_write(&HeaderMap::new()).is_ok());
        for empty in ["", " "] {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, empty.parse().unwrap())]);
            assert_eq!(tag.allows_write(&headers).unwrap_err().status, 400);
        }
    }
}
