use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::json;
use shared::jobs::{Cleanup, Noop};

use crate::support::TestWorker;

#[tokio::test]
async fn what_is_past_its_retention_is_deleted_and_the_rest_stays() {
    let worker = TestWorker::new().await;
    for (state, days) in [("done", 8), ("done", 6), ("cancelled", 8), ("dead", 400)] {
        let job = worker.enqueue(&Noop::default()).await;
        worker.set("jobs", job.0, &format!("state = '{state}', finished_at = now() - interval '{days} days'")).await;
    }
    for (state, days) in [("processed", 91), ("processed", 89), ("ignored", 91), ("stored", 91)] {
        let event = worker.webhook(&json!({})).await;
        let columns = format!("state = '{state}', received_at = now() - interval '{days} days'");
        worker.set("webhook_events", event.0, &columns).await;
    }
    for (id, hours) in [(1_u8, 23), (2, 25)] {
        sqlx::query(
            "insert into idempotency_keys (id, tenant_id, answer, created_at) \
             values ($1, $2, '', now() - make_interval(hours => $3))",
        )
        .bind([id; 32].as_slice())
        .bind(worker.tenant)
        .bind(hours)
        .execute(worker.db())
        .await
        .unwrap();
    }
    assert_eq!(worker.run(&Cleanup {}).await.state, "done");
    let answers: Vec<Vec<u8>> =
        sqlx::query_scalar("select id from idempotency_keys").fetch_all(worker.db()).await.unwrap();
    assert_eq!(answers, [[1; 32]], "an answer is kept for a day");
    let jobs: Vec<String> = sqlx::query_scalar("select state from jobs where kind = 'noop' order by 1")
        .fetch_all(worker.db())
        .await
        .unwrap();
    assert_eq!(jobs, ["dead", "done"]);
    let events: Vec<String> =
        sqlx::query_scalar("select state from webhook_events order by 1").fetch_all(worker.db()).await.unwrap();
    assert_eq!(events, ["processed", "stored"], "an event that nobody has read yet stays");
}

#[tokio::test]
async fn recordings_past_the_tenant_s_retention_are_deleted_with_their_objects() {
    let worker = TestWorker::new().await;
    let storage = &worker.state().storage;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let mut keys = Vec::new();
    for days in [31, 29] {
        let id = worker.recording(session, "https://host.test/a").await;
        let key = format!("{}/{id}", worker.unique);
        storage.put(&key, "video/mp4", Bytes::from_static(b"x")).await.unwrap();
        let columns = format!(
            "state = 'published', object_key = '{key}', stored_at = now() - interval '{days} days', size_bytes = 1"
        );
        worker.set("recordings", id.0, &columns).await;
        keys.push(key);
    }
    worker.run(&Cleanup {}).await;
    assert_eq!(worker.get::<i64>("select count(*) from recordings where state = 'published'").await, 2);

    worker.set("tenants", worker.tenant.0, "recording_retention_days = 30").await;
    for _ in 0..2 {
        assert_eq!(worker.run(&Cleanup {}).await.state, "done");
        assert_eq!(storage.size(&keys[0]).await.unwrap(), None);
        assert_eq!(storage.size(&keys[1]).await.unwrap(), Some(1));
        let rows: Vec<(String, Option<String>)> =
            sqlx::query_as("select state, object_key from recordings order by stored_at")
                .fetch_all(worker.db())
                .await
                .unwrap();
        assert_eq!(rows, [("deleted".to_owned(), None), ("published".to_owned(), Some(keys[1].clone()))]);
    }
}

#[tokio::test]
async fn an_object_whose_deletion_was_cut_off_is_deleted_the_next_time() {
    let worker = TestWorker::with(|config| config.storage.s3_endpoint = "http://127.0.0.1:1".into()).await;
    worker.set("tenants", worker.tenant.0, "recording_retention_days = 30").await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    let id = worker.recording(session, "https://host.test/a").await;
    worker
        .set("recordings", id.0, "state = 'published', object_key = 'k', stored_at = now() - interval '31 days'")
        .await;
    assert_eq!(worker.run(&Cleanup {}).await.state, "available");
    let row: (String, Option<String>) =
        sqlx::query_as("select state, object_key from recordings").fetch_one(worker.db()).await.unwrap();
    assert_eq!(row, ("deleted".into(), Some("k".into())), "nobody is sent to it, and it is not forgotten");
}
