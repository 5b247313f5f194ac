//! What the API does, one file per resource, in the order of `router.rs`.

pub mod analytics;
pub mod api_keys;
pub mod attendance;
pub mod attendance_corrections;
pub mod attendance_objections;
pub mod attendance_ranges;
pub mod audit_log;
pub mod calendar;
pub mod documents;
pub mod health;
pub mod invitees;
pub mod jobs;
pub mod ops;
pub mod participants;
pub mod people;
pub mod presence;
pub mod present;
pub mod provider_configs;
pub mod providers;
pub mod queues;
pub mod recordings;
pub mod schedules;
pub mod sessions;
pub mod webhook_events;
pub mod webhooks;
