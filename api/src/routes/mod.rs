//! What the API does, one file per resource, in the order of `router.rs`.

pub mod api_keys;
pub mod asap;
pub mod attendance;
pub mod attendance_corrections;
mod attendance_tables;
pub mod audit_log;
pub mod calendar;
pub mod documents;
pub mod health;
pub mod invitees;
pub mod jobs;
pub mod ops;
pub mod participants;
pub mod presence;
pub mod provider_configs;
pub mod providers;
pub mod queues;
pub mod recordings;
pub mod removals;
pub mod reservations;
pub mod schedules;
pub mod sessions;
pub mod webhook_events;
pub mod webhooks;
