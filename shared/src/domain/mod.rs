//! The rules of live classes, pure: no I/O, no clock, no SQL.

pub mod api_key;
pub mod attendance;
pub mod ids;
pub mod person;
pub mod provider;
pub mod recording;
pub mod reminder;
pub mod session;
