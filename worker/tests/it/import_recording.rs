use std::time::Duration;

use chrono::TimeDelta;
use sandbox::recording_host::{Faults, sha256_of};
use shared::{
    domain::{ids::RecordingId, recording::Recording},
    jobs::ImportRecording,
    queue::ledger,
};

use crate::support::{JobRow, TestWorker, eventually};

const MIB: u64 = 1024 * 1024;
const PART: u64 = 8 * MIB;

async fn available(worker: &TestWorker, size: u64, faults: Faults) -> RecordingId {
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    worker.servers.recording_host.set_faults(&worker.unique, faults);
    let url = worker.servers.recording_host.recording_url(&worker.unique, size, 7);
    worker.recording(session, &url).await
}

async fn row(worker: &TestWorker, id: RecordingId) -> Recording {
    shared::db::recordings::find(worker.db(), id).await.unwrap().unwrap()
}

async fn import(worker: &TestWorker, id: RecordingId) -> JobRow {
    worker.run(&ImportRecording { recording_id: id }).await
}

/// Published, with the right bytes, as the only object, and no upload left over.
async fn assert_imported(worker: &TestWorker, id: RecordingId, size: u64) {
    let row = row(worker, id).await;
    assert_eq!(row.state.as_str(), "published", "{:?}", row.error);
    assert_eq!(row.size_bytes, i64::try_from(size).ok());
    assert_eq!(row.sha256, Some(sha256_of(size, 7)));
    let key = row.object_key.unwrap();
    assert_eq!(key, format!("{}/{}/{}.mp4", row.tenant_id.0.simple(), row.session_id.0.simple(), id.0.simple()));
    assert_eq!(worker.state().storage.digest(&key, PART).await.unwrap().sha256, sha256_of(size, 7));
    assert_no_uploads(worker, id).await;
}

async fn assert_no_uploads(worker: &TestWorker, id: RecordingId) {
    let uploads = worker.state().storage.list_uploads().await.unwrap();
    assert!(!uploads.iter().any(|upload| upload.key.contains(&id.0.simple().to_string())), "{uploads:?}");
}

fn ranges(worker: &TestWorker) -> Vec<Option<String>> {
    worker.servers.recording_host.requests_for(&worker.unique).into_iter().map(|request| request.range).collect()
}

trait StateName {
    fn as_str(&self) -> String;
}

impl StateName for shared::domain::recording::RecordingState {
    fn as_str(&self) -> String {
        serde_json::to_value(self).unwrap().as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_recording_is_stored_verified_and_published() {
    let worker = TestWorker::new().await;
    for size in [1000, PART, 2 * PART, 2 * PART + 12_345] {
        let id = available(&worker, size, Faults::default()).await;
        let job = import(&worker, id).await;
        assert_eq!(job.state, "done", "{}", job.error());
        assert_imported(&worker, id, size).await;
        let before = ranges(&worker).len();
        assert_eq!(import(&worker, id).await.state, "done");
        assert_eq!(ranges(&worker).len(), before, "what is published is not fetched again");
    }
    assert_eq!(import(&worker, RecordingId::new()).await.state, "done");
}

#[tokio::test]
async fn a_file_of_unknown_length_behind_a_redirect_is_stored() {
    let worker = TestWorker::new().await;
    let id = available(&worker, PART + 5, Faults { no_length: true, ..Faults::default() }).await;
    let job = import(&worker, id).await;
    assert_eq!(job.state, "done", "{}", job.error());
    assert_imported(&worker, id, PART + 5).await;
    let id = available(&worker, 4_000, Faults { redirect: true, ..Faults::default() }).await;
    let job = import(&worker, id).await;
    assert_eq!(job.state, "done", "{}", job.error());
    assert_imported(&worker, id, 4_000).await;
}

#[tokio::test]
async fn an_import_that_broke_off_goes_on_behind_the_last_part() {
    let worker = TestWorker::new().await;
    let size = 3 * PART + 99;
    let cut = Faults { cut_after: Some(2 * PART + MIB), cut_times: Some(1), ..Faults::default() };
    let id = available(&worker, size, cut).await;
    let job = import(&worker, id).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 1), "{}", job.error());
    assert_eq!(row(&worker, id).await.bytes_done, i64::try_from(2 * PART).unwrap());
    let job = worker.run_id(job.id).await;
    assert_eq!(job.state, "done", "{}", job.error());
    assert_imported(&worker, id, size).await;
    assert_eq!(ranges(&worker), [None, Some(format!("bytes={}-", 2 * PART))]);
}

#[tokio::test]
async fn a_killed_worker_s_import_is_gone_on_with_by_the_next() {
    let worker = TestWorker::new().await;
    let size = 4 * PART;
    let id = available(&worker, size, Faults { stall_after: Some(3 * PART - 1), ..Faults::default() }).await;
    let job = worker.enqueue(&ImportRecording { recording_id: id }).await;
    // Two workers died before any part was stored: a third such death would be the last.
    worker.set("jobs", job.0, "crashes = 2").await;
    let (claimed, engine) = (worker.claim(job).await, worker.engine.clone());
    let lease = claimed.lease();
    let running = tokio::spawn(async move { engine.run(claimed).await });
    eventually("two parts", || async { row(&worker, id).await.bytes_done == i64::try_from(2 * PART).unwrap() }).await;
    // Dies without a word.
    worker.engine.running.abort(lease, worker::running::WhyAborted::LeaseLost);
    running.await.unwrap();
    worker.set("jobs", job.0, "lease_until = now() - interval '1 second'").await;
    let rescued = ledger::rescue(worker.db()).await.unwrap();
    assert_eq!((rescued.len(), rescued[0].state.as_str(), rescued[0].crashes), (1, "available", 1));

    worker.servers.recording_host.set_faults(&worker.unique, Faults::default());
    let ended = worker.run_id(job).await;
    assert_eq!(ended.state, "done", "{}", ended.error());
    assert_imported(&worker, id, size).await;
    assert_eq!(ranges(&worker), [None, Some(format!("bytes={}-", 2 * PART))]);
}

#[tokio::test]
async fn all_parts_stored_but_not_completed_is_gone_on_with() {
    let worker = TestWorker::new().await;
    let size = 2 * PART;
    // One byte is missing in the end.
    let id =
        available(&worker, size, Faults { cut_after: Some(size - 1), cut_times: Some(1), ..Faults::default() }).await;
    let job = import(&worker, id).await;
    assert_eq!(job.state, "available");
    // The second part came through just before the crash.
    let before = row(&worker, id).await;
    let upload = before.upload_id.clone().unwrap();
    let key = format!("{}/{}/{}.mp4", worker.tenant.0.simple(), before.session_id.0.simple(), id.0.simple());
    let mut bytes = vec![0; usize::try_from(PART).unwrap()];
    sandbox::random_bytes::fill(7, PART, &mut bytes);
    let part = worker.state().storage.upload_part(&key, &upload, 2, bytes.into()).await.unwrap();
    let added =
        format!(r#"parts = parts || '[{{"number": 2, "etag": {:?}, "bytes": {PART}, "sha256": "{}"}}]'"#, part.etag, {
            use sha2::Digest as _;
            let mut bytes = vec![0; usize::try_from(PART).unwrap()];
            sandbox::random_bytes::fill(7, PART, &mut bytes);
            hex::encode(sha2::Sha256::digest(&bytes))
        });
    worker.set("recordings", id.0, &added).await;
    let job = worker.run_id(job.id).await;
    assert_eq!(job.state, "done", "{}", job.error());
    assert_imported(&worker, id, size).await;
}

#[tokio::test]
async fn an_import_that_was_completed_but_not_written_down_is_not_fetched_again() {
    let worker = TestWorker::new().await;
    let size = 2 * PART + 1;
    let id = available(&worker, size, Faults::default()).await;
    import(&worker, id).await;
    let key = row(&worker, id).await.object_key.unwrap();
    let digest = worker.state().storage.digest(&key, PART).await.unwrap();
    let parts: Vec<_> = digest
        .blocks
        .iter()
        .enumerate()
        .map(|(n, sha256)| serde_json::json!({"number": n + 1, "etag": "x", "bytes": 1, "sha256": sha256}))
        .collect();
    // As the row was when the upload was completed.
    let columns = format!(
        "state = 'downloading', upload_id = '{}', parts = '{}', object_key = null, sha256 = null",
        uuid::Uuid::now_v7(),
        serde_json::to_string(&parts).unwrap()
    );
    worker.set("recordings", id.0, &columns).await;
    assert_eq!(import(&worker, id).await.state, "done");
    assert_imported(&worker, id, size).await;
    assert_eq!(ranges(&worker).len(), 1);
}

#[tokio::test]
async fn another_file_at_the_source_is_fetched_from_its_beginning() {
    let worker = TestWorker::new().await;
    let size = 2 * PART + 1;
    let id =
        available(&worker, 2 * size, Faults { cut_after: Some(PART + 1), cut_times: Some(1), ..Faults::default() })
            .await;
    let job = import(&worker, id).await;
    assert_eq!(row(&worker, id).await.bytes_done, i64::try_from(PART).unwrap());
    let url = worker.servers.recording_host.recording_url(&worker.unique, size, 7);
    worker.set("recordings", id.0, &format!("source_url = '{url}'")).await;
    let job = worker.run_id(job.id).await;
    assert_eq!(job.state, "done", "{}", job.error());
    assert_imported(&worker, id, size).await;
}

#[tokio::test]
async fn a_file_that_is_not_ready_is_waited_for_without_using_attempts() {
    let worker = TestWorker::new().await;
    let id = available(&worker, 5_000, Faults { not_ready: 2, ..Faults::default() }).await;
    let job = import(&worker, id).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
    assert!((50.0..=60.0).contains(&job.wait_seconds), "{}", job.wait_seconds);
    assert_eq!(worker.run_id(job.id).await.attempt, 0);
    assert_eq!(worker.run_id(job.id).await.state, "done");
    assert_imported(&worker, id, 5_000).await;
}

#[tokio::test]
async fn a_file_that_never_comes_is_missing() {
    let worker = TestWorker::new().await;
    let id = available(&worker, 5_000, Faults { not_ready: 9, ..Faults::default() }).await;
    worker.set("recordings", id.0, "deadline_at = now() - interval '1 minute'").await;
    assert_eq!(import(&worker, id).await.state, "dead");
    assert_eq!(row(&worker, id).await.state.as_str(), "missing");
}

#[tokio::test]
async fn what_will_never_succeed_fails_at_once() {
    let worker = TestWorker::new().await;
    for (faults, reason) in [
        (Faults { status: Some(403), ..Faults::default() }, "status 403"),
        (Faults { status: Some(410), ..Faults::default() }, "status 410"),
        (Faults { login_page: true, ..Faults::default() }, "web page"),
    ] {
        let id = available(&worker, 5_000, faults).await;
        let job = import(&worker, id).await;
        assert_eq!(job.state, "dead");
        let row = row(&worker, id).await;
        assert_eq!(row.state.as_str(), "failed");
        assert!(row.error.unwrap().contains(reason), "{}", job.error());
    }
    let id = available(&worker, 5_000, Faults::default()).await;
    worker.set("recordings", id.0, "source_url = 'http://127.0.0.1:1/file?secret=1'").await;
    let job = import(&worker, id).await;
    assert_eq!(job.state, "dead");
    assert!(job.error().contains("RECORDING_HOSTS") && !job.error().contains("secret"), "{}", job.error());

    // An operator tries again by hand, after the cause is gone.
    let id = available(&worker, 5_000, Faults { status: Some(403), ..Faults::default() }).await;
    assert_eq!(import(&worker, id).await.state, "dead");
    worker.servers.recording_host.set_faults(&worker.unique, Faults::default());
    assert_eq!(import(&worker, id).await.state, "done");
    assert_imported(&worker, id, 5_000).await;
}

#[tokio::test]
async fn an_import_that_waits_for_a_retry_says_why() {
    let worker = TestWorker::new().await;
    let id = available(&worker, 5_000, Faults { status: Some(500), ..Faults::default() }).await;
    let job = import(&worker, id).await;
    assert_eq!(job.state, "available");
    assert_eq!(job.error().matches("status 500").count(), 1, "{}", job.error());
    let told = row(&worker, id).await;
    assert_eq!((told.state.as_str().as_str(), told.error.as_deref()), ("available", Some("status 500")));

    let cut = Faults { cut_after: Some(PART + 1), cut_times: Some(1), ..Faults::default() };
    let id = available(&worker, 2 * PART, cut).await;
    let job = import(&worker, id).await;
    let told = row(&worker, id).await;
    assert_eq!((told.state.as_str().as_str(), told.bytes_done), ("available", i64::try_from(PART).unwrap()));
    assert!(told.error.is_some_and(|error| !error.contains("http")));
    assert_eq!(worker.run_id(job.id).await.state, "done");
    assert_eq!(row(&worker, id).await.error, None);
    assert_imported(&worker, id, 2 * PART).await;
}

#[tokio::test]
async fn private_addresses_need_consent() {
    let worker = TestWorker::with(|config| config.providers.recording_allow_private = false).await;
    let id = available(&worker, 5_000, Faults::default()).await;
    let job = import(&worker, id).await;
    assert_eq!(job.state, "dead");
    assert!(job.error().contains("private address"), "{}", job.error());
    // By a name that leads there, as well.
    let port = worker.servers.recording_host.url().rsplit(':').next().unwrap().to_owned();
    let named = TestWorker::with(|config| {
        config.providers.recording_allow_private = false;
        config.providers.recording_hosts = vec![format!("localhost:{port}")];
    })
    .await;
    let id = available(&named, 5_000, Faults::default()).await;
    named.set("recordings", id.0, &format!("source_url = 'http://localhost:{port}/recordings/x'")).await;
    let job = import(&named, id).await;
    assert_eq!(job.state, "dead");
    assert!(job.error().contains("private address"), "{}", job.error());
    assert!(ranges(&worker).is_empty() && ranges(&named).is_empty());
}

#[tokio::test]
async fn damaged_files_are_never_published() {
    let worker = TestWorker::new().await;
    for columns in ["announced_bytes = 4999", "announced_sha256 = repeat('0', 64)"] {
        let id = available(&worker, 5_000, Faults::default()).await;
        worker.set("recordings", id.0, columns).await;
        let job = import(&worker, id).await;
        assert_eq!((job.state.as_str(), job.attempt), ("available", 1), "{}", job.error());
        assert_eq!(row(&worker, id).await.state.as_str(), "available");
        worker.set("jobs", job.id.0, "attempt = max_attempts - 1").await;
        assert_eq!(worker.run_id(job.id).await.state, "dead");
        let row = row(&worker, id).await;
        assert_eq!(row.state.as_str(), "failed");
        assert!(row.error.is_some());
        let key = format!("{}/{}/{}.mp4", row.tenant_id.0.simple(), row.session_id.0.simple(), id.0.simple());
        assert_eq!(worker.state().storage.size(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_import_that_is_given_up_leaves_no_upload() {
    let worker = TestWorker::new().await;
    let id = available(&worker, 2 * PART, Faults { cut_after: Some(PART + 1), ..Faults::default() }).await;
    let job = worker.run_last(&ImportRecording { recording_id: id }).await;
    assert_eq!(job.state, "dead");
    assert_eq!(row(&worker, id).await.state.as_str(), "failed");
    assert_no_uploads(&worker, id).await;
}

#[tokio::test]
async fn without_an_object_store_the_import_is_tried_again() {
    let worker = TestWorker::with(|config| config.storage.s3_endpoint = "http://127.0.0.1:1".into()).await;
    let id = available(&worker, 5_000, Faults::default()).await;
    let job = import(&worker, id).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 1));
    let denied = TestWorker::with(|config| config.storage.aws_secret_access_key = "wrong".into()).await;
    let id = available(&denied, 5_000, Faults::default()).await;
    assert_eq!(import(&denied, id).await.state, "dead");
    assert!(row(&denied, id).await.error.unwrap().contains("refuses"));
}

#[tokio::test]
async fn a_process_that_stops_keeps_what_it_has() {
    let worker = TestWorker::new().await;
    let id = available(&worker, 3 * PART, Faults { stall_after: Some(PART + 1), ..Faults::default() }).await;
    let job = worker.enqueue(&ImportRecording { recording_id: id }).await;
    let (claimed, engine) = (worker.claim(job).await, worker.engine.clone());
    let running = tokio::spawn(async move { engine.run(claimed).await });
    eventually("one part", || async { row(&worker, id).await.bytes_done == i64::try_from(PART).unwrap() }).await;
    worker.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("it stops at once").unwrap();
    let ended = worker.job(job).await;
    assert_eq!((ended.state.as_str(), ended.attempt), ("available", 0));
    assert_eq!(row(&worker, id).await.bytes_done, i64::try_from(PART).unwrap());
}

/// A recording of which somebody has put all parts into the store, and said that they are these.
async fn handed_over(worker: &TestWorker, parts: &[&[u8]], said: &[u8]) -> RecordingId {
    use sha2::Digest as _;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let id = worker.recording(session, "http://nowhere.test/").await;
    let storage = &worker.state().storage;
    let key = row(worker, id).await.key_in_store();
    let upload = storage.start_upload(&key, "video/mp4").await.unwrap();
    for (number, part) in (1..).zip(parts) {
        storage.upload_part(&key, &upload, number, bytes::Bytes::copy_from_slice(part)).await.unwrap();
    }
    sqlx::query(
        "update recordings set source_url = null, upload_id = $2, announced_bytes = $3, announced_sha256 = $4, \
             handed_over_at = now() where id = $1",
    )
    .bind(id)
    .bind(upload)
    .bind(i64::try_from(said.len()).unwrap())
    .bind(hex::encode(sha2::Sha256::digest(said)))
    .execute(worker.db())
    .await
    .unwrap();
    id
}

#[tokio::test]
async fn what_was_handed_over_becomes_one_object_also_when_its_worker_died_meanwhile() {
    let worker = TestWorker::new().await;
    for died in [false, true] {
        // S3 takes no smaller part but the last.
        let (first, second) = (vec![1; 5 * 1024 * 1024], [2; 10]);
        let id = handed_over(&worker, &[&first, &second], &[first.as_slice(), &second].concat()).await;
        let before = row(&worker, id).await;
        if died {
            // Completed, and not said so.
            let (key, upload) = (before.key_in_store(), before.upload_id.unwrap());
            let storage = &worker.state().storage;
            let parts = storage.list_parts(&key, &upload).await.unwrap();
            let parts: Vec<_> = parts.into_iter().map(|part| (part.number, part.etag)).collect();
            storage.complete(&key, &upload, &parts).await.unwrap();
        }
        let job = import(&worker, id).await;
        assert_eq!(job.state, "done", "{}", job.error());
        let after = row(&worker, id).await;
        assert_eq!(
            (after.state.as_str().as_str(), after.size_bytes, after.sha256),
            ("published", Some(5 * 1024 * 1024 + 10), before.announced_sha256)
        );
        assert_no_uploads(&worker, id).await;
        assert_eq!(import(&worker, id).await.state, "done", "twice is as good as once");
    }
}

#[tokio::test]
async fn other_bytes_than_were_announced_are_seen_by_nobody() {
    let worker = TestWorker::new().await;
    let id = handed_over(&worker, &[b"damaged"], b"correct").await;
    let key = row(&worker, id).await.key_in_store();
    let job = import(&worker, id).await;
    assert_eq!(job.state, "dead");
    let row = row(&worker, id).await;
    assert_eq!((row.state.as_str().as_str(), row.handed_over_at), ("failed", None));
    assert!(row.error.unwrap().contains("upload it again"));
    assert_eq!(worker.state().storage.size(&key).await.unwrap(), None);
    assert_no_uploads(&worker, id).await;
}
