//! Recordings that people bring. Jibri's script has a test of its own, with the whole system.

use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::db::recordings;

use crate::support::*;

const PART: usize = 16 * 1024 * 1024;
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

async fn ask(app: &TestApp, session: &Value, bytes: usize) -> Value {
    let body = json!({"file_name": "Cebir 1.MP4", "bytes": bytes});
    app.teacher().put(&path(session, &format!("uploads/{DIGEST}/")), &body).await.expect(StatusCode::OK)
}

async fn send(part: &Value) {
    let bytes = vec![7; usize::try_from(part["bytes"].as_u64().unwrap()).unwrap()];
    let sent = reqwest::Client::new().put(part["url"].as_str().unwrap()).body(bytes).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
}

#[tokio::test]
async fn a_film_is_brought_part_by_part_and_then_imported_once() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let bytes = PART + 5;
    let first = ask(&app, &made, bytes).await;
    assert_eq!(
        (&first["state"], &first["bytes_done"], &first["bytes"]),
        (&json!("expected"), &json!(0), &json!(bytes))
    );
    let parts = first["parts"].as_array().unwrap();
    let shape: Vec<_> =
        parts.iter().map(|p| (p["number"].as_u64(), p["first"].as_u64(), p["bytes"].as_u64())).collect();
    assert_eq!(shape, [(Some(1), Some(0), Some(PART as u64)), (Some(2), Some(PART as u64), Some(5))]);
    send(&parts[1]).await;
    let second = ask(&app, &made, bytes).await;
    assert_eq!((&second["recording_id"], &second["bytes_done"]), (&first["recording_id"], &json!(5)));
    assert_eq!(second["parts"].as_array().unwrap().len(), 1);
    assert!(app.jobs().await.iter().all(|(kind, _)| kind != "import-recording"));

    // What the store has forgotten is asked for again.
    let upload: String = sqlx::query_scalar("select upload_id from recordings").fetch_one(&app.pool).await.unwrap();
    app.sql("update recordings set upload_id = gen_random_uuid()::text").await;
    let anew = ask(&app, &made, bytes).await;
    assert_eq!((&anew["bytes_done"], anew["parts"].as_array().unwrap().len()), (&json!(0), 2));
    sqlx::query("update recordings set upload_id = $1").bind(upload).execute(&app.pool).await.unwrap();

    send(&second["parts"][0]).await;
    let (third, fourth) = tokio::join!(ask(&app, &made, bytes), ask(&app, &made, bytes));
    for answer in [third, fourth, ask(&app, &made, bytes).await] {
        assert_eq!((&answer["state"], &answer["parts"]), (&json!("available"), &json!([])));
    }
    let imports = app.jobs().await.into_iter().filter(|(kind, _)| kind == "import-recording").count();
    assert_eq!(imports, 1);
    let list = app.teacher().get(&path(&made, "recordings/")).await.expect(StatusCode::OK);
    let shown = &list["results"][0];
    assert_eq!((&shown["file_name"], &shown["content_type"]), (&json!("Cebir 1.mp4"), &json!("video/mp4")));
    let log = app.admin().get("/audit-log/?action=recording.available").await.expect(StatusCode::OK);
    assert_eq!(log["results"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn it_takes_the_place_of_the_recording_that_was_expected() {
    let app = TestApp::start().await;
    let made = app.live(json!({"recording_enabled": true})).await;
    let id = made["id"].as_str().unwrap().parse().unwrap();
    let session = shared::db::sessions::find(&app.pool, id).await.unwrap().unwrap();
    recordings::expect(&app.pool, &session, now()).await.unwrap();
    recordings::mark_missing(&app.pool).await.unwrap();
    assert_eq!(ask(&app, &made, 10).await["state"], "expected");
    let list = app.teacher().get(&path(&made, "recordings/")).await.expect(StatusCode::OK);
    assert_eq!(list["results"].as_array().unwrap().len(), 1);
    assert_eq!(list["results"][0]["error"], Value::Null);
}

#[tokio::test]
async fn only_who_manages_a_session_that_has_begun_brings_films() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let body = json!({"file_name": "a.mp4", "bytes": 5});
    let at = path(&made, &format!("uploads/{DIGEST}/"));
    app.student("s1").put(&at, &body).await.problem(403, "forbidden");
    app.foreigner().put(&at, &body).await.problem(404, "not-found");
    for wrong in ["uploads/abc/", &format!("uploads/{}/", DIGEST.to_uppercase())] {
        app.teacher().put(&path(&made, wrong), &body).await.problem(404, "not-found");
    }
    for (wrong, pointer) in [
        (json!({"file_name": "a.exe", "bytes": 5}), "/file_name"),
        (json!({"file_name": "../a.mp4", "bytes": 5}), "/file_name"),
        (json!({"file_name": "a.mp4", "bytes": 0}), "/bytes"),
        (json!({"file_name": "a.mp4", "bytes": 68_719_476_737_i64}), "/bytes"),
    ] {
        assert_eq!(app.teacher().put(&at, &wrong).await.pointers(), [pointer]);
    }
    let planned = app.planned(json!({})).await;
    let at = path(&planned, &format!("uploads/{DIGEST}/"));
    app.teacher().put(&at, &body).await.problem(409, "session-not-started");
}

#[tokio::test]
async fn nothing_is_lost_while_the_store_is_away() {
    let app = TestApp::start_with(&["--s3-endpoint", "http://127.0.0.1:9"]).await;
    let made = app.live(json!({})).await;
    let at = path(&made, &format!("uploads/{DIGEST}/"));
    app.teacher().put(&at, &json!({"file_name": "a.mp4", "bytes": 5})).await.problem(503, "storage-unavailable");
    let list = app.teacher().get(&path(&made, "recordings/")).await.expect(StatusCode::OK);
    assert_eq!(list["results"][0]["state"], "expected");
}
