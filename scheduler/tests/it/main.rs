//! The scheduler against a real Postgres and Redis.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod tick;
