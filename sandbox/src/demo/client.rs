//! What the story uses: the API as its callers do, the mailbox, and the providers' webhooks.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, Response, StatusCode};
use sandbox::people::{self, Person};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::clock::Clock;

pub struct Client {
    http: reqwest::Client,
    env: BTreeMap<String, String>,
}

impl Client {
    pub fn new(env: BTreeMap<String, String>) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()
            .expect("the client's settings are fixed");
        Self { http, env }
    }

    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).map_or("", String::as_str)
    }

    /// Calls the API as `person`. An answer that is no success is an error with its problem document.
    pub async fn call(
        &self,
        person: &Person,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Response> {
        let url = format!("{}/api/v1/live-sessions/{path}", self.var("API_URL"));
        let token = people::token(person, self.var("AUTH_JWT_SECRET"), Clock::System.now())?;
        let mut request = self.http.request(method.clone(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::FOUND {
            return Ok(response);
        }
        bail!("{method} {path} as {} answered {status}: {}", person.name, response.text().await?);
    }

    pub async fn json(
        &self,
        person: &Person,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        Ok(self.call(person, method, path, body).await?.json().await?)
    }

    pub async fn get(&self, person: &Person, path: &str) -> anyhow::Result<Value> {
        self.json(person, Method::GET, path, None).await
    }

    pub async fn post(&self, person: &Person, path: &str) -> anyhow::Result<Value> {
        self.json(person, Method::POST, path, None).await
    }

    /// Fetches any address; the body is read in pieces by `chunk`.
    pub async fn download(&self, url: &str, mut chunk: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut response = self.http.get(url).send().await?.error_for_status()?;
        while let Some(bytes) = response.chunk().await? {
            chunk(&bytes);
        }
        Ok(())
    }

    /// Sends what Prosody's event_sync would send, with its shared secret.
    pub async fn event_sync(&self, event: &str, body: &Value) -> anyhow::Result<()> {
        let url = format!("{}/api/v1/live-sessions/webhooks/jitsi/events/{event}", self.var("API_URL"));
        let request = self.http.post(url).bearer_auth(self.var("JITSI_WEBHOOK_SECRET")).json(body);
        accepted(request.send().await?, event).await
    }

    /// Sends what JaaS would send, signed as JaaS signs.
    pub async fn jaas(&self, body: &Value) -> anyhow::Result<()> {
        let body = serde_json::to_string(body)?;
        let t = Clock::System.now().timestamp();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.var("JAAS_WEBHOOK_SECRET").as_bytes())?;
        mac.update(format!("{t}.{body}").as_bytes());
        let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        let url = format!("{}/api/v1/live-sessions/webhooks/jaas/", self.var("API_URL"));
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("x-jaas-signature", format!("t={t},v1={signature}"))
            .body(body);
        accepted(request.send().await?, "RECORDING_UPLOADED").await
    }

    /// The mails to one person whose subject or attachments concern `session_id`, oldest first.
    pub async fn mails(&self, person: &Person, session_id: &str) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/api/messages", self.var("MAILBOX_URL"));
        let list: Vec<Value> = self.http.get(format!("{url}?to={}", person.email)).send().await?.json().await?;
        let mut mails = Vec::new();
        for summary in list {
            let id = summary["id"].as_str().unwrap_or_default();
            let mail: Value = self.http.get(format!("{url}/{id}")).send().await?.json().await?;
            if mail.to_string().contains(session_id) {
                mails.push(mail);
            }
        }
        Ok(mails)
    }

    /// Slows the recording host down, or lets it run again.
    pub async fn slow_recording(&self, name: &str, bytes_per_second: u64) -> anyhow::Result<()> {
        let url = format!("{}/faults/{name}", self.var("RECORDING_HOST_URL"));
        let request = self.http.put(url).json(&json!({ "bytes_per_second": bytes_per_second }));
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

async fn accepted(response: Response, event: &str) -> anyhow::Result<()> {
    let status = response.status();
    ensure!(status.is_success(), "the webhook {event} was answered {status}: {}", response.text().await?);
    Ok(())
}

/// Asks again until there is an answer, or `limit` is over.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        ensure!(tokio::time::Instant::now() < deadline, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
