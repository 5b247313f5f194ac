use chrono::{TimeDelta, Utc};
use shared::{
    clock::Clock,
    jobs::{ImportRecording, SyncRecordings},
};

use crate::support::TestWorker;

#[tokio::test]
async fn recordings_without_an_import_get_one() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let lost = worker.recording(session, "https://host.test/a").await;
    let waiting = worker.recording(session, "https://host.test/b").await;
    worker.enqueue(&ImportRecording { recording_id: waiting }).await;
    let done = worker.recording(session, "https://host.test/c").await;
    worker.set("recordings", done.0, "state = 'published'").await;
    for _ in 0..2 {
        assert_eq!(worker.run(&SyncRecordings {}).await.state, "done");
        let mut keys: Vec<String> = sqlx::query_scalar("select unique_key from jobs where kind = 'import-recording'")
            .fetch_all(worker.db())
            .await
            .unwrap();
        keys.sort();
        assert_eq!(keys, [lost.to_string(), waiting.to_string()]);
    }
}

#[tokio::test]
async fn an_import_that_became_a_dead_letter_is_failed_and_not_started_again() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let recording = worker.recording(session, "https://host.test/a").await;
    let job = worker.enqueue(&ImportRecording { recording_id: recording }).await;
    let died = r#"state = 'dead', finished_at = now(), errors = '[{"error": "crashed"}]'"#;
    worker.set("jobs", job.0, died).await;
    worker.run(&SyncRecordings {}).await;
    let (state, error): (String, String) =
        sqlx::query_as("select state, error from recordings").fetch_one(worker.db()).await.unwrap();
    assert_eq!((state.as_str(), error.as_str()), ("failed", "crashed"));
    assert!(worker.waiting::<ImportRecording>().await.is_empty());
}

#[tokio::test]
async fn an_expected_recording_is_missing_after_its_deadline() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let recording = worker.recording(session, "").await;
    worker.set("recordings", recording.0, "state = 'expected', source_url = null").await;
    worker.run(&SyncRecordings {}).await;
    assert_eq!(worker.get::<String>("select state from recordings").await, "expected");
    worker.set("recordings", recording.0, "deadline_at = now() - interval '1 second'").await;
    worker.run(&SyncRecordings {}).await;
    assert_eq!(worker.get::<String>("select state from recordings").await, "missing");
}

#[tokio::test]
async fn uploads_that_nobody_goes_on_with_are_aborted() {
    // A bucket of its own: in the common one, this would abort what other tests upload.
    let bucket = sandbox::testing::unique_prefix();
    let worker = TestWorker::with(|config| config.storage.s3_bucket.clone_from(&bucket)).await;
    worker.servers.s3.create_bucket(&bucket).unwrap();
    let storage = &worker.state().storage;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let recording = worker.recording(session, "https://host.test/a").await;
    let key = |id: uuid::Uuid| format!("{0}/{0}/{1}.mp4", worker.tenant.0.simple(), id.simple());
    let (left_over, in_use) = (key(uuid::Uuid::now_v7()), key(recording.0));
    let foreign = format!("{}/other.bin", worker.unique);
    let mut uploads = Vec::new();
    for key in [&left_over, &in_use, &foreign] {
        uploads.push(storage.start_upload(key, "video/mp4").await.unwrap());
    }
    worker.set("recordings", recording.0, &format!("upload_id = '{}'", uploads[1])).await;
    worker.enqueue(&ImportRecording { recording_id: recording }).await;
    let open = || async {
        let all: Vec<String> = storage.list_uploads().await.unwrap().into_iter().map(|u| u.upload_id).collect();
        uploads.iter().map(|id| all.contains(id)).collect::<Vec<_>>()
    };
    worker.run(&SyncRecordings {}).await;
    assert_eq!(open().await, [true, true, true], "they may have just begun");

    // Two days later.
    let mut state = worker.state().clone();
    #[expect(clippy::disallowed_methods, reason = "the store stamps uploads by the machine's clock")]
    let later = Utc::now() + TimeDelta::days(2);
    state.clock = Clock::Fixed(later);
    let job = worker.enqueue(&SyncRecordings {}).await;
    let claimed = worker.claim(job).await;
    let engine = worker::run::Engine::new(state, worker::handlers::registry(), worker.stop.clone());
    engine.run(claimed).await;
    assert_eq!(open().await, [false, true, true]);
}
