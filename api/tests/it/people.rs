use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn an_administrator_takes_out_and_erases_what_is_held_about_a_person() {
    let app = TestApp::start().await;
    let made = app.live(json!({"invitees": [{"person_id": "s1", "name": "Ali", "email": "ali@okul.example"}]})).await;
    app.student("s1").call(&path(&made, "join/")).await.expect(StatusCode::OK);
    let answer = app.admin().get("/people/s1/").await;
    assert!(answer.header("content-disposition").contains("personal-data.json"));
    assert_eq!(answer.header("cache-control"), "no-store");
    let data = answer.expect(StatusCode::OK);
    assert_eq!((&data["person_id"], &data["data"]["invitees"][0]["email"]), (&json!("s1"), &json!("ali@okul.example")));
    assert_eq!(data["data"]["participants"][0]["name"], "Name of s1");
    let elsewhere = app.foreigner().get("/people/s1/").await.expect(StatusCode::OK);
    assert!(elsewhere["data"].as_object().unwrap().values().all(|rows| *rows == json!([])), "{elsewhere}");

    app.admin().call("/people/teacher/erase/").await.problem(409, "person-hosts-sessions");
    let answer = app.admin().call("/people/s1/erase/").await;
    let location = answer.header("location").to_owned();
    let erasure = answer.expect(StatusCode::ACCEPTED);
    assert_eq!(
        (&erasure["person_id"], &erasure["finished_at"], &erasure["kept"]),
        (&json!("s1"), &Value::Null, &Value::Null)
    );
    assert!(erasure["pseudonym"].as_str().unwrap().starts_with("erased:"));
    let again = app.admin().call("/people/s1/erase/").await.expect(StatusCode::ACCEPTED);
    assert_eq!(again["id"], erasure["id"], "it waits already");
    let jobs = app.jobs().await;
    let jobs: Vec<_> = jobs.iter().filter(|(kind, _)| kind == "erase-person").collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].1, json!({"erasure_id": erasure["id"]}), "the person is not in the ledger");
    let to = location.strip_prefix(BASE).unwrap();
    assert_eq!(app.admin().get(to).await.expect(StatusCode::OK), erasure);
    app.foreigner().get(to).await.problem(404, "not-found");
    app.teacher().get(to).await.problem(403, "forbidden");
}
