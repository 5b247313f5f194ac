//! One call: with a token, as often as Zoom allows it, and judged.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{
    CALL_LIMIT, PAGE, ZoomApi, limits,
    tokens::{Token, good},
};
use crate::{clock::Clock, db::api_pauses, meetings::MeetingError, outbound::causes, providers::zoom::Zoom};

/// So much of an answer is read: a page of a report has 300 lines.
const MOST_BYTES: usize = 1024 * 1024;
/// A wait that is waited out while somebody waits for us.
const SHORT_WAIT: Duration = Duration::from_millis(1_500);
/// Zoom's code for an access token that is not, or no longer, good.
const INVALID_TOKEN: i64 = 124;

/// One call, and how it is called where pauses are kept.
pub struct Call<'a> {
    pub name: &'static str,
    pub method: Method,
    pub path: String,
    pub body: Option<&'a Value>,
}

pub fn get(name: &'static str, path: String) -> Call<'static> {
    Call { name, method: Method::GET, path, body: None }
}

impl ZoomApi {
    /// A token, other than the one that was just refused.
    pub async fn token(&self, zoom: &Zoom, refused: Option<&Token>) -> Result<Token, MeetingError> {
        let slot = self.tokens.slot(&zoom.fingerprint());
        let mut slot = slot.lock().await;
        if let Some(token) = good(&slot, refused) {
            return Ok(token);
        }
        self.pause(zoom, "token").await?;
        let asked = Instant::now();
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "account_credentials")
            .append_pair("account_id", &zoom.account_id)
            .finish();
        let url = &self.places.zoom_oauth_url;
        let request = self
            .client(Method::POST, url)?
            .basic_auth(&zoom.client_id, Some(zoom.client_secret.expose()))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let (status, headers, body) = answer(send(request).await?).await?;
        let token = match status.as_u16() {
            200 => Token::of(&body, asked).ok_or_else(|| not_zoom("it gives no token"))?,
            429 => return Err(self.too_many(zoom, "token", limits::wait(&headers, &body, now())).await),
            _ if status.is_server_error() => return Err(trouble(status)),
            _ if body["error"] == "invalid_client" => {
                return Err(MeetingError::Refused("client_id or client_secret is wrong".into()));
            }
            _ => {
                let why = "Zoom gives no token: check account_id, and that the app is activated and of the kind \
                           server-to-server OAuth";
                return Err(MeetingError::Refused(why.into()));
            }
        };
        *slot = Some(token.clone());
        Ok(token)
    }

    pub(super) async fn page(
        &self,
        zoom: &Zoom,
        name: &'static str,
        path: &str,
        parameters: &[(&str, &str)],
        next: &str,
    ) -> Result<Value, MeetingError> {
        let next = Some(("next_page_token", next)).filter(|(_, token)| !token.is_empty());
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("page_size", &PAGE.to_string())
            .extend_pairs(parameters)
            .extend_pairs(next)
            .finish();
        self.call(zoom, get(name, format!("{path}?{query}"))).await
    }

    pub(super) async fn call(&self, zoom: &Zoom, call: Call<'_>) -> Result<Value, MeetingError> {
        self.pause(zoom, call.name).await?;
        let mut token = self.token(zoom, None).await?;
        let (mut refused, mut waited) = (false, false);
        loop {
            let url = self.url(&token, &call.path)?;
            let mut request = self.client(call.method.clone(), &url)?.bearer_auth(token.text.expose());
            if let Some(body) = call.body {
                request = request.json(body);
            }
            let (status, headers, body) = answer(send(request).await?).await?;
            let is_refused = status == StatusCode::UNAUTHORIZED || body["code"] == INVALID_TOKEN;
            if is_refused && !refused {
                // Run out sooner than it said, or taken back.
                refused = true;
                token = self.token(zoom, Some(&token)).await?;
            } else if status == StatusCode::TOO_MANY_REQUESTS {
                let wait = limits::wait(&headers, &body, now());
                let error = self.too_many(zoom, call.name, wait).await;
                if waited || wait > SHORT_WAIT {
                    return Err(error);
                }
                waited = true;
                tokio::time::sleep(wait).await;
            } else {
                return judge(status, body);
            }
        }
    }

    fn url(&self, token: &Token, path: &str) -> Result<Url, MeetingError> {
        let api = &self.places.zoom_api_url;
        let regional = token.base.as_ref().filter(|_| api.host_str() == Some("api.zoom.us"));
        let base = regional.map_or(api.as_str().trim_end_matches('/').to_owned(), |base| {
            format!("{}/v2", base.as_str().trim_end_matches('/'))
        });
        Url::parse(&format!("{base}/{path}")).map_err(|_| MeetingError::Refused("ZOOM_API_URL is no address".into()))
    }

    fn client(&self, method: Method, url: &Url) -> Result<RequestBuilder, MeetingError> {
        self.outbound.check(url).map_err(|e| MeetingError::Refused(e.to_string()))?;
        Ok(self.outbound.client().request(method, url.clone()).timeout(CALL_LIMIT))
    }

    /// Waits out a short pause that another process was told of, and refuses a call during a long one.
    async fn pause(&self, zoom: &Zoom, name: &str) -> Result<(), MeetingError> {
        let wait = api_pauses::find(&self.db, &zoom.fingerprint(), name).await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "pauses of Zoom's API cannot be read");
            None
        });
        match wait {
            None => Ok(()),
            Some(wait) if wait <= SHORT_WAIT => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Some(wait) => Err(MeetingError::Busy(wait)),
        }
    }

    async fn too_many(&self, zoom: &Zoom, name: &'static str, wait: Duration) -> MeetingError {
        tracing::warn!(call = name, wait_s = wait.as_secs(), "Zoom says that there were too many calls");
        metrics::counter!("zoom_calls_over_rate_total", "call" => name).increment(1);
        if let Err(error) = api_pauses::insert(&self.db, &zoom.fingerprint(), name, wait).await {
            tracing::warn!(error = %error, "a pause of Zoom's API cannot be told to the other processes");
        }
        MeetingError::Busy(wait)
    }
}

fn now() -> DateTime<Utc> {
    Clock::System.now()
}

async fn send(request: RequestBuilder) -> Result<Response, MeetingError> {
    request.send().await.map_err(|error| match &error {
        error if error.is_timeout() => MeetingError::Unavailable("Zoom is not reached in time".into()),
        error => MeetingError::Unavailable(format!("Zoom is not reached: {}", causes(error))),
    })
}

/// Status, headers and body; null where it is no JSON.
async fn answer(mut response: Response) -> Result<(StatusCode, header::HeaderMap, Value), MeetingError> {
    let mut body = Vec::new();
    while body.len() < MOST_BYTES {
        match response.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(_) => return Err(MeetingError::Unavailable("its answer breaks off".into())),
        }
    }
    let headers = std::mem::take(response.headers_mut());
    Ok((response.status(), headers, serde_json::from_slice(&body).unwrap_or_default()))
}

/// By status and code ("Error definitions"). What Zoom writes is not repeated: it may name people.
fn judge(status: StatusCode, body: Value) -> Result<Value, MeetingError> {
    let code = body["code"].as_i64().unwrap_or_default();
    match (status.as_u16(), code) {
        (200..300, _) => Ok(body),
        (404, _) | (_, 3001 | 3301) => Err(MeetingError::Gone),
        (500..600, _) => Err(trouble(status)),
        (_, 1001) => Err(no_user()),
        (_, 4700 | 4711) => Err(MeetingError::Refused(format!("the app lacks a scope (code {code})"))),
        (_, 300) => {
            let fields = body["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str());
            let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let fields: Vec<_> = fields.filter(|field| field.len() < 64 && field.chars().all(known)).collect();
            Err(MeetingError::Refused(format!("Zoom does not take these fields: {}", fields.join(", "))))
        }
        (status, _) => Err(MeetingError::Refused(format!("Zoom refuses with status {status}, code {code}"))),
    }
}

fn trouble(status: StatusCode) -> MeetingError {
    MeetingError::Unavailable(format!("it answers with status {}", status.as_u16()))
}

pub fn no_user() -> MeetingError {
    MeetingError::Refused("Zoom knows no such user as user_id or further_user_ids name".into())
}

pub fn not_zoom(what: &str) -> MeetingError {
    MeetingError::Refused(format!("what answers there is not Zoom: {what}"))
}
