//! What settings and secrets must mean, by their provider, told together with the faults of their form.

use serde_json::Value;
use shared::{domain::provider::ProviderKind, providers::settings};

use super::forms;
use crate::{error::Fault, faults};

/// The faults of a whole body: those of its own form, and those of its settings and secrets by the form of its provider.
/// `secrets` judges these.
pub fn of(
    body: &Value,
    own: Vec<Fault>,
    kind: Option<ProviderKind>,
    secrets: impl Fn(ProviderKind, &Value) -> Vec<Fault>,
) -> Vec<Fault> {
    let told_below = |fault: &Fault| {
        let pointer = fault.pointer.as_deref().unwrap_or_default();
        let below =
            |part: &str| !body[part].is_null() && pointer.trim_start_matches('/').split('/').next() == Some(part);
        below("settings") || below("secrets")
    };
    let mut faults: Vec<Fault> = own.into_iter().filter(|fault| !told_below(fault)).collect();
    let Some(kind) = kind else { return faults };
    if !body["settings"].is_null() {
        faults.extend(below("/settings", settings_faults(kind, &body["settings"])));
    }
    if !body["secrets"].is_null() {
        faults.extend(below("/secrets", secrets(kind, &body["secrets"])));
    }
    faults
}

/// The key that the settings need and somebody else has to give, where it is missing. `there` are the fields of secrets that are
/// stored.
pub fn of_missing_key(kind: ProviderKind, settings: &Value, secrets: &Value, there: &[&str]) -> Option<Fault> {
    let field = missing_key(kind, settings, secrets, there).filter(|field| *field != MADE_HERE)?;
    let told = secrets.get(field).is_some();
    // What is there in a wrong form is told of it.
    let removed = secrets[field].is_null();
    (!told || removed).then(|| Fault::at(format!("/secrets/{field}"), "is required"))
}

/// The same, also where it is a key that is made here.
pub fn missing_key(kind: ProviderKind, settings: &Value, secrets: &Value, there: &[&str]) -> Option<&'static str> {
    settings::missing_secret(kind, settings, |field| match secrets.get(field) {
        Some(value) => value.is_string(),
        None => there.contains(&field),
    })
}

/// A key that is made where none is given.
pub const MADE_HERE: &str = "private_key";

/// Faults of the secrets of a new configuration.
pub fn of_secrets(kind: ProviderKind, secrets: &Value) -> Vec<Fault> {
    with_meaning(kind, secrets, faults::of_form(forms::secrets(kind), secrets))
}

/// Faults of changed secrets: null removes one that is not required.
pub fn of_changed_secrets(kind: ProviderKind, secrets: &Value) -> Vec<Fault> {
    let mut faults = with_meaning(kind, secrets, faults::of_form(forms::changed_secrets(kind), secrets));
    let removed = |name: &str| secrets.as_object().is_some_and(|fields| fields.get(name).is_some_and(Value::is_null));
    let required = settings::secret_fields(kind).iter().filter(|field| field.required && removed(field.name));
    faults.extend(required.map(|field| Fault::at(format!("/{}", field.name), "is required, and cannot be removed")));
    faults
}

fn settings_faults(kind: ProviderKind, value: &Value) -> Vec<Fault> {
    let form = faults::of_form(forms::settings(kind), value);
    let meaning = settings::faults(kind, value).into_iter().map(|(pointer, detail)| Fault::at(pointer, detail));
    once(form, meaning)
}

fn with_meaning(kind: ProviderKind, secrets: &Value, form: Vec<Fault>) -> Vec<Fault> {
    let meaning = settings::secret_fields(kind).iter().filter_map(|field| {
        let fault = settings::secret_fault(kind, field.name, secrets[field.name].as_str()?)?;
        Some(Fault::at(format!("/{}", field.name), fault))
    });
    once(form, meaning)
}

/// What has the wrong form is not asked for its meaning.
fn once(mut form: Vec<Fault>, meaning: impl Iterator<Item = Fault>) -> Vec<Fault> {
    let new: Vec<Fault> = meaning.filter(|fault| form.iter().all(|other| other.pointer != fault.pointer)).collect();
    form.extend(new);
    form
}

fn below(part: &str, faults: Vec<Fault>) -> impl Iterator<Item = Fault> {
    faults.into_iter().map(move |mut fault| {
        fault.pointer = fault.pointer.map(|pointer| format!("{part}{pointer}"));
        fault
    })
}
