//! JSON without room for two readings: valid UTF-8, no field twice in an object, nothing after the
//! value, nested at most as deep as `serde_json` allows (128).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Problem, bad_request};

/// The value, or a problem that tells where reading stopped.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        bad_request("malformed-json", format!("The body is not valid UTF-8 from byte {} on.", e.valid_up_to()))
    })?;
    let Strict(value) = serde_json::from_str(text).map_err(|e| {
        let what = e.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        bad_request("malformed-json", format!("Line {}, column {}: {what}.", e.line(), e.column()))
    })?;
    Ok(value)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // JSON Schema 2020-12 §4.2.3: 1.0 is an integer; and exactly so up to 2^53.
        let whole = value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0;
        Ok(if whole { (value as i64).into() } else { value.into() })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let Strict(value) = fields.next_value()?;
            if map.contains_key(&name) {
                let short: String = name.chars().take(100).collect();
                return Err(A::Error::custom(format!("the field {short:?} is there twice")));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn detail(body: &[u8]) -> String {
        parse(body).unwrap_err().detail.clone()
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused_with_its_place() {
        assert_eq!(detail(br#"{"a":1,"b":{"a":2,"a":3}}"#), "Line 1, column 24: the field \"a\" is there twice.");
        assert_eq!(detail(b"{\"a\":\n oops}"), "Line 2, column 2: expected value.");
        assert_eq!(detail(b"{\"a\":\"\xff\"}"), "The body is not valid UTF-8 from byte 6 on.");
        assert!(detail(b"{} {}").contains("trailing"));
        assert!(detail(b"").contains("EOF"));
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        assert_eq!(parse(b"[1.0, 6e1, -0.0, 1.5, 1e300]").unwrap().to_string(), "[1,60,0,1.5,1e+300]");
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        assert!(detail("[".repeat(100_000).as_bytes()).contains("recursion"));
        assert!(detail("{\"a\":".repeat(100_000).as_bytes()).contains("recursion"));
    }
}
