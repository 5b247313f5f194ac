//! HOW each job runs: one file per file in `shared/src/jobs`, same name.

use shared::jobs::{
    AutoEndSessions, Cleanup, CloseStaleAttendance, EndMeeting, FinalizeSession, ImportRecording, Noop, ProcessWebhook,
    ReconcileAttendance, SendCancellation, SendInvitation, SendReminder, SendUpdate, SyncRecordings, UpdateMeeting,
};

use crate::registry::Registry;

mod auto_end_sessions;
mod cleanup;
mod close_stale_attendance;
mod end_meeting;
mod finalize_session;
mod import_recording;
mod noop;
mod process_webhook;
mod reconcile_attendance;
mod send_invitation;
mod send_reminder;
mod sync_recordings;
mod update_meeting;

/// THE list of what this process can run.
pub fn registry() -> Registry {
    Registry::new()
        .register::<AutoEndSessions>()
        .register::<Cleanup>()
        .register::<CloseStaleAttendance>()
        .register::<EndMeeting>()
        .register::<FinalizeSession>()
        .register::<ImportRecording>()
        .register::<Noop>()
        .register::<ProcessWebhook>()
        .register::<ReconcileAttendance>()
        .register::<SendCancellation>()
        .register::<SendInvitation>()
        .register::<SendReminder>()
        .register::<SendUpdate>()
        .register::<SyncRecordings>()
        .register::<UpdateMeeting>()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_job_has_a_handler() {
        let jobs: Vec<_> = shared::jobs::ALL.iter().map(|kind| kind.name).collect();
        assert_eq!(super::registry().kinds(), jobs);
    }
}
