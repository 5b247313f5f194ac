//! HOW each job runs: one file per file in `shared/src/jobs`, same name.

use shared::jobs::{
    AutoEndSessions, Cleanup, CleanupPersonalData, CloseStaleAttendance, DeleteRecording, EndMeeting, ErasePerson,
    FinalizeSession, ImportRecording, ListRecordings, Noop, PollMeeting, PollMeetings, ProcessWebhook, ProviderHealth,
    PublishRecording, ReconcileAttendance, RegisterWebhooks, SendCancellation, SendInvitation, SendRecordingMissing,
    SendRecordingReady, SendReminder, SendUpdate, SyncRecordings, UpdateMeeting,
};

use crate::registry::Registry;

mod auto_end_sessions;
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

/// THE list of what this process can run.
pub fn registry() -> Registry {
    Registry::new()
        .register::<AutoEndSessions>()
        .register::<Cleanup>()
        .register::<CleanupPersonalData>()
        .register::<CloseStaleAttendance>()
        .register::<DeleteRecording>()
        .register::<EndMeeting>()
        .register::<ErasePerson>()
        .register::<FinalizeSession>()
        .register::<ImportRecording>()
        .register::<ListRecordings>()
        .register::<Noop>()
        .register::<PollMeeting>()
        .register::<PollMeetings>()
        .register::<ProcessWebhook>()
        .register::<ProviderHealth>()
        .register::<PublishRecording>()
        .register::<ReconcileAttendance>()
        .register::<RegisterWebhooks>()
        .register::<SendCancellation>()
        .register::<SendInvitation>()
        .register::<SendReminder>()
        .register::<SendRecordingMissing>()
        .register::<SendRecordingReady>()
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
