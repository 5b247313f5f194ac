use bytes::Bytes;
use worker::storage::{Storage, StorageError};

use crate::support::TestWorker;

const MIB: usize = 1024 * 1024;

fn key(worker: &TestWorker, name: &str) -> String {
    format!("{}/{name}", worker.unique)
}

#[tokio::test]
async fn an_upload_is_visible_when_it_is_complete_and_reads_back_the_same() {
    let worker = TestWorker::new().await;
    let storage = &worker.state().storage;
    let key = key(&worker, "multi");
    let upload = storage.start_upload(&key, "video/mp4").await.unwrap();
    let first = storage.upload_part(&key, &upload, 1, Bytes::from(vec![1; 5 * MIB])).await.unwrap();
    let second = storage.upload_part(&key, &upload, 2, Bytes::from(vec![2; 100])).await.unwrap();
    let listed: Vec<_> = storage.list_parts(&key, &upload).await.unwrap().iter().map(|p| (p.number, p.bytes)).collect();
    assert_eq!(listed, [(1, first.bytes), (2, second.bytes)]);
    assert!(storage.list_uploads().await.unwrap().iter().any(|u| u.upload_id == upload && u.key == key));
    assert_eq!(storage.size(&key).await.unwrap(), None);

    storage.complete(&key, &upload, &[(1, first.etag), (2, second.etag)]).await.unwrap();
    assert_eq!(storage.size(&key).await.unwrap(), Some(5 * MIB as u64 + 100));
    let digest = storage.digest(&key, 5 * MIB as u64).await.unwrap();
    assert_eq!((digest.bytes, digest.blocks.len()), (5 * MIB as u64 + 100, 2));
    assert!(!storage.list_uploads().await.unwrap().iter().any(|u| u.upload_id == upload));
    assert!(matches!(storage.list_parts(&key, &upload).await, Err(StorageError::NotFound(_))));
}

#[tokio::test]
async fn what_is_gone_can_be_aborted_and_deleted_again() {
    let worker = TestWorker::new().await;
    let storage = &worker.state().storage;
    let key = key(&worker, "gone");
    let upload = storage.start_upload(&key, "video/mp4").await.unwrap();
    storage.abort(&key, &upload).await.unwrap();
    storage.abort(&key, &upload).await.unwrap();
    storage.put(&key, "video/mp4", Bytes::from_static(b"x")).await.unwrap();
    storage.delete(&key).await.unwrap();
    storage.delete(&key).await.unwrap();
    assert_eq!(storage.size(&key).await.unwrap(), None);
    assert!(matches!(storage.digest(&key, 8).await, Err(StorageError::NotFound(_))));
}

#[tokio::test]
async fn wrong_settings_are_told_apart_from_a_store_that_is_away() {
    let worker = TestWorker::new().await;
    worker.state().storage.check().await.unwrap();
    let config = worker.state().config.storage.clone();

    let wrong_secret = worker::config::StorageConfig { aws_secret_access_key: "wrong".into(), ..config.clone() };
    let refused = Storage::new(&wrong_secret).await;
    assert!(refused.check().await.is_err());
    let put = refused.put("x", "video/mp4", Bytes::from_static(b"x")).await;
    assert!(matches!(put, Err(StorageError::Refused(..))), "{put:?}");

    let wrong_bucket = worker::config::StorageConfig { s3_bucket: "nothing-here".into(), ..config.clone() };
    let nowhere = Storage::new(&wrong_bucket).await;
    assert!(nowhere.check().await.unwrap_err().to_string().starts_with("S3_BUCKET"));
    let put = nowhere.put("x", "video/mp4", Bytes::from_static(b"x")).await;
    assert!(matches!(put, Err(StorageError::Refused(..))), "{put:?}");

    let away = worker::config::StorageConfig { s3_endpoint: "http://127.0.0.1:1".into(), ..config };
    let put = Storage::new(&away).await.put("x", "video/mp4", Bytes::from_static(b"x")).await;
    assert!(matches!(put, Err(StorageError::Unavailable(..))), "{put:?}");
}
