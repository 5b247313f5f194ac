//! What a school decides for itself.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

async fn patch(app: &TestApp, body: &Value) -> Answer {
    app.admin().patch("/tenant/", body).await
}

#[tokio::test]
async fn an_administrator_reads_and_changes_the_settings_of_the_school_and_of_no_other() {
    let app = TestApp::start().await;
    let before = app.admin().get("/tenant/").await;
    let first = before.header("etag").to_owned();
    let before = before.expect(StatusCode::OK);
    assert_eq!((&before["slug"], &before["reminder_minutes"]), (&json!("okul"), &json!([1440, 15])));
    let usual = json!({
        "late_after_seconds": 600, "left_early_before_seconds": 600, "present_ratio": 0.75, "partial_below": 0.5,
    });
    assert_eq!(before["attendance_rules"], usual);

    let change = json!({
        "name": "Atatürk Lisesi", "timezone": "Europe/Berlin", "reminder_minutes": [10, 2880],
        "attendance_rules": {"late_after_seconds": 300, "present_ratio": 0.9}, "personal_data_retention_days": 730,
    });
    let changed = patch(&app, &change).await.expect(StatusCode::OK);
    assert_eq!(changed["reminder_minutes"], json!([2880, 10]));
    for field in ["name", "timezone", "personal_data_retention_days"] {
        assert_eq!(changed[field], change[field]);
    }
    let rules = &changed["attendance_rules"];
    assert_eq!((&rules["late_after_seconds"], &rules["present_ratio"]), (&json!(300), &json!(0.9)));
    assert_eq!((&rules["left_early_before_seconds"], &rules["partial_below"]), (&json!(600), &json!(0.5)));
    for kept in ["locale", "end_grace_seconds", "recording_retention_days", "id", "slug"] {
        assert_eq!(changed[kept], before[kept]);
    }
    // It holds at once here: a session that names no zone has the school's.
    let planned =
        app.teacher().post("/sessions/", &session(json!({"timezone": null}))).await.expect(StatusCode::CREATED);
    assert_eq!(planned["timezone"], "Europe/Berlin");

    let rest = json!({"attendance_rules": {"present_ratio": null}, "personal_data_retention_days": null});
    let cleared = patch(&app, &rest).await.expect(StatusCode::OK);
    let rules = &cleared["attendance_rules"];
    assert_eq!((&rules["late_after_seconds"], &rules["present_ratio"]), (&json!(300), &json!(0.75)));
    assert_eq!(cleared["personal_data_retention_days"], Value::Null);
    let none = patch(&app, &json!({"attendance_rules": null})).await.expect(StatusCode::OK);
    assert_eq!(none["attendance_rules"], usual);

    let stale = app.admin().request(Method::PATCH, "/tenant/").header("if-match", first).json(&json!({"name": "X"}));
    answer(stale).await.problem(412, "precondition-failed");
    let same = patch(&app, &json!({"name": "Atatürk Lisesi"})).await.expect(StatusCode::OK);
    assert_eq!(same["version"], none["version"], "nothing has changed");
    let names: Vec<String> =
        sqlx::query_scalar("select name from tenants order by slug").fetch_all(&app.pool).await.unwrap();
    assert_eq!(names, ["Atatürk Lisesi", "other"]);
    let log = app.admin().get("/audit-log/?action=tenant.changed").await.expect(StatusCode::OK);
    assert_eq!(log["results"].as_array().unwrap().len(), 3);
    assert_eq!(log["results"][2]["changes"]["name"][1], "Atatürk Lisesi");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_all_at_once() {
    let app = TestApp::start().await;
    let body = json!({
        "name": " ", "timezone": "Mars/Base", "heartbeat_interval_seconds": 100, "reminder_minutes": [0],
        "attendance_rules": {"present_ratio": 2}, "slug": "mine",
    });
    let mut told = patch(&app, &body).await.pointers();
    told.sort_unstable();
    let expected = [
        "/attendance_rules/present_ratio",
        "/heartbeat_timeout_seconds",
        "/name",
        "/reminder_minutes/0",
        "/slug",
        "/timezone",
    ];
    assert_eq!(told, expected);
    for wrong in [json!({"name": null}), json!({"locale": "de"}), json!({"reminder_minutes": [5, 5]}), json!([])] {
        assert_eq!(patch(&app, &wrong).await.status, 422, "{wrong}");
    }
    app.teacher().get("/tenant/").await.problem(403, "forbidden");
}
