//! `Idempotency-Key` on POST (draft-ietf-httpapi-idempotency-key-header-07): a repeat with the same key gets the same
//! answer for 24 hours, from any replica, and has no second effect.
//!
//! The answer has to be kept if, and only if, the effect is. So a request with a key has one transaction ([`Joint`]) for
//! all that its handler writes, and the answer is written into it before the commit. A process that dies before the commit
//! has done nothing, one that dies after it has kept the answer.
//!
//! Only successes are kept. A refusal (4xx) or failure (5xx) rolls everything back, so that its repeat is judged as if it
//! were the first: `join-not-open` would be of little use if it were true for a day.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest,
};
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts as _, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use shared::{
    db::idempotency_keys,
    queue::{Joint, Tx},
};

use crate::{
    auth::Caller,
    body::{LARGEST, read},
    error::{Problem, Result, bad_request, conflict},
    router::{WEBHOOKS, WITHOUT_KEY},
    state::AppState,
};

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells that an answer is one that was given before.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const LONGEST: usize = 255;

tokio::task_local! {
    static JOINT: (Joint, idempotency_keys::Id);
}

/// The transaction of this request; none, where it has no key.
pub fn joint() -> Option<Joint> {
    JOINT.try_with(|(joint, _)| joint.clone()).ok()
}

/// Lets go of the request's transaction, in which nothing was written yet, and of its connection, while somebody else is
/// asked who may take their time; then begins it anew.
pub async fn without_transaction<T>(
    state: &AppState,
    caller: &Caller,
    tx: Tx,
    asking: impl Future<Output = Result<T>>,
) -> Result<(T, Tx)> {
    tx.rollback().await?;
    let answer = asking.await?;
    let Ok((joint, id)) = JOINT.try_with(Clone::clone) else { return Ok((answer, state.begin_for(caller).await?)) };
    let mut tx = state.begin_alone(caller, Some(caller.tenant.id)).await?;
    // The key was free meanwhile: a repeat may be under way, or even have been answered.
    if !idempotency_keys::lock(&mut tx, &id).await? || idempotency_keys::find(&mut tx, &id).await?.is_some() {
        tx.rollback().await?;
        return Err(in_use().into());
    }
    joint.renew(tx);
    Ok((answer, joint.begin()?))
}

/// Runs a POST with a key at most once. Webhooks have their providers' ids instead.
pub async fn at_most_once(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let with_key = request.method() == Method::POST && request.headers().contains_key(IDEMPOTENCY_KEY);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    match route.filter(|route| with_key && !route.starts_with(WEBHOOKS) && !WITHOUT_KEY.contains(&route.as_str())) {
        Some(route) => once(state, route, request, next).await.unwrap_or_else(IntoResponse::into_response),
        None => next.run(request).await,
    }
}

async fn once(state: AppState, route: String, request: Request, next: Next) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &state).await?;
    // The handler takes it from there.
    parts.extensions.insert(caller.clone());
    let key = key(&parts.headers)?;
    let body = read(Request::from_parts(parts.clone(), body), LARGEST).await?;
    let address = parts.uri.path_and_query().map_or("", |p| p.as_str());
    let asked = sha256(&[address.as_bytes(), &body]);
    let slot = Slot::new(&caller, &route, &key);

    let mut tx = state.begin_for(&caller).await?;
    if !idempotency_keys::lock(&mut tx, &slot.id).await? {
        return Err(in_use().into());
    }
    if let Some(sealed) = idempotency_keys::find(&mut tx, &slot.id).await? {
        let kept = slot.open(sealed)?;
        // At once, so that the next one finds the key free.
        tx.rollback().await?;
        return if kept.asked == asked { kept.replay() } else { Err(reused().into()) };
    }
    let joint = Joint::new(tx);
    let request = Request::from_parts(parts, Body::from(body));
    let response = JOINT.scope((joint.clone(), slot.id), next.run(request)).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let mut tx = joint.end().ok_or_else(|| anyhow::anyhow!("POST {route} answered without a commit"))?;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(anyhow::Error::from)?;
    let kept = Kept::of(asked, parts.status, &parts.headers, &body)?;
    tx.see(Some(caller.tenant.id)).await?;
    idempotency_keys::insert(&mut tx, caller.tenant.id, &slot.id, &slot.seal(&kept)?).await?;
    tx.commit().await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// The header's value: text as it is, or a string as structured fields write it (RFC 9651 §3.3.3), which the draft wants.
fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let wrong = || {
        bad_request(
            "invalid-idempotency-key",
            format!("Idempotency-Key must be there once, with 1 to {LONGEST} printable ASCII characters."),
        )
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(wrong()) };
    let text = value.to_str().map_err(|_| wrong())?;
    let key = match text.strip_prefix('"') {
        Some(rest) => unquote(rest).ok_or_else(wrong)?,
        None => text.to_owned(),
    };
    let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && (1..=LONGEST).contains(&key.len()) { Ok(key) } else { Err(wrong()) }
}

/// What stands between the quotes, after the first of them.
fn unquote(text: &str) -> Option<String> {
    let mut key = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => key.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            other => key.push(other),
        }
    }
}

fn in_use() -> Problem {
    conflict(
        "idempotency-key-in-use",
        "The first request is still running",
        "A request with this Idempotency-Key is being carried out; repeat it to get its answer.",
    )
    .retry_after(1)
}

fn reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "The key belongs to another request",
        "This Idempotency-Key came with another address or body before; take a new key for a new request.",
    )
}

/// Where an answer is kept, and the key that opens it. Both come from what the caller sent: the database alone does not
/// show what was answered, and nobody else's key, or tenant, leads here.
struct Slot {
    id: idempotency_keys::Id,
    secret: [u8; 32],
}

impl Slot {
    fn new(caller: &Caller, route: &str, key: &str) -> Self {
        let tenant = caller.tenant.id.0;
        let of = |purpose: &[u8]| {
            sha256(&[purpose, tenant.as_bytes(), caller.id.as_bytes(), route.as_bytes(), key.as_bytes()])
        };
        Self { id: of(b"id"), secret: of(b"secret") }
    }

    fn cipher(&self) -> Result<RandomizedNonceKey> {
        Ok(RandomizedNonceKey::new(&AES_256_GCM, &self.secret).map_err(anyhow::Error::from)?)
    }

    /// The nonce, then what is encrypted.
    fn seal(&self, kept: &Kept) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec(kept).map_err(anyhow::Error::from)?;
        let nonce = self.cipher()?.seal_in_place_append_tag(Aad::empty(), &mut text).map_err(anyhow::Error::from)?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    fn open(&self, mut sealed: Vec<u8>) -> Result<Kept> {
        let (nonce, text) =
            sealed.split_at_mut_checked(NONCE_LEN).ok_or_else(|| anyhow::anyhow!("a kept answer is too short"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(anyhow::Error::from)?;
        let text = self.cipher()?.open_in_place(nonce, Aad::empty(), text).map_err(anyhow::Error::from)?;
        Ok(serde_json::from_slice(text).map_err(anyhow::Error::from)?)
    }
}

/// An answer, with what was asked.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// SHA-256 of the address and the body.
    asked: [u8; 32],
    status: u16,
    /// All that the handler set: type, `Location`, `ETag`.
    headers: Vec<(String, String)>,
    body: String,
}

impl Kept {
    fn of(asked: [u8; 32], status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Self> {
        let headers = headers
            .iter()
            .map(|(name, value)| Ok((name.as_str().to_owned(), value.to_str()?.to_owned())))
            .collect::<anyhow::Result<_>>()?;
        let body = std::str::from_utf8(body).map_err(anyhow::Error::from)?.to_owned();
        Ok(Self { asked, status: status.as_u16(), headers, body })
    }

    fn replay(self) -> Result<Response> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let response = response.header(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        Ok(response.body(Body::from(self.body)).map_err(anyhow::Error::from)?)
    }
}

/// Each part with its length before it, so that no two lists are one text.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_printable_text_with_or_without_quotes() {
        let key = |text: &[u8]| {
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_bytes(text).unwrap())]);
            super::key(&headers).ok()
        };
        for (text, expected) in [
            ("8e03978e-40d5", "8e03978e-40d5"),
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("a b", "a b"),
            (&"x".repeat(255), &"x".repeat(255)),
        ] {
            assert_eq!(key(text.as_bytes()).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "\"\"", "\"a", "\"a\"b", "\"a\\\"", "\"a\\b\"", "ğ", "a\tb", &"x".repeat(256)] {
            assert_eq!(key(text.as_bytes()), None, "{text:?}");
        }
        let twice = HeaderMap::from_iter([
            (IDEMPOTENCY_KEY, HeaderValue::from_static("a")),
            (IDEMPOTENCY_KEY, HeaderValue::from_static("a")),
        ]);
        assert_eq!(super::key(&twice).unwrap_err().status, 400);
    }

    #[test]
    fn lists_of_parts_are_not_mixed_up() {
        assert_ne!(sha256(&[b"ab", b"c"]), sha256(&[b"a", b"bc"]));
        assert_ne!(sha256(&[b"a", b""]), sha256(&[b"a"]));
    }

    #[test]
    fn only_the_key_that_sealed_an_answer_opens_it() {
        let slot = |n| Slot { id: [0; 32], secret: [n; 32] };
        let headers = HeaderMap::from_iter([(axum::http::header::ETAG, HeaderValue::from_static("\"1\""))]);
        let kept = Kept::of([7; 32], StatusCode::CREATED, &headers, "{\"token\": \"ğ\"}".as_bytes()).unwrap();
        let sealed = slot(1).seal(&kept).unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"token"));
        assert_ne!(sealed, slot(1).seal(&kept).unwrap(), "each time with another nonce");
        assert!(slot(2).open(sealed.clone()).is_err());
        assert!(slot(1).open(sealed[..5].to_vec()).is_err());
        let opened = slot(1).open(sealed).unwrap();
        assert_eq!((opened.asked, opened.status, opened.body), (kept.asked, kept.status, kept.body));
        let response = Kept::of([7; 32], StatusCode::CREATED, &headers, b"").unwrap().replay().unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()["etag"], "\"1\"");
        assert_eq!(response.headers()[IDEMPOTENT_REPLAYED], "true");
    }
}
