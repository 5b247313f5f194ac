//! The closed sets of words in bodies, as schemas. The words are those of `shared::domain`; a test holds
//! the two together.

use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type};

pub const STATUS: &[&str] = &["scheduled", "live", "ended", "cancelled"];
pub const KIND: &[&str] = &["scheduled", "instant", "webinar"];
pub const ACCESS: &[&str] = &["invitees", "tenant"];
pub const PROVIDER: &[&str] = &["jitsi", "jaas", "bbb", "zoom"];
pub const CHECK: &[&str] = &["address", "tls", "secret", "version", "user"];
pub const END_REASON: &[&str] = &["host", "provider", "overdue", "abandoned"];
pub const PART: &[&str] = &["host", "co_host", "participant"];
pub const INVITEE_ROLE: &[&str] = &["participant", "co_host"];
pub const LOCALE: &[&str] = &["tr", "en"];
pub const ATTENDANCE: &[&str] = &["present", "late", "left_early", "partial", "absent", "excused"];
pub const OBJECTION: &[&str] = &["open", "upheld", "refused"];
pub const SOURCE: &[&str] = &["heartbeat", "webhook", "poll", "end_report", "manual"];
pub const QUEUE: &[&str] = &["default", "live", "notifications"];
pub const HEALTH_STATE: &[&str] = &["up", "down"];
pub const WEBHOOK_STATE: &[&str] = &["stored", "processed", "ignored"];
pub const JOB_STATE: &[&str] = &["available", "running", "done", "dead", "cancelled"];
/// What an API key may be; operators are not a tenant's to make, people have tokens.
pub const API_KEY_ROLE: &[&str] = &["admin", "service"];
pub const ORDERING: &[&str] = &["starts_at", "-starts_at"];
pub const REPORT_FORMAT: &[&str] = &["json", "csv", "xlsx"];
pub const RECORDING: &[&str] =
    &["expected", "available", "downloading", "stored", "published", "missing", "failed", "deleted"];

fn words(set: &[&str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(set.to_vec())).build()
}

fn words_or_null(set: &[&str]) -> Object {
    let values: Vec<Option<&str>> = set.iter().copied().map(Some).chain([None]).collect();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(values))
        .build()
}

/// How a list of sessions may be ordered.
pub fn ordering() -> Object {
    words(ORDERING)
}

/// In which forms a report can be had.
pub fn report_format() -> Object {
    words(REPORT_FORMAT)
}

/// The roles of an API key.
pub fn api_key_roles() -> Array {
    ArrayBuilder::new().items(words(API_KEY_ROLE)).min_items(Some(1)).max_items(Some(API_KEY_ROLE.len())).build()
}

/// Reminder steps of a tenant, in minutes; thirty days at most.
pub fn reminder_minutes() -> Array {
    let step = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(43_200)).build();
    ArrayBuilder::new().items(step).max_items(Some(10)).unique_items(true).build()
}

macro_rules! schemas {
    ($($name:ident, $nullable:ident = $set:ident;)*) => {$(
        pub fn $name() -> Object { words($set) }
        pub fn $nullable() -> Object { words_or_null($set) }
    )*};
}

schemas! {
    status, status_or_null = STATUS;
    kind, kind_or_null = KIND;
    access, access_or_null = ACCESS;
    provider, provider_or_null = PROVIDER;
    check, check_or_null = CHECK;
    end_reason, end_reason_or_null = END_REASON;
    part, part_or_null = PART;
    invitee_role, invitee_role_or_null = INVITEE_ROLE;
    locale, locale_or_null = LOCALE;
    attendance, attendance_or_null = ATTENDANCE;
    objection, objection_or_null = OBJECTION;
    source, source_or_null = SOURCE;
    recording, recording_or_null = RECORDING;
    queue, queue_or_null = QUEUE;
    job_state, job_state_or_null = JOB_STATE;
    health_state, health_state_or_null = HEALTH_STATE;
    webhook_state, webhook_state_or_null = WEBHOOK_STATE;
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};
    use shared::{
        db::{
            attendance_objections::ObjectionState, invitees::InviteeRole, provider_health::HealthState,
            webhook_events::WebhookState,
        },
        domain::{
            attendance,
            person::{Part, Role},
            provider::ProviderKind,
            recording::RecordingState,
            session::{Access, EndReason, SessionKind, SessionStatus},
        },
        jobs::Queue,
        probes::CheckName,
        queue::control::JobState,
    };

    use super::*;

    fn holds<T: Serialize + DeserializeOwned>(set: &[&str]) {
        for word in set {
            let value: T = serde_json::from_value((*word).into()).unwrap();
            assert_eq!(serde_json::to_value(value).unwrap(), *word);
        }
        // serde lists all words there are in its error.
        let error = serde_json::from_value::<T>("?".into()).err().unwrap().to_string();
        assert_eq!(error.matches('`').count() / 2, set.len() + 1, "{error}");
    }

    #[test]
    fn the_published_words_are_those_of_the_domain() {
        holds::<SessionStatus>(STATUS);
        holds::<SessionKind>(KIND);
        holds::<Access>(ACCESS);
        holds::<ProviderKind>(PROVIDER);
        holds::<CheckName>(CHECK);
        holds::<EndReason>(END_REASON);
        holds::<Part>(PART);
        holds::<InviteeRole>(INVITEE_ROLE);
        holds::<RecordingState>(RECORDING);
        holds::<JobState>(JOB_STATE);
        holds::<HealthState>(HEALTH_STATE);
        holds::<WebhookState>(WEBHOOK_STATE);
        assert_eq!(Queue::ALL.map(Queue::as_str), QUEUE);
        for word in API_KEY_ROLE {
            assert_eq!(serde_json::from_value::<Role>((*word).into()).unwrap().as_str(), *word);
        }
        holds::<attendance::Status>(ATTENDANCE);
        holds::<attendance::Source>(SOURCE);
        holds::<ObjectionState>(OBJECTION);
    }
}
