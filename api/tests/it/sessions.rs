use chrono::{DateTime, Duration, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_planned_session_can_be_read_back() {
    let app = TestApp::start().await;
    let body = session(json!({"description": "Chapter 3", "course_id": "MAT-2", "max_participants": 30}));
    let answer = app.teacher().post("/sessions/", &body).await;
    let (location, tag) = (answer.header("location").to_owned(), answer.header("etag").to_owned());
    let made = answer.expect(StatusCode::CREATED);
    assert_eq!(location, format!("{BASE}/sessions/{}/", made["id"].as_str().unwrap()));
    assert_eq!(
        (&made["status"], &made["host_id"], &made["version"]),
        (&json!("scheduled"), &json!("teacher"), &json!(1))
    );
    assert_eq!(made["host_name"], "Name of teacher");
    assert_eq!(time(&made["starts_at"]), time(&body["starts_at"]));
    assert!(made["room"].as_str().unwrap().starts_with("algebra-ii-"));

    let answer = app.teacher().get(&path(&made, "")).await;
    assert_eq!(answer.header("etag"), tag);
    assert_eq!(answer.expect(StatusCode::OK), made);
    let request = app.teacher().request(Method::GET, &path(&made, "")).header("if-none-match", &tag);
    assert_eq!(crate::support::answer(request).await.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn an_instant_session_is_live_at_once_for_an_hour() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    assert_eq!(made["status"], "live");
    assert_eq!(time(&made["ends_at"]) - time(&made["starts_at"]), Duration::minutes(60));
    assert!(made["started_at"].is_string());
    let rules: Value = sqlx::query_scalar("select attendance_rules from sessions").fetch_one(&app.pool).await.unwrap();
    assert_eq!(rules["heartbeat_timeout_seconds"], 90);
    let short = app.live(json!({"duration_minutes": 5})).await;
    assert_eq!(time(&short["ends_at"]) - time(&short["starts_at"]), Duration::minutes(5));
}

#[tokio::test]
async fn a_service_plans_for_somebody_and_an_instructor_for_themselves() {
    let app = TestApp::start().await;
    let body = session(json!({"host_id": "teacher", "host_name": "Ayşe", "host_email": "ayse@okul.example"}));
    let made = app.service().post("/sessions/", &body).await.expect(StatusCode::CREATED);
    assert_eq!(
        (&made["host_id"], &made["host_name"], &made["created_by"]),
        (&json!("teacher"), &json!("Ayşe"), &json!("lms"))
    );
    app.teacher().patch(&path(&made, ""), &json!({"title": "Mine"})).await.expect(StatusCode::OK);
    let colleague = app.somebody("okul", "colleague", &["instructor"]);
    assert_eq!(colleague.post("/sessions/", &body).await.pointers(), ["/host_id"]);
    app.student("s").post("/sessions/", &body).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_change_raises_the_version_and_a_stale_one_is_refused() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let change = |tag: &str, title: &str| {
        let request = app.teacher().request(Method::PATCH, &path(&made, "")).header("if-match", tag);
        answer(request.json(&json!({"title": title})))
    };
    let first = change("\"1\"", "One").await.expect(StatusCode::OK);
    assert_eq!((&first["title"], &first["version"], &first["sequence"]), (&json!("One"), &json!(2), &json!(1)));
    change("\"1\"", "Two").await.problem(412, "precondition-failed");
    change("*", "Three").await.expect(StatusCode::OK);
    let delete = app.teacher().request(Method::DELETE, &path(&made, "")).header("if-match", "\"1\"");
    answer(delete).await.problem(412, "precondition-failed");
    // What changes nothing is no new version.
    let same = app.teacher().patch(&path(&made, ""), &json!({"title": "Three"})).await.expect(StatusCode::OK);
    assert_eq!(same["version"], 3);
}

#[tokio::test]
async fn one_of_two_changes_at_once_on_one_version_wins() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let change = |title: &'static str| {
        let request = app.teacher().request(Method::PATCH, &path(&made, "")).header("if-match", "\"1\"");
        answer(request.json(&json!({"title": title})))
    };
    let (a, b, c) = tokio::join!(change("a"), change("b"), change("c"));
    let mut codes = [a.status.as_u16(), b.status.as_u16(), c.status.as_u16()];
    codes.sort_unstable();
    assert_eq!(codes, [200, 412, 412]);
}

#[tokio::test]
async fn put_replaces_and_patch_merges() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"course_id": "MAT-2", "max_participants": 3, "description": "x"})).await;
    let patched = app
        .teacher()
        .patch(&path(&made, ""), &json!({"course_id": null, "max_participants": 5}))
        .await
        .expect(StatusCode::OK);
    assert_eq!(
        (&patched["course_id"], &patched["max_participants"], &patched["description"]),
        (&Value::Null, &json!(5), &json!("x"))
    );
    assert_eq!(patched["sequence"], 0, "nobody has to hear of that");

    let whole = json!({"title": "New", "starts_at": in_minutes(90), "ends_at": in_minutes(100)});
    let put = app.teacher().put(&path(&made, ""), &whole).await.expect(StatusCode::OK);
    assert_eq!(
        (&put["title"], &put["description"], &put["max_participants"]),
        (&json!("New"), &json!(""), &Value::Null)
    );
    assert_eq!(
        (&put["host_id"], &put["host_name"], &put["sequence"]),
        (&json!("teacher"), &json!("Name of teacher"), &json!(1))
    );
    let email: Option<String> =
        sqlx::query_scalar("select host_email from sessions").fetch_one(&app.pool).await.unwrap();
    assert_eq!(email.as_deref(), Some("teacher@okul.example"), "what answers do not show is not lost");
    assert_eq!(
        app.teacher().put(&path(&made, ""), &json!({"title": "x"})).await.pointers(),
        ["/ends_at", "/starts_at"]
    );
}

#[tokio::test]
async fn changes_are_judged_as_a_whole() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let patch = async |body: Value| app.teacher().patch(&path(&made, ""), &body).await.pointers();
    assert_eq!(patch(json!({"ends_at": in_minutes(30)})).await, ["/ends_at"]);
    assert_eq!(patch(json!({"starts_at": in_minutes(-30)})).await, ["/starts_at"]);
    assert_eq!(patch(json!({"title": null})).await, ["/title"]);
    assert_eq!(
        patch(json!({"status": "live", "timezone": "X/Y", "host_id": "z"})).await,
        ["/host_id", "/status", "/timezone"]
    );
    app.teacher().patch(&path(&made, ""), &json!([1])).await.problem(422, "validation-failed");
    assert_eq!(app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK), made);
}

#[tokio::test]
async fn a_live_session_keeps_all_but_its_words_and_an_ended_one_everything() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let patch = async |body: Value| app.teacher().patch(&path(&made, ""), &body).await;
    patch(json!({"title": "T", "description": "D"})).await.expect(StatusCode::OK);
    let problem = patch(json!({"ends_at": in_minutes(90)})).await.problem(409, "session-live");
    assert_eq!(problem["session_status"], "live");
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    let problem = patch(json!({"title": "T2"})).await.problem(409, "session-over");
    assert_eq!(problem["session_status"], "ended");
}

#[tokio::test]
async fn a_session_nobody_heard_of_is_deleted_others_are_not() {
    let app = TestApp::start().await;
    let invited = json!({"invitees": [{"person_id": "s1", "email": "s1@okul.example"}]});
    let made = app.planned(invited.clone()).await;
    assert_eq!(app.teacher().delete(&path(&made, "")).await.status, StatusCode::NO_CONTENT);
    app.teacher().get(&path(&made, "")).await.problem(404, "not-found");
    app.teacher().delete(&path(&made, "")).await.problem(404, "not-found");
    assert_eq!((app.count("invitees").await, app.count("reminders").await), (0, 0));

    let told = app.planned(invited).await;
    app.sql("update reminders set state = 'sent' where mail = 'invitation'").await;
    app.teacher().delete(&path(&told, "")).await.problem(409, "cancel-instead");
    let live = app.live(json!({})).await;
    let problem = app.teacher().delete(&path(&live, "")).await.problem(409, "session-started");
    assert_eq!(problem["session_status"], "live");
}

#[tokio::test]
async fn who_was_told_of_a_session_hears_of_its_new_time_once() {
    let app = TestApp::start().await;
    let people = json!([
        {"person_id": "s1", "email": "s1@okul.example"}, {"person_id": "s2", "email": "s2@okul.example"},
        {"person_id": "s3"},
    ]);
    let made = app.planned(json!({"invitees": people})).await;
    assert_eq!(
        app.mails(&made).await,
        [
            "invitation s1 0 pending",
            "invitation s2 0 pending",
            "reminder s1 15 pending",
            "reminder s2 15 pending",
            "reminder teacher 15 pending",
        ]
    );
    app.sql("update reminders set state = 'sent' where mail = 'invitation' and person_id = 's1'").await;
    let moved = json!({"starts_at": in_minutes(300), "ends_at": in_minutes(330)});
    let made = app.teacher().patch(&path(&made, ""), &moved).await.expect(StatusCode::OK);
    assert_eq!(
        app.mails(&made).await,
        [
            "invitation s1 0 sent",
            "invitation s2 0 pending",
            "reminder s1 15 dropped",
            "reminder s1 15 pending",
            "reminder s2 15 dropped",
            "reminder s2 15 pending",
            "reminder teacher 15 dropped",
            "reminder teacher 15 pending",
            "update s1 0 pending",
        ]
    );
    let due: DateTime<Utc> =
        sqlx::query_scalar("select due_at from reminders where mail = 'reminder' and state = 'pending' limit 1")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(due, time(&made["starts_at"]) - Duration::minutes(15));
    // A newer change takes the place of one that nobody has read yet.
    app.teacher().patch(&path(&made, ""), &json!({"title": "Again"})).await.expect(StatusCode::OK);
    let updates: Vec<String> = app.mails(&made).await.into_iter().filter(|m| m.starts_with("update")).collect();
    assert_eq!(updates, ["update s1 0 dropped", "update s1 0 pending"]);
}
