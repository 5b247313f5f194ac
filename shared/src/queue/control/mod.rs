//! What operators do with the ledger, over HTTP and on the command line: look at jobs and queues, try jobs again, cancel
//! and discard them, pause queues. Everything is decided by single statements on rows, so that it holds against
//! workers, schedulers and other operators that act at the same moment.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;

use crate::domain::ids::{JobId, TenantId};

mod change;
mod list;
mod queues;

pub use change::{Change, DeadFilter, RETRY_STEP, Step, cancel, discard, note_enqueued, retry, retry_dead};
pub use list::{Filter, Keyset, Listed, WINDOW, find, list};
pub use queues::{COUNTED, Count, QueueState, pause, queue_states, resume};

/// Where a job is: `available` (due at `run_at`) → `running` → `done`, `dead` or `cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum JobState {
    Available,
    Running,
    Done,
    Dead,
    Cancelled,
}

impl JobState {
    pub const ALL: [Self; 5] = [Self::Available, Self::Running, Self::Done, Self::Dead, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for JobState {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| format!("no state is named {s:?}; there are available, running, done, dead, cancelled"))
    }
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct JobLine {
    pub id: JobId,
    pub tenant_id: Option<TenantId>,
    pub queue: String,
    pub kind: String,
    pub state: JobState,
    pub priority: i16,
    /// When it is due, or was.
    pub run_at: DateTime<Utc>,
    /// Starts that counted.
    pub attempt: i32,
    pub max_attempts: i32,
    /// Starts that ended with the death of the worker.
    pub crashes: i32,
    pub worker: Option<String>,
    /// It runs, and its worker is about to end it.
    pub cancel_requested: bool,
    /// Why the newest start failed.
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A job with all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct JobDetail {
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub job: JobLine,
    /// Ids of what it is about.
    pub payload: Value,
    pub unique_key: Option<String>,
    /// Until when the worker holds it without renewal.
    pub lease_until: Option<DateTime<Utc>>,
    /// The newest failures and what operators did, newest last: `{at, attempt, error}` or `{at, attempt, note}`.
    pub history: Value,
    /// W3C trace context of the request that caused it.
    pub traceparent: Option<String>,
}

/// Columns of a [`JobLine`].
macro_rules! line_columns {
    () => {
        "id, tenant_id, queue, kind, state, priority, run_at, attempt, max_attempts, crashes, worker, \
         cancel_requested, errors -> -1 ->> 'error' as last_error, created_at, started_at, finished_at"
    };
}
/// Columns of a [`JobDetail`].
macro_rules! detail_columns {
    () => {
        concat!(
            $crate::queue::control::line_columns!(),
            ", payload, unique_key, lease_until, errors as history, traceparent"
        )
    };
}
use {detail_columns, line_columns};
