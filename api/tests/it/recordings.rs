use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

pub async fn record(app: &TestApp, made: &Value, state: &str, key: Option<&str>) -> String {
    let id = uuid::Uuid::now_v7();
    sqlx::query(
        "insert into recordings (id, tenant_id, session_id, external_id, state, source_url, file_name, object_key, size_bytes) \
         select $1, tenant_id, id, $1::text, $2, 'https://secret.example/?token=x', 'Ders ğ.mp4', $3, 5 \
         from sessions where id = $4::uuid",
    )
    .bind(id)
    .bind(state)
    .bind(key)
    .bind(made["id"].as_str().unwrap())
    .execute(&app.pool)
    .await
    .unwrap();
    format!("/recordings/{id}/")
}

#[tokio::test]
async fn a_stored_recording_is_downloaded_by_a_presigned_link() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let servers = sandbox::testing::servers().await;
    let key = format!("{}/a b.mp4", sandbox::testing::unique_prefix());
    // Put the object there as any S3 client does.
    let bucket = rusty_s3::Bucket::new(
        servers.s3.endpoint().parse().unwrap(),
        rusty_s3::UrlStyle::Path,
        sandbox::testing::BUCKET,
        "us-east-1",
    )
    .unwrap();
    let credentials = rusty_s3::Credentials::new(servers.s3.access_key(), servers.s3.secret_key());
    let put = rusty_s3::S3Action::sign(
        &rusty_s3::actions::PutObject::new(&bucket, Some(&credentials), &key),
        std::time::Duration::from_secs(60),
    );
    let client = reqwest::Client::new();
    assert!(client.put(put).body("video").send().await.unwrap().status().is_success());

    let recording = record(&app, &made, "published", Some(&key)).await;
    let shown = app.student("s1").get(&recording).await.expect(StatusCode::OK);
    assert_eq!((&shown["state"], &shown["size_bytes"]), (&json!("published"), &json!(5)));
    assert!(!shown.to_string().contains("secret.example"), "the source is never shown");
    let answer = app.student("s1").get(&format!("{recording}download/")).await;
    assert_eq!(answer.status, StatusCode::FOUND);
    assert_eq!(answer.header("cache-control"), "private, no-store");
    let file = client.get(answer.header("location")).send().await.unwrap();
    assert_eq!(file.status(), StatusCode::OK);
    let disposition = file.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.ends_with("filename*=UTF-8''Ders%20%C4%9F.mp4"), "{disposition}");
    assert_eq!(file.text().await.unwrap(), "video");
    // Its signature holds it to this object.
    let forged = answer.header("location").replace("video", "x").replace("a%20b", "c");
    assert_eq!(client.get(forged).send().await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn recordings_that_are_not_there_yet_are_shown_to_hosts_only() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let coming = record(&app, &made, "downloading", None).await;
    let there = record(&app, &made, "published", Some("k")).await;
    app.teacher().get(&format!("{coming}download/")).await.problem(409, "recording-not-ready");
    app.student("s1").get(&coming).await.problem(404, "not-found");
    app.student("s1").get(&format!("{coming}download/")).await.problem(404, "not-found");
    let list = async |client: Client<'_>| {
        let page = client.get(&path(&made, "recordings/")).await.expect(StatusCode::OK);
        page["results"].as_array().unwrap().len()
    };
    assert_eq!((list(app.teacher()).await, list(app.student("s1")).await), (2, 1));
    let gone = record(&app, &made, "deleted", None).await;
    app.teacher().get(&format!("{gone}download/")).await.problem(410, "recording-deleted");
    for client in [app.foreigner(), app.somebody("other", "teacher", &["instructor"])] {
        for recording in [&coming, &there] {
            client.get(recording).await.problem(404, "not-found");
            client.get(&format!("{recording}download/")).await.problem(404, "not-found");
        }
    }
    app.anonymous().get(&format!("{there}download/")).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn hosts_delete_what_is_there_and_the_provider_is_told() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let stored = record(&app, &made, "published", Some("k")).await;
    let coming = record(&app, &made, "downloading", None).await;
    app.student("ali").delete(&stored).await.problem(403, "forbidden");
    app.foreigner().delete(&stored).await.problem(404, "not-found");
    app.teacher().delete(&coming).await.problem(409, "recording-not-ready");
    for _ in 0..2 {
        assert_eq!(app.teacher().delete(&stored).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(app.teacher().get(&stored).await.expect(StatusCode::OK)["state"], "deleted");
    app.teacher().get(&format!("{stored}download/")).await.problem(410, "recording-deleted");
    let jobs: Vec<_> =
        app.jobs().await.into_iter().map(|(kind, _)| kind).filter(|kind| kind == "delete-recording").collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!(app.count("recordings where source_url is not null and state = 'deleted'").await, 0);
}

#[tokio::test]
async fn what_failed_or_never_came_is_tried_again_by_hand() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    for (before, source, after, job) in [
        ("failed", true, "available", Some("import-recording")),
        ("missing", false, "expected", Some("list-recordings")),
        ("downloading", true, "downloading", None),
    ] {
        let at = record(&app, &made, before, None).await;
        if !source {
            app.sql("update recordings set source_url = null, error = 'the provider never announced it' where state = 'missing'")
                .await;
        }
        app.student("s1").call(&format!("{at}retry/")).await.problem(404, "not-found");
        let again = app.teacher().call(&format!("{at}retry/")).await.expect(StatusCode::OK);
        assert_eq!((&again["state"], &again["error"]), (&json!(after), &Value::Null));
        let jobs = app.jobs().await;
        assert_eq!(jobs.iter().any(|(kind, _)| Some(kind.as_str()) == job), job.is_some(), "{before}: {jobs:?}");
        // Twice is as good as once.
        assert_eq!(app.teacher().call(&format!("{at}retry/")).await.expect(StatusCode::OK)["state"], after);
        app.sql("delete from jobs").await;
    }
    for state in ["published", "deleted"] {
        let at = record(&app, &made, state, Some("key")).await;
        app.teacher().call(&format!("{at}retry/")).await.problem(409, "nothing-to-retry");
    }
}

#[tokio::test]
async fn a_recording_says_how_fast_it_comes_and_when_it_will_be_there() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let at = record(&app, &made, "downloading", None).await;
    app.sql(
        "update recordings set announced_bytes = 10000, import_started_bytes = 1000, bytes_done = 4000, \
             import_started_at = now() - interval '10 s', updated_at = now()",
    )
    .await;
    let shown = app.teacher().get(&at).await.expect(StatusCode::OK);
    let time = |field: &str| shown[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!(shown["bytes_per_second"], 300);
    assert_eq!((time("estimated_end_at") - time("updated_at")).num_seconds(), 20);
    app.sql("update recordings set state = 'published'").await;
    let shown = app.teacher().get(&at).await.expect(StatusCode::OK);
    assert_eq!((&shown["bytes_per_second"], &shown["estimated_end_at"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_recording_that_is_hidden_is_there_for_who_runs_the_session_alone() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let at = record(&app, &made, "published", Some("key")).await;
    app.student("s1").patch(&at, &json!({"published": false})).await.problem(403, "forbidden");
    for _ in 0..2 {
        let hidden = app.teacher().patch(&at, &json!({"published": false})).await.expect(StatusCode::OK);
        assert_eq!(hidden["state"], "stored");
    }
    app.student("s1").get(&at).await.problem(404, "not-found");
    app.student("s1").get(&format!("{at}download/")).await.problem(404, "not-found");
    let list = app.student("s1").get(&path(&made, "recordings/")).await.expect(StatusCode::OK);
    assert_eq!(list["results"], json!([]));
    assert_eq!(app.teacher().get(&format!("{at}download/")).await.status, StatusCode::FOUND);
    let jobs = app.jobs().await.into_iter().filter(|(kind, _)| kind == "publish-recording").count();
    assert_eq!(jobs, 1, "told to the provider once");
    let shown = app.teacher().patch(&at, &json!({"published": true})).await.expect(StatusCode::OK);
    assert_eq!(shown["state"], "published");
    app.student("s1").get(&at).await.expect(StatusCode::OK);
    let failed = record(&app, &made, "failed", None).await;
    app.teacher().patch(&failed, &json!({"published": true})).await.problem(409, "recording-not-ready");
}
