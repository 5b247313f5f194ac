//! The API by its public door: real HTTP against a real Postgres and Redis.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod key_server;
mod support;

mod analytics;
mod api_keys;
mod asap;
mod attendance;
mod attendance_objections;
mod audit_log;
mod auth;
mod bbb_servers;
mod bbb_sessions;
mod bbb_webhooks;
mod calendar;
mod connections;
mod documents;
mod health;
mod heartbeats;
mod hostile_queries;
mod hostile_tokens;
mod idempotency;
mod input;
mod invitees;
mod jwks;
mod lifecycle;
mod list;
mod operators;
mod people;
mod permission_matrix;
mod permissions;
mod presence;
mod present;
mod provider_configs;
mod provider_secrecy;
mod provider_sessions;
mod provider_test;
mod rates;
mod recording_uploads;
mod recordings;
mod removals;
mod reservations;
mod sessions;
mod tenancy;
mod tenant;
mod webhooks;
mod zoom_sessions;
