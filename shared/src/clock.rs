//! The one place that reads the machine's clock, so that tests can stand still in time.
//! Leases, due times and closings do not use it: they are judged by the database's clock.

use chrono::{DateTime, Utc};

/// Source of "now" for decisions that are not made in SQL (token life times, calendar stamps).
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Always the same moment.
    Fixed(DateTime<Utc>),
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the place that may")]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::Fixed(at) => *at,
        }
    }
}
