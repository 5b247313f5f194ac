//! The schemas of settings and secrets, made from the tables of `shared::providers::settings`. The document shows them for
//! all providers as alternatives; a body is judged by that of its own provider, so that its faults are told exactly.

use std::{borrow::Cow, sync::LazyLock};

use jsonschema::Validator;
use serde_json::Value;
use shared::{
    domain::provider::ProviderKind,
    providers::settings::{Field, Form, LONGEST_SECRET, SecretField, fields, secret_fields},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AdditionalProperties, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type},
    },
};

use crate::body;

/// One line with something in it.
const LINE: &str = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$";
const LONGEST: usize = 255;
const MOST_HOSTS: usize = 20;

/// Judges the settings of a provider.
pub fn settings(kind: ProviderKind) -> &'static Validator {
    static ALL: LazyLock<[Validator; 4]> = LazyLock::new(|| ProviderKind::ALL.map(|kind| build(settings_form(kind))));
    &ALL[kind as usize]
}

/// Judges the secrets of a new configuration.
pub fn secrets(kind: ProviderKind) -> &'static Validator {
    static ALL: LazyLock<[Validator; 4]> =
        LazyLock::new(|| ProviderKind::ALL.map(|kind| build(secrets_form(kind, false))));
    &ALL[kind as usize]
}

/// Judges changes of secrets: null removes one.
pub fn changed_secrets(kind: ProviderKind) -> &'static Validator {
    static ALL: LazyLock<[Validator; 4]> =
        LazyLock::new(|| ProviderKind::ALL.map(|kind| build(secrets_form(kind, true))));
    &ALL[kind as usize]
}

fn build(form: Object) -> Validator {
    body::validator(&serde_json::to_value(form).unwrap_or(Value::Bool(false)))
}

fn settings_form(kind: ProviderKind) -> Object {
    let mut form = object(format!("{}Settings", capital(kind)));
    for field in fields(kind) {
        form = form.property(field.name, property(field));
        if field.required {
            form = form.required(field.name);
        }
    }
    form.build()
}

fn secrets_form(kind: ProviderKind, change: bool) -> Object {
    let mut form = object(format!("{}Secrets", capital(kind)));
    for SecretField { name, about, required } in secret_fields(kind) {
        let text = match change {
            true => SchemaType::from_iter([Type::String, Type::Null]),
            false => Type::String.into(),
        };
        let secret = ObjectBuilder::new().schema_type(text).max_length(Some(LONGEST_SECRET)).description(Some(*about));
        form = form.property(*name, secret);
        if *required && !change {
            form = form.required(*name);
        }
    }
    form.build()
}

fn object(title: String) -> ObjectBuilder {
    ObjectBuilder::new().title(Some(title)).additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

fn capital(kind: ProviderKind) -> String {
    let (first, rest) = kind.as_str().split_at(1);
    first.to_ascii_uppercase() + rest
}

fn property(field: &Field) -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String).max_length(Some(LONGEST));
    match field.form {
        Form::Line | Form::Host | Form::BbbUrl | Form::Url | Form::JaasAppId => text()
            .min_length(Some(1))
            .pattern(Some(LINE))
            .description(Some(field.about))
            .examples([field.example])
            .into(),
        Form::Flag => ObjectBuilder::new().schema_type(Type::Boolean).description(Some(field.about)).into(),
        Form::Word(words) => text().enum_values(Some(words.to_vec())).description(Some(field.about)).into(),
        Form::Hosts | Form::BbbUrls | Form::Lines => ArrayBuilder::new()
            .items(text().min_length(Some(1)).pattern(Some(LINE)))
            .max_items(Some(MOST_HOSTS))
            .description(Some(field.about))
            .examples([vec![field.example]])
            .into(),
    }
}

/// Settings of any provider, for the document.
pub struct ProviderSettings;

/// Secrets of any provider, for the document.
pub struct ProviderSecrets;

fn any_of(forms: impl Iterator<Item = Object>, about: &str) -> RefOr<Schema> {
    forms.fold(AnyOfBuilder::new(), AnyOfBuilder::item).description(Some(about)).into()
}

impl PartialSchema for ProviderSettings {
    fn schema() -> RefOr<Schema> {
        any_of(ProviderKind::ALL.into_iter().map(settings_form), "By `provider`: jitsi, jaas, bbb, zoom.")
    }
}

impl ToSchema for ProviderSettings {
    fn name() -> Cow<'static, str> {
        "ProviderSettings".into()
    }
}

impl PartialSchema for ProviderSecrets {
    fn schema() -> RefOr<Schema> {
        let forms = ProviderKind::ALL.into_iter().map(|kind| secrets_form(kind, false));
        any_of(forms, "By `provider`: jitsi, jaas, bbb, zoom. Never shown again.")
    }
}

impl ToSchema for ProviderSecrets {
    fn name() -> Cow<'static, str> {
        "ProviderSecrets".into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::providers::settings::{Settings, faults};

    use super::*;

    #[test]
    fn the_examples_of_the_form_are_settings_without_a_fault() {
        for kind in ProviderKind::ALL {
            let mut example = json!({});
            for field in fields(kind) {
                let value = match field.form {
                    Form::Hosts | Form::BbbUrls | Form::Lines => json!([field.example]),
                    Form::Flag => json!(field.example == "true"),
                    _ => field.example.into(),
                };
                example[field.name] = value;
            }
            assert!(settings(kind).is_valid(&example), "{example}");
            assert_eq!(faults(kind, &example), [], "{example}");
            // The struct has the fields of the form, no more and no less.
            let read = serde_json::to_value(Settings::read(kind, &example).unwrap()).unwrap();
            assert_eq!(read, example);
            let required: Vec<_> = fields(kind).iter().filter(|field| field.required).collect();
            let least: serde_json::Map<_, _> =
                required.iter().map(|field| (field.name.to_owned(), example[field.name].clone())).collect();
            let filled = serde_json::to_value(Settings::read(kind, &least.clone().into()).unwrap()).unwrap();
            assert!(settings(kind).is_valid(&filled), "{filled}");
            for field in required {
                let mut less = least.clone();
                less.remove(field.name);
                assert!(!settings(kind).is_valid(&less.clone().into()) && Settings::read(kind, &less.into()).is_err());
            }
        }
    }
}
