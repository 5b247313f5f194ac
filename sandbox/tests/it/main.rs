//! Tests of the servers themselves and of the whole system.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod attendance;
mod bbb_class;
mod bigbluebutton;
mod clocks;
mod contract;
mod faults;
mod jibri;
mod kills;
mod limits;
mod mails;
mod partitions;
mod program;
mod prosody;
mod recordings;
mod redis_topologies;
mod servers;
mod settings;
mod storage;
mod stories;
mod support;
mod zoom;
