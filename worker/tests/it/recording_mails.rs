//! Who hears what of a recording.

use chrono::TimeDelta;
use sandbox::recording_host::Faults;
use shared::{
    domain::ids::{ReminderId, SessionId},
    jobs::{ImportRecording, SendRecordingMissing, SendRecordingReady, SyncRecordings},
};

use crate::support::TestWorker;

async fn planned(worker: &TestWorker, mail: &str) -> Vec<(ReminderId, String)> {
    sqlx::query_as("select id, person_id from reminders where mail = $1 order by person_id")
        .bind(mail)
        .fetch_all(worker.db())
        .await
        .unwrap()
}

/// A class with a host and a student who have addresses, and one who has none.
async fn class(worker: &TestWorker) -> (SessionId, String, String) {
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let (host, ali) = (worker.address("host"), worker.address("ali"));
    worker.set("sessions", session.0, &format!("host_email = '{host}'")).await;
    worker.invite(session, "ali", &[("email", &ali), ("locale", "en")]).await;
    worker.invite(session, "nobody", &[]).await;
    (session, host, ali)
}

async fn queue(worker: &TestWorker) {
    sqlx::query("update reminders set state = 'queued' where state = 'pending'").execute(worker.db()).await.unwrap();
}

#[tokio::test]
async fn host_and_invitees_hear_once_that_a_recording_is_there() {
    let worker = TestWorker::new().await;
    let (session, host, ali) = class(&worker).await;
    for n in 0..2 {
        let name = format!("{}-{n}", worker.unique);
        worker.servers.recording_host.set_faults(&name, Faults::default());
        let url = worker.servers.recording_host.recording_url(&name, 1_000, 7);
        let recording_id = worker.recording(session, &url).await;
        assert_eq!(worker.run(&ImportRecording { recording_id }).await.state, "done");
    }
    let planned = planned(&worker, "recording-ready").await;
    assert_eq!(planned.iter().map(|(_, person)| person.as_str()).collect::<Vec<_>>(), ["ali", "host"]);
    queue(&worker).await;
    for (reminder_id, _) in planned {
        assert_eq!(worker.run(&SendRecordingReady { reminder_id }).await.state, "done");
    }
    let to_ali = worker.servers.smtp.messages_to(&ali);
    assert_eq!((to_ali.len(), to_ali[0].subject()), (1, "Recording: Lineer Cebir"));
    assert!(to_ali[0].attachments().is_empty(), "nothing is to be put into a calendar");
    assert!(to_ali[0].text().unwrap().contains(&format!("https://lms.test/live/{session}")));
    let to_host = worker.servers.smtp.messages_to(&host);
    assert_eq!((to_host.len(), to_host[0].subject()), (1, "Kayıt hazır: Lineer Cebir"));
}

#[tokio::test]
async fn the_host_alone_hears_that_a_recording_is_missing_unless_it_has_come_meanwhile() {
    let worker = TestWorker::new().await;
    let (session, host, ali) = class(&worker).await;
    let recording = worker.recording(session, "https://not-allowed.test/a").await;
    assert_eq!(worker.run(&ImportRecording { recording_id: recording }).await.state, "dead");
    worker.run(&SyncRecordings {}).await;
    let planned = planned(&worker, "recording-missing").await;
    assert_eq!(planned.len(), 1);
    queue(&worker).await;
    worker.set("recordings", recording.0, "state = 'published'").await;
    let reminder_id = planned[0].0;
    assert_eq!(worker.run(&SendRecordingMissing { reminder_id }).await.state, "done");
    let state = format!("select state from reminders where id = '{reminder_id}'");
    assert_eq!(worker.get::<String>(Box::leak(state.into_boxed_str())).await, "dropped");
    worker.set("reminders", reminder_id.0, "state = 'queued'").await;
    worker.set("recordings", recording.0, "state = 'failed'").await;
    assert_eq!(worker.run(&SendRecordingMissing { reminder_id }).await.state, "done");
    let mails = worker.servers.smtp.messages_to(&host);
    assert_eq!((mails.len(), mails[0].subject()), (1, "Kayıt yok: Lineer Cebir"));
    assert!(worker.servers.smtp.messages_to(&ali).is_empty());
}
