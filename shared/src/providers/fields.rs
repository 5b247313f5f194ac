//! Reads fields of providers' JSON, which is looser than it looks: numbers come as text, booleans as
//! `"true"`, times in seconds or milliseconds. Nothing here can panic, whatever is sent.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Above this, a number of seconds would be in the year 5138: it means milliseconds.
pub const MILLISECONDS_FROM: f64 = 1e11;

/// Names longer than this are cut: they are shown, not compared.
const NAME_CHARS: usize = 200;

/// A text, or a number as text; empty is `None`.
pub fn text(object: &Value, field: &str) -> Option<String> {
    let text = match object.get(field)? {
        Value::String(s) => s.trim().to_owned(),
        Value::Number(n) => n.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// What people see; empty where there is none.
pub fn name(object: &Value) -> String {
    text(object, "name").map(|n| n.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect()).unwrap_or_default()
}

/// `true` or `"true"`.
pub fn flag(object: &Value, field: &str) -> bool {
    match object.get(field) {
        Some(Value::Bool(b)) => *b,
        Some(Value::String(s)) => s.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// A finite number, or a text that is one.
pub fn number(object: &Value, field: &str) -> Option<f64> {
    let number = match object.get(field)? {
        Value::Number(n) => n.as_f64()?,
        Value::String(s) => s.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// An epoch time in seconds or milliseconds, between 1970 and 9999.
pub fn time(object: &Value, field: &str) -> Option<DateTime<Utc>> {
    epoch(number(object, field)?)
}

/// See [`time`].
pub fn epoch(number: f64) -> Option<DateTime<Utc>> {
    const YEAR_10000: f64 = 253_402_300_800_000.0;
    let milliseconds = if number > MILLISECONDS_FROM { number } else { number * 1000.0 };
    if !(0.0..YEAR_10000).contains(&milliseconds) {
        return None;
    }
    DateTime::from_timestamp_millis(milliseconds.round() as i64)
}

/// The room of `room`, `room@muc.domain`, `[tenant]room@…` or `tenant/room`, in lower case.
pub fn room(raw: &str) -> String {
    let node = raw.split('@').next().unwrap_or_default();
    let node = node.rsplit('/').next().unwrap_or_default();
    let node = if node.starts_with('[') { node.split_once(']').map_or(node, |(_, room)| room) } else { node };
    node.to_lowercase()
}

/// SHA-256 (hex) of the content: the same whatever the order of fields and the white space.
pub fn fingerprint(body: &Value) -> String {
    let mut hash = Sha256::new();
    feed(&mut hash, body);
    hex::encode(hash.finalize())
}

/// Whether a text or a field's name holds U+0000, which Postgres stores neither in text nor in jsonb.
pub fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            hash.update(b"{");
            for (name, value) in fields {
                hash.update(Value::from(name.as_str()).to_string());
                hash.update(b":");
                feed(hash, value);
                hash.update(b",");
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                feed(hash, item);
                hash.update(b",");
            }
            hash.update(b"]");
        }
        scalar => hash.update(scalar.to_string()),
    }
}
