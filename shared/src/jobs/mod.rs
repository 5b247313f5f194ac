//! WHAT can be queued: one data struct per job, with its stable name. HOW a job runs is in
//! `worker/src/handlers`, one file of the same name. Payloads carry ids, never copies of rows: the
//! handler reads again and may find that there is nothing left to do.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

mod auto_end_sessions;
mod backoff;
mod cleanup;
mod cleanup_personal_data;
mod close_stale_attendance;
mod delete_recording;
mod end_meeting;
mod erase_person;
mod finalize_session;
mod import_recording;
mod list_recordings;
mod noop;
mod poll_meeting;
mod poll_meetings;
mod process_webhook;
mod provider_health;
mod publish_recording;
mod reconcile_attendance;
mod register_webhooks;
mod send_invitation;
mod send_reminder;
mod sync_recordings;
mod update_meeting;

pub use auto_end_sessions::AutoEndSessions;
pub use backoff::Backoff;
pub use cleanup::Cleanup;
pub use cleanup_personal_data::CleanupPersonalData;
pub use close_stale_attendance::CloseStaleAttendance;
pub use delete_recording::DeleteRecording;
pub use end_meeting::EndMeeting;
pub use erase_person::ErasePerson;
pub use finalize_session::FinalizeSession;
pub use import_recording::ImportRecording;
pub use list_recordings::ListRecordings;
pub use noop::Noop;
pub use poll_meeting::PollMeeting;
pub use poll_meetings::PollMeetings;
pub use process_webhook::ProcessWebhook;
pub use provider_health::ProviderHealth;
pub use publish_recording::PublishRecording;
pub use reconcile_attendance::ReconcileAttendance;
pub use register_webhooks::RegisterWebhooks;
pub use send_invitation::{SendCancellation, SendInvitation, SendRecordingMissing, SendRecordingReady, SendUpdate};
pub use send_reminder::SendReminder;
pub use sync_recordings::SyncRecordings;
pub use update_meeting::UpdateMeeting;

/// The three queues; the names are the customer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Clean-up, sync, sweeps.
    Default,
    /// Webhooks, attendance, provider calls, recordings.
    Live,
    /// Mail.
    Notifications,
}

impl Queue {
    pub const ALL: [Self; 3] = [Self::Default, Self::Live, Self::Notifications];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Live => "live",
            Self::Notifications => "notifications",
        }
    }
}

impl std::fmt::Display for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Queue {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|q| q.as_str() == s)
            .ok_or_else(|| format!("no queue is named {s:?}; there are default, live, notifications"))
    }
}

/// Data of a piece of background work.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Stored in the ledger; kebab-case; never changed, because rows with it may be waiting.
    const NAME: &'static str;
    const QUEUE: Queue;
    /// Starts before it becomes a dead letter.
    const MAX_ATTEMPTS: i32 = 10;
    /// The waits between them.
    const BACKOFF: Backoff = Backoff::USUAL;
    /// A run longer than this is ended and counted as failed.
    const TIMEOUT: Duration = Duration::from_secs(60);
    /// 0 first … 3 last.
    const PRIORITY: i16 = 1;
    /// How many run at a time in one worker process, where they must leave slots to others.
    const MAX_RUNNING: Option<usize> = None;
    /// The rate (`WORKER_RATES`) that limits it where one is set; several kinds may share one.
    const RATE: &'static str = Self::NAME;

    /// While one job of this kind with this key waits or runs, a second is not stored.
    fn unique_key(&self) -> Option<String> {
        None
    }
}

/// The rate that all mails share: a mail server counts them together.
pub const MAILS: &str = "mails";

/// One line of the table of all jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobKind {
    pub name: &'static str,
    pub queue: Queue,
    pub max_attempts: i32,
    pub timeout: Duration,
    pub priority: i16,
    pub rate: &'static str,
    /// Reads a payload that a person wrote.
    pub read: fn(Value) -> Result<NamedJob, String>,
}

const fn kind<J: Job>() -> JobKind {
    JobKind {
        name: J::NAME,
        queue: J::QUEUE,
        max_attempts: J::MAX_ATTEMPTS,
        timeout: J::TIMEOUT,
        priority: J::PRIORITY,
        rate: J::RATE,
        read: read::<J>,
    }
}

/// A job whose kind is known by name only.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedJob {
    /// Decodes as the kind's data.
    pub payload: Value,
    pub unique_key: Option<String>,
}

fn read<J: Job>(payload: Value) -> Result<NamedJob, String> {
    let job: J = serde_json::from_value(payload.clone()).map_err(|e| e.to_string())?;
    let known = serde_json::to_value(&job).map_err(|e| e.to_string())?;
    // A misspelt field would be passed over when the job runs.
    let fields = payload.as_object().into_iter().flat_map(|fields| fields.keys());
    if let Some(unknown) = fields.into_iter().find(|name| known.get(name).is_none()) {
        let names: Vec<_> = known.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
        return Err(format!("there is no field `{unknown}`; there are: {}", names.join(", ")));
    }
    Ok(NamedJob { payload: known, unique_key: job.unique_key() })
}

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static JobKind> {
    ALL.iter().find(|kind| kind.name == name)
}

/// All jobs there are. A test walks it: each needs a handler and a row in docs/JOBS.md.
pub const ALL: &[JobKind] = &[
    kind::<AutoEndSessions>(),
    kind::<Cleanup>(),
    kind::<CleanupPersonalData>(),
    kind::<CloseStaleAttendance>(),
    kind::<DeleteRecording>(),
    kind::<EndMeeting>(),
    kind::<ErasePerson>(),
    kind::<FinalizeSession>(),
    kind::<ImportRecording>(),
    kind::<ListRecordings>(),
    kind::<Noop>(),
    kind::<PollMeeting>(),
    kind::<PollMeetings>(),
    kind::<ProcessWebhook>(),
    kind::<ProviderHealth>(),
    kind::<PublishRecording>(),
    kind::<ReconcileAttendance>(),
    kind::<RegisterWebhooks>(),
    kind::<SendCancellation>(),
    kind::<SendInvitation>(),
    kind::<SendRecordingMissing>(),
    kind::<SendRecordingReady>(),
    kind::<SendReminder>(),
    kind::<SendUpdate>(),
    kind::<SyncRecordings>(),
    kind::<UpdateMeeting>(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_kebab_case_and_sorted() {
        let names: Vec<_> = ALL.iter().map(|k| k.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    }

    #[test]
    fn a_written_payload_is_read_as_its_kind_or_refused() {
        let read = |kind: &str, payload| (find(kind).unwrap().read)(payload);
        let id = "019abcde-0000-7000-8000-000000000000";
        let job = read("finalize-session", serde_json::json!({ "session_id": id })).unwrap();
        assert_eq!(job.payload["session_id"], id);
        assert_eq!(read("noop", serde_json::json!({})).unwrap().payload["note"], "");
        assert!(read("noop", serde_json::json!({ "nte": "x" })).unwrap_err().contains("there is no field `nte`"));
        assert!(read("finalize-session", serde_json::json!({})).unwrap_err().contains("session_id"));
        assert!(read("noop", serde_json::json!("x")).is_err());
        assert!(find("no-such-job").is_none());
    }

    #[test]
    fn every_queue_is_found_by_its_name() {
        for queue in Queue::ALL {
            assert_eq!(queue.as_str().parse(), Ok(queue));
        }
        assert!("mail".parse::<Queue>().is_err());
    }
}
