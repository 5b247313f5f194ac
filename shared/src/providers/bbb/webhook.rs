//! Webhooks of bbb-webhooks.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::{ProviderEvent, WebhookError};

pub fn parse(_body: &Value, _received: DateTime<Utc>) -> Result<ProviderEvent, WebhookError> {
    Err(WebhookError::NotConfigured)
}
