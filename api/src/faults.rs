//! What is wrong with a value, in words for people: faults of bodies against their JSON schema, and of the parameters of
//! an address against their type.

use jsonschema::{
    JsonType, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

use crate::error::Fault;

/// All faults of a body's form, each told once.
pub fn of_form(validator: &Validator, value: &Value) -> Vec<Fault> {
    let mut faults: Vec<Fault> = validator.iter_errors(value).flat_map(|e| explain(&e)).collect();
    let mut nul = Vec::new();
    nul_characters(value, &mut String::new(), &mut nul);
    // Where a text has to be one line, that says it already.
    nul.retain(|fault| !faults.iter().any(|other| other.pointer == fault.pointer));
    faults.extend(nul);
    faults
}

/// One fault per property, in words that name what would be right.
fn explain(error: &ValidationError<'_>) -> Vec<Fault> {
    let at = error.instance_path().to_string();
    let detail = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let unknown = |name| Fault::at(child(&at, name), "is not a field that is known here");
            return unexpected.iter().map(|name| unknown(name)).collect();
        }
        ValidationErrorKind::Required { property } => {
            return vec![Fault::at(child(&at, property.as_str().unwrap_or_default()), "is required")];
        }
        // A field that may be null, or has one of several forms: the faults of the form that was meant.
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            return explain_one_of(&at, context);
        }
        ValidationErrorKind::Enum { options } => one_of(options),
        ValidationErrorKind::Format { format } => format_in_words(format),
        ValidationErrorKind::MaxItems { limit } => format!("has more than {limit} items"),
        ValidationErrorKind::MaxLength { limit } => format!("is longer than {limit} characters"),
        ValidationErrorKind::Maximum { limit } => format!("is more than {limit}"),
        ValidationErrorKind::MinLength { limit: 1 } | ValidationErrorKind::MinItems { limit: 1 } => {
            "must not be empty".into()
        }
        ValidationErrorKind::MinLength { limit } => format!("is shorter than {limit} characters"),
        ValidationErrorKind::Minimum { limit } => format!("is less than {limit}"),
        ValidationErrorKind::Pattern { .. } => pattern_in_words(error.instance()),
        ValidationErrorKind::Type { kind } => type_in_words(kind),
        // The value itself is not repeated: it may be long, or personal.
        _ => error.masked_with("the value").to_string(),
    };
    vec![Fault::at(at, detail)]
}

fn explain_one_of(at: &str, context: &[Vec<ValidationError<'static>>]) -> Vec<Fault> {
    let Some(inner) = context.iter().rfind(|faults| !faults.iter().all(is_about_null)) else {
        return vec![Fault::at(at, "has none of the allowed forms")];
    };
    let mut faults: Vec<Fault> = inner.iter().flat_map(explain).collect();
    for fault in &mut faults {
        if let Some(pointer) = fault.pointer.take() {
            fault.pointer = Some(if pointer.starts_with(at) { pointer } else { format!("{at}{pointer}") });
        }
    }
    faults
}

fn is_about_null(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { kind: TypeKind::Single(JsonType::Null) })
}

/// "must be tr or en".
fn one_of(options: &Value) -> String {
    let words: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    must_be(&words)
}

fn must_be(words: &[&str]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("must be {} or {last}", all.join(", ")),
        words => format!("must be {}", words.concat()),
    }
}

fn format_in_words(format: &str) -> String {
    match format {
        "date-time" => MUST_BE_A_TIME.into(),
        "email" => "must be a mail address".into(),
        "uuid" => "must be an id (UUID)".into(),
        other => format!("is no valid {other}"),
    }
}

const MUST_BE_A_TIME: &str = "must be a time with its offset, such as 2030-09-02T09:00:00+03:00";

/// All patterns of ours say that a text is one line; some, that there is something in it.
fn pattern_in_words(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if text.contains(breaks) {
        "must be one line, without control characters".into()
    } else {
        "must not be empty".into()
    }
}

fn type_in_words(kind: &TypeKind) -> String {
    let types: Vec<JsonType> = match kind {
        TypeKind::Single(one) => vec![*one],
        TypeKind::Multiple(set) => set.iter().filter(|kind| *kind != JsonType::Null).collect(),
    };
    let word = |kind: &JsonType| match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a text",
    };
    must_be(&types.iter().map(word).collect::<Vec<_>>())
}

/// The pointer of a field; `~` and `/` escaped (RFC 6901 §3).
fn child(at: &str, name: &str) -> String {
    let short: String = name.chars().take(100).collect();
    format!("{at}/{}", short.replace('~', "~0").replace('/', "~1"))
}

/// Postgres text cannot hold U+0000.
fn nul_characters(value: &Value, at: &mut String, faults: &mut Vec<Fault>) {
    match value {
        Value::String(text) if text.contains('\0') => faults.push(Fault::at(at.clone(), "holds the character U+0000")),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                descend(item, &n.to_string(), at, faults);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                descend(field, name, at, faults);
            }
        }
        _ => {}
    }
}

fn descend(value: &Value, name: &str, at: &mut String, faults: &mut Vec<Fault>) {
    let length = at.len();
    *at = child(at, name);
    nul_characters(value, at, faults);
    at.truncate(length);
}

/// Which parameter of an address is wrong, and what is wrong with it, out of what the deserializer says.
pub fn of_parameter(said: &str) -> (&str, String) {
    let (parameter, said) = said.split_once(": ").unwrap_or(("", said));
    let mut quoted = said.split('`').skip(1).step_by(2);
    if said.starts_with("unknown field") {
        let name = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return (name, format!("is no parameter that is known here; there are: {}", known.join(", ")));
    }
    if said.starts_with("duplicate field") {
        return (quoted.next().unwrap_or_default(), "is given more than once".into());
    }
    let detail = if said.starts_with("unknown variant") {
        must_be(&quoted.skip(1).collect::<Vec<_>>())
    } else if ["digit", "integer", "number"].iter().any(|word| said.contains(word)) {
        "must be a whole number".into()
    } else if said.contains("`true` or `false`") {
        "must be true or false".into()
    } else if said.contains("UUID") {
        "must be an id (UUID)".into()
    } else if said.contains("input") {
        MUST_BE_A_TIME.into()
    } else {
        said.to_owned()
    };
    (parameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_deserializer_says_is_told_in_words_for_people() {
        for (said, parameter, detail) in [
            ("page_size: invalid digit found in string", "page_size", "must be a whole number"),
            ("kind: unknown variant `x`, expected one of `a`, `b`, `c`", "kind", "must be a, b or c"),
            ("duplicate field `status`", "status", "is given more than once"),
            ("unknown field `x`, expected `a` or `b`", "x", "is no parameter that is known here; there are: a, b"),
            ("starts_after: premature end of input", "starts_after", MUST_BE_A_TIME),
            ("open: provided string was not `true` or `false`", "open", "must be true or false"),
        ] {
            assert_eq!(of_parameter(said), (parameter, detail.to_owned()));
        }
    }
}
