use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

/// Every operation on a session, with a body that is good.
fn operations(made: &Value) -> Vec<(Method, String, Option<Value>)> {
    let whole = json!({"title": "x", "starts_at": in_minutes(90), "ends_at": in_minutes(100)});
    vec![
        (Method::GET, path(made, ""), None),
        (Method::PUT, path(made, ""), Some(whole)),
        (Method::PATCH, path(made, ""), Some(json!({"title": "x"}))),
        (Method::DELETE, path(made, ""), None),
        (Method::POST, path(made, "start/"), None),
        (Method::POST, path(made, "end/"), None),
        (Method::POST, path(made, "cancel/"), None),
        (Method::POST, path(made, "join/"), None),
        (Method::POST, path(made, "heartbeat/"), None),
        (Method::POST, path(made, "leave/"), None),
        (Method::GET, path(made, "attendance/"), None),
        (Method::GET, path(made, "analytics/"), None),
        (Method::GET, path(made, "attendance-objections/"), None),
        (Method::GET, path(made, "calendar/"), None),
        (Method::GET, path(made, "invitees/"), None),
        (Method::PUT, path(made, "invitees/"), Some(json!({"invitees": []}))),
        (Method::GET, path(made, "participants/"), None),
        (Method::GET, path(made, "present/"), None),
        (Method::GET, path(made, "recordings/"), None),
    ]
}

async fn send(client: &Client<'_>, (method, to, body): (Method, String, Option<Value>)) -> Answer {
    let request = client.request(method, &to);
    answer(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

#[tokio::test]
async fn who_has_no_business_with_a_session_finds_none() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"access": "invitees"})).await;
    let before: (i64, i64) = sqlx::query_as("select version, (select count(*) from participants) from sessions")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    let colleague = app.somebody("okul", "colleague", &["instructor"]);
    let same_id_elsewhere = app.somebody("other", "teacher", &["instructor"]);
    for client in [app.foreigner(), same_id_elsewhere, colleague, app.student("s1")] {
        for operation in operations(&made) {
            send(&client, operation).await.problem(404, "not-found");
        }
        assert_eq!(client.get("/sessions/").await.expect(StatusCode::OK)["results"], json!([]));
    }
    for operation in operations(&made) {
        send(&app.anonymous(), operation).await.problem(401, "unauthorized");
    }
    let after: (i64, i64) = sqlx::query_as("select version, (select count(*) from participants) from sessions")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn students_see_and_join_but_do_not_run() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"access": "invitees", "invitees": [{"person_id": "s1"}]})).await;
    let student = app.student("s1");
    for operation in operations(&made) {
        let allowed = operation.0 == Method::GET
            && ["", "attendance-objections/", "calendar/", "recordings/"]
                .iter()
                .any(|rest| operation.1 == path(&made, rest));
        let own = ["join/", "heartbeat/", "leave/", "attendance/"].iter().any(|rest| operation.1 == path(&made, rest));
        let answer = send(&student, operation.clone()).await;
        match (allowed, own) {
            (true, _) => assert_eq!(answer.status, StatusCode::OK, "{operation:?}"),
            (_, true) => assert!([204, 409].contains(&answer.status.as_u16()), "{operation:?}: {}", answer.text()),
            _ => _ = answer.problem(403, "forbidden"),
        }
    }
}

#[tokio::test]
async fn co_hosts_run_but_do_not_change() {
    let app = TestApp::start().await;
    let invitees = json!([{"person_id": "helper", "role": "co_host"}]);
    let made = app.planned(json!({"access": "invitees", "invitees": invitees})).await;
    let helper = app.student("helper");
    helper.patch(&path(&made, ""), &json!({"title": "x"})).await.problem(403, "forbidden");
    helper.call(&path(&made, "cancel/")).await.problem(403, "forbidden");
    helper.get(&path(&made, "invitees/")).await.expect(StatusCode::OK);
    helper.call(&path(&made, "start/")).await.expect(StatusCode::OK);
    helper.call(&path(&made, "end/")).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn administrators_and_services_do_all_in_their_tenant() {
    let app = TestApp::start().await;
    for client in [app.admin(), app.service()] {
        let made = app.planned(json!({"access": "invitees"})).await;
        client.patch(&path(&made, ""), &json!({"title": "x"})).await.expect(StatusCode::OK);
        client.put(&path(&made, "invitees/"), &json!({"invitees": [{"person_id": "s1"}]})).await.expect(StatusCode::OK);
        client.call(&path(&made, "start/")).await.expect(StatusCode::OK);
        client.get(&path(&made, "participants/")).await.expect(StatusCode::OK);
        client.call(&path(&made, "end/")).await.expect(StatusCode::OK);
    }
    let made = app.live(json!({})).await;
    app.service().call(&path(&made, "join/")).await.problem(403, "forbidden");
    let joined = app.admin().call(&path(&made, "join/")).await.expect(StatusCode::OK);
    assert_eq!(joined["role"], "co_host");
}
