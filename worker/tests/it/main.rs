//! Handlers against real servers: each runs through the engine, as in production.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auto_end_sessions;
mod bbb_meetings;
mod cleanup;
mod close_stale_attendance;
mod command_line;
mod control;
mod control_lists;
mod end_meeting;
mod engine;
mod erase_person;
mod finalize_session;
mod import_recording;
mod ledger_model;
mod mailer;
mod migrations;
mod process_webhook;
mod provider_configs;
mod provider_health;
mod rates;
mod recording_mails;
mod send_invitation;
mod storage;
mod support;
mod sync_recordings;
mod tenancy;
mod zoom;
