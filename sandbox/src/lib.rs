//! The servers that the services need, started by one command on one machine: a private Postgres and Redis,
//! an S3 server that checks signatures, a mail sink, a stand-in for a meeting host. `cargo run` uses them for
//! the whole system, every test for itself (`testing`). Never part of a production image.

pub mod bigbluebutton;
mod cluster;
pub mod mail;
mod mailbox;
pub mod people;
pub mod ports;
pub mod postgres;
mod private;
pub mod process;
pub mod provision;
pub mod proxy;
pub mod random_bytes;
pub mod recording_host;
pub mod redis;
mod runtime;
pub mod s3;
mod s3_store;
pub mod services;
pub mod smtp;
mod smtp_session;
mod supervision;
pub mod system;
pub mod testing;
pub mod zoom;
