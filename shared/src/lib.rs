//! What api, worker and scheduler have in common: the domain, the jobs that can be queued, the
//! database, the queue, the providers. It knows neither axum nor lettre nor the AWS SDK, so that no
//! process pays for what only another one uses. `docs/ARCHITECTURE.md` shows where things are.
//!
//! Inside, a module uses only what stands left of it:
//! `clock, config, domain ◀ jobs ◀ queue ◀ db` and `clock, config, domain ◀ secrets ◀ db, providers ◀ probes` with
//! `outbound ◀ probes, meetings`, `providers ◀ meetings`, and `clock, config, domain ◀ calendar`;
//! `telemetry`, `shutdown` and `checks` are for the binaries. `shared/tests/layering.rs` holds that.

pub mod calendar;
pub mod checks;
pub mod clock;
pub mod config;
pub mod db;
pub mod domain;
pub mod jobs;
pub mod meetings;
pub mod outbound;
pub mod probes;
pub mod providers;
pub mod queue;
pub mod secrets;
pub mod shutdown;
pub mod telemetry;
