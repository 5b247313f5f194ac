//! Events on their way to the webhook: signed as Zoom signs (`v0:<time>:<raw body>`), with faults on demand.

use std::sync::Mutex;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::Sha256;
use shared::clock::Clock;

use super::{WebhookFaults, pause};
use crate::process::lock;

/// Zoom waits no longer for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// An event that was sent, or was to be.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    pub event: String,
    /// Of the answer; 0 where none came.
    pub status: u16,
    pub body: Value,
}

#[derive(Debug)]
pub(super) struct Courier {
    client: reqwest::Client,
    secret: String,
    url: Mutex<Option<String>>,
    held: Mutex<Vec<(String, String)>>,
    done: Mutex<Vec<Delivery>>,
}

impl Courier {
    pub fn new(secret: &str) -> anyhow::Result<Self> {
        Ok(Self {
            client: reqwest::Client::builder().timeout(PATIENCE).build()?,
            secret: secret.to_owned(),
            url: Mutex::default(),
            held: Mutex::default(),
            done: Mutex::default(),
        })
    }

    pub fn set_url(&self, url: &str) {
        *lock(&self.url) = Some(url.to_owned());
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.done).clone()
    }

    pub async fn send(&self, event: &str, payload: Value, more: Value, faults: &WebhookFaults) {
        let mut envelope =
            json!({"event": event, "event_ts": Clock::System.now().timestamp_millis(), "payload": payload});
        if let (Some(envelope), Some(more)) = (envelope.as_object_mut(), more.as_object()) {
            envelope.extend(more.clone());
        }
        let body = envelope.to_string();
        if !faults.about(event) {
            self.deliver(event, &body).await;
            return;
        }
        if faults.lose {
            return;
        }
        if faults.hold {
            lock(&self.held).push((event.to_owned(), body));
            return;
        }
        pause(faults.delay_ms).await;
        for _ in 0..=faults.copies {
            self.deliver(event, &body).await;
        }
    }

    pub async fn release(&self) {
        let held = std::mem::take(&mut *lock(&self.held));
        for (event, body) in held.iter().rev() {
            self.deliver(event, body).await;
        }
    }

    /// Asks the address to prove that it knows the secret.
    pub async fn validate(&self) -> Result<(), String> {
        let plain = hex::encode(rand::random::<[u8; 11]>());
        let body = json!({
            "payload": {"plainToken": plain}, "event_ts": Clock::System.now().timestamp_millis(),
            "event": "endpoint.url_validation",
        });
        let (status, answer) = self.deliver("endpoint.url_validation", &body.to_string()).await;
        let expected = json!({"plainToken": plain, "encryptedToken": self.hmac(plain.as_bytes())});
        match (status, answer == expected) {
            (200, true) => Ok(()),
            (200, false) => Err("the answer is not the one that Zoom expects".to_owned()),
            (status, _) => Err(format!("the address answers with status {status}")),
        }
    }

    async fn deliver(&self, event: &str, body: &str) -> (u16, Value) {
        let url = lock(&self.url).clone();
        let time = Clock::System.now().timestamp().to_string();
        let signature = format!("v0={}", self.hmac(format!("v0:{time}:{body}").as_bytes()));
        let sent = match url {
            None => None,
            Some(url) => {
                let request = self
                    .client
                    .post(url)
                    .header("content-type", "application/json")
                    .header("x-zm-request-timestamp", time)
                    .header("x-zm-signature", signature)
                    .header("x-zm-trackingid", format!("WEB_{}", hex::encode(rand::random::<[u8; 8]>())));
                request.body(body.to_owned()).send().await.ok()
            }
        };
        let (status, answer) = match sent {
            Some(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or_default()),
            None => (0, Value::Null),
        };
        let body = serde_json::from_str(body).unwrap_or_default();
        lock(&self.done).push(Delivery { event: event.to_owned(), status, body });
        (status, answer)
    }

    fn hmac(&self, text: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else { return String::new() };
        mac.update(text);
        hex::encode(mac.finalize().into_bytes())
    }
}
