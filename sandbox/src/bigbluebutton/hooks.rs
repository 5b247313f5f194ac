//! Where webhooks go (`hooks/*` of bbb-webhooks 3.5), and how they are sent: signed, tried again, and given up with their hook.
//!
//! Form and order of fields, ways to sign and pauses are those of `callback-emitter.js` and `default.example.yml`.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::clock::Clock;
use url::form_urlencoded::Serializer;

use super::{Server, reply::Reply};
use crate::process::lock;

/// The pauses of a real server, in milliseconds: about five minutes.
const PAUSES: [u64; 12] = [100, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 30_000, 60_000, 60_000, 60_000, 60_000];
/// For one attempt.
const LIMIT: Duration = Duration::from_secs(5);

/// A place to which webhooks are sent.
#[derive(Debug, Clone, Serialize)]
pub struct Hook {
    pub hook_id: String,
    pub callback_url: String,
    pub meeting_id: Option<String>,
    /// In lower case; all events, where there is none.
    pub event_ids: Vec<String>,
}

/// An attempt to send one.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    pub callback_url: String,
    /// The events' names.
    pub events: Vec<String>,
    /// `None`: there was no answer.
    pub status: Option<u16>,
}

/// What goes wrong with webhooks, and how they are signed. Nothing, and as version 3.5 does, by default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookFaults {
    /// Each comes so many milliseconds late.
    pub late_ms: u64,
    /// Each comes twice.
    pub double: bool,
    /// These events are lost; `*` stands for all.
    pub lost: Vec<String>,
    /// So many are held back, then sent in the wrong order.
    pub reorder: usize,
    /// So many are put into one request, as version 2 may.
    pub batch: usize,
    pub signature: Signature,
    /// `sha1` when left out, as there; `sha256`, `sha384`, `sha512`.
    pub algorithm: String,
    /// Pauses between attempts, in milliseconds; then the hook is deleted. A real server's when left out.
    pub pauses_ms: Option<Vec<u64>>,
}

/// By version of bbb-webhooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signature {
    /// 3.4 and later: address and body.
    #[default]
    Body,
    /// 3.0.0 to 3.3.1: the address alone.
    Address,
    /// Up to 2.6: address and what the body says.
    Older,
    /// `auth2_0`: the secret.
    Bearer,
}

#[derive(Debug, Default)]
pub struct Hooks {
    known: Vec<Hook>,
    /// Events that are held back.
    waiting: Vec<Value>,
}

impl Hooks {
    pub fn all(&self) -> Vec<Hook> {
        self.known.clone()
    }

    pub fn forget_all(&mut self) {
        self.known.clear();
    }

    pub fn call(&mut self, call: &str, given: &HashMap<String, String>) -> Reply {
        let get = |name: &str| given.get(name).map(String::as_str).filter(|value| !value.is_empty());
        match call {
            "create" => {
                let Some(url) = get("callbackURL") else {
                    return Reply::refusal(
                        "missingParamCallbackURL",
                        "You must specify a callbackURL in the parameters.",
                    );
                };
                if let Some(hook) = self.known.iter().find(|hook| hook.callback_url == url) {
                    // With the meeting and the events that it had.
                    return Reply::success(&format!(
                        "<hookID>{}</hookID><messageKey>duplicateWarning</messageKey>\
                         <message>There is already a hook for this callback URL.</message>",
                        hook.hook_id
                    ));
                }
                let hook = Hook {
                    hook_id: uuid::Uuid::new_v4().to_string(),
                    callback_url: url.to_owned(),
                    meeting_id: get("meetingID").map(str::to_owned),
                    event_ids: get("eventID")
                        .map(|ids| ids.split(',').map(str::to_lowercase).collect())
                        .unwrap_or_default(),
                };
                let id = hook.hook_id.clone();
                self.known.push(hook);
                Reply::success(&format!(
                    "<hookID>{id}</hookID> <permanentHook>false</permanentHook> <rawData>false</rawData>"
                ))
            }
            "destroy" => {
                let Some(id) = get("hookID") else {
                    return Reply::refusal("missingParamHookID", "You must specify a hookID in the parameters.");
                };
                let before = self.known.len();
                self.known.retain(|hook| hook.hook_id != id);
                if self.known.len() == before {
                    return Reply::refusal("destroyMissingHook", "The hook informed was not found.");
                }
                Reply::success("<removed>true</removed>")
            }
            "list" => {
                let of = get("meetingID");
                let shown: Vec<_> =
                    self.known.iter().filter(|hook| of.is_none() || hook.meeting_id.as_deref() == of).collect();
                if of.is_some() && shown.is_empty() {
                    return Reply::refusal("listHookError", "An error happened while listing registered hooks.");
                }
                let hooks: String = shown.into_iter().map(Hook::xml).collect();
                Reply::success(&format!("<hooks>{hooks}</hooks>"))
            }
            _ => Reply::refusal("unsupportedRequest", "This request is not supported"),
        }
    }
}

impl Hook {
    fn xml(&self) -> String {
        let text = |name: &str, value: &str| format!("<{name}><![CDATA[{value}]]></{name}>");
        let meeting = self.meeting_id.as_ref().map(|id| text("meetingID", id)).unwrap_or_default();
        let events = match self.event_ids.is_empty() {
            true => String::new(),
            false => text("eventID", &self.event_ids.join(",")),
        };
        format!(
            "<hook> <hookID>{}</hookID> {} {meeting} {events} <permanentHook>false</permanentHook> <rawData>false</rawData> \
             </hook>",
            self.hook_id,
            text("callbackURL", &self.callback_url)
        )
    }

    fn wants(&self, event: &Value) -> bool {
        let name = event["data"]["id"].as_str().unwrap_or_default();
        let meeting = event["data"]["attributes"]["meeting"]["external-meeting-id"].as_str();
        (self.event_ids.is_empty() || self.event_ids.iter().any(|id| id == name))
            && self.meeting_id.as_deref().is_none_or(|id| Some(id) == meeting)
    }
}

/// An event as it is sent. `at_ms` is the server's clock.
pub fn event(id: &str, attributes: Value, at_ms: i64) -> Value {
    json!({"data": {"type": "event", "id": id, "attributes": attributes, "event": {"ts": at_ms}}})
}

/// Sends events to whoever wants them, as the script says.
pub fn emit(server: &Arc<Server>, events: Vec<Value>) {
    let faults = lock(&server.faults).webhooks.clone();
    let name = |event: &Value| event["data"]["id"].as_str().unwrap_or_default().to_owned();
    let is_lost = |event: &Value| faults.lost.iter().any(|lost| lost == "*" || *lost == name(event));
    let mut hooks = lock(&server.hooks);
    hooks.waiting.extend(events.into_iter().filter(|event| !is_lost(event)));
    let least = faults.reorder.max(faults.batch).max(1);
    if hooks.waiting.len() < least {
        return;
    }
    let mut due = std::mem::take(&mut hooks.waiting);
    if faults.reorder > 1 {
        due.reverse();
    }
    let known = hooks.known.clone();
    drop(hooks);
    for hook in known {
        let wanted: Vec<Value> = due.iter().filter(|event| hook.wants(event)).cloned().collect();
        for batch in wanted.chunks(faults.batch.max(1)) {
            for _ in 0..if faults.double { 2 } else { 1 } {
                let (server, hook, batch, faults) = (Arc::clone(server), hook.clone(), batch.to_vec(), faults.clone());
                crate::runtime::servers().spawn(async move { deliver(&server, &hook, &batch, &faults).await });
            }
        }
    }
}

async fn deliver(server: &Server, hook: &Hook, batch: &[Value], faults: &WebhookFaults) {
    tokio::time::sleep(Duration::from_millis(faults.late_ms)).await;
    let timestamp = Clock::System.now().timestamp_millis().to_string();
    let events = Value::from(batch).to_string();
    let domain = "bbb.sandbox.test";
    let body = Serializer::new(String::new())
        .append_pair("domain", domain)
        .append_pair("event", &events)
        .append_pair("timestamp", &timestamp)
        .finish();
    let signed = match faults.signature {
        Signature::Body => body.clone(),
        Signature::Address => "{}".to_owned(),
        Signature::Older => {
            let [event, timestamp] = [&events, &timestamp].map(|text| Value::from(text.as_str()).to_string());
            format!("{{\"event\":{event},\"timestamp\":{timestamp},\"domain\":\"{domain}\"}}")
        }
        Signature::Bearer => String::new(),
    };
    let algorithm = match faults.algorithm.as_str() {
        "sha256" => &SHA256,
        "sha384" => &SHA384,
        "sha512" => &SHA512,
        _ => &SHA1_FOR_LEGACY_USE_ONLY,
    };
    let text = format!("{}{signed}{}", hook.callback_url, server.secret);
    let checksum = hex::encode(digest(algorithm, text.as_bytes()));
    let pauses = faults.pauses_ms.clone().unwrap_or_else(|| PAUSES.to_vec());
    for pause in pauses.iter().map(Some).chain([None]) {
        let request = match faults.signature {
            Signature::Bearer => server.http.post(&hook.callback_url).bearer_auth(&server.secret),
            _ => {
                let joint = if hook.callback_url.contains('?') { '&' } else { '?' };
                server.http.post(format!("{}{joint}checksum={checksum}", hook.callback_url))
            }
        };
        let request = request
            .header("content-type", "application/x-www-form-urlencoded;charset=UTF-8")
            .timeout(LIMIT)
            .body(body.clone());
        let status = request.send().await.ok().map(|answer| answer.status().as_u16());
        lock(&server.deliveries).push(Delivery {
            callback_url: hook.callback_url.clone(),
            events: batch.iter().map(|event| event["data"]["id"].as_str().unwrap_or_default().to_owned()).collect(),
            status,
        });
        // 401 counts as delivered: the event is lost.
        if status.is_some_and(|status| (200..300).contains(&status) || status == 401) {
            return;
        }
        match pause {
            Some(pause) if !server.stopped.load(Ordering::Relaxed) => {
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
            Some(_) => return,
            None => lock(&server.hooks).known.retain(|known| known.hook_id != hook.hook_id),
        }
    }
}
