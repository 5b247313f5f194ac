//! What goes wrong, on demand.

use serde::{Deserialize, Serialize};

/// What goes wrong. Nothing, by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Answer so many milliseconds late; what is asked has happened before.
    pub delay_ms: u64,
    /// Answer this status with a web page; nothing happens.
    pub status: Option<u16>,
    /// The calls (`create`, `register`, …; all, when empty) that `status`, `delay_ms`, `rate_limit` and `code` are about.
    pub only: Vec<String>,
    /// Do what these calls ask, and answer 502 all the same: the answer is lost.
    pub lose_answers_of: Vec<String>,
    /// Refuse with 429.
    pub rate_limit: Option<RateLimit>,
    /// Refuse with 400 and this code of Zoom's (4711: a scope is missing).
    pub code: Option<i64>,
    /// Seconds that a token is good for; 3600 without.
    pub token_seconds: Option<u64>,
    /// How long after the end of a run its report is not there yet.
    pub report_delay_ms: u64,
    pub webhooks: WebhookFaults,
}

/// How a call is told that there were too many.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// So many calls are refused, then no more; all, without.
    pub times: Option<u32>,
    /// `X-RateLimit-Type`: `QPS` or `Daily-limit`.
    pub kind: Option<String>,
    /// `Retry-After`, as it is: seconds, an HTTP date, an ISO 8601 time.
    pub retry_after: Option<String>,
}

/// What goes wrong with events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookFaults {
    /// Send so many milliseconds late.
    pub delay_ms: u64,
    /// Send so many more copies of each.
    pub copies: u32,
    /// Do not send at all.
    pub lose: bool,
    /// Keep until `POST /release`, which sends the last first.
    pub hold: bool,
    /// The events this is about; all, when empty.
    pub only: Vec<String>,
}

impl Faults {
    pub(super) fn about(&self, call: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == call)
    }
}

impl WebhookFaults {
    pub(super) fn about(&self, event: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == event)
    }
}
