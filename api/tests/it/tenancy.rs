//! Requests of callers run under the role that sees one tenant.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn requests_of_callers_need_no_right_of_the_role_that_sees_all_tenants() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"invitees": [{"person_id": "s1"}]})).await;
    for table in ["sessions", "invitees", "attendance", "sightings", "recordings", "reminders", "audit_log"] {
        app.sql(&format!("revoke all on {table} from live_sessions_service")).await;
    }
    let (teacher, admin) = (app.teacher(), app.admin());
    teacher.get("/sessions/").await.expect(StatusCode::OK);
    app.planned(json!({})).await;
    teacher.patch(&path(&made, ""), &json!({"title": "Geometry"})).await.expect(StatusCode::OK);
    teacher.put(&path(&made, "invitees/"), &json!({"invitees": [{"person_id": "s2"}]})).await.expect(StatusCode::OK);
    teacher.post_once(&path(&made, "start/"), "a-key", &json!({})).await.expect(StatusCode::OK);
    app.student("s2").call(&path(&made, "join/")).await.expect(StatusCode::OK);
    for rest in ["", "invitees/", "participants/", "attendance/", "recordings/"] {
        teacher.get(&path(&made, rest)).await.expect(StatusCode::OK);
    }
    teacher.get(&path(&made, "calendar/")).await.header("content-type");
    let correction = json!({"status": "present", "reason": "seen"});
    teacher.patch(&path(&made, "attendance/s2/"), &correction).await.expect(StatusCode::OK);
    assert_eq!(app.student("s2").call(&path(&made, "leave/")).await.status, StatusCode::NO_CONTENT);
    teacher.call(&path(&made, "end/")).await.expect(StatusCode::OK);
    admin.get("/audit-log/").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn jobs_of_a_request_are_found_by_its_tenant() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    let operator = app.somebody("other", "op", &["operator"]);
    let find = async |slug: &str| {
        let id: uuid::Uuid =
            sqlx::query_scalar("select id from tenants where slug = $1").bind(slug).fetch_one(&app.pool).await.unwrap();
        let page = operator.get(&format!("/jobs/?tenant_id={id}")).await.expect(StatusCode::OK);
        page["results"].as_array().unwrap().len()
    };
    assert_eq!((find("okul").await, find("other").await), (1, 0));
}
