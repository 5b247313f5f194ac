//! The API by its public door: real HTTP against a real Postgres and Redis.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod support;

mod attendance;
mod auth;
mod calendar;
mod connections;
mod documents;
mod health;
mod idempotency;
mod input;
mod invitees;
mod lifecycle;
mod list;
mod operators;
mod permissions;
mod presence;
mod rates;
mod recordings;
mod sessions;
mod webhooks;
