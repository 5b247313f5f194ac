//! Who is removed from a meeting; what Prosody does then is tried with a real one in the sandbox's tests.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn where_nobody_can_be_removed_the_answer_says_so() {
    let app = TestApp::start().await;
    let live = app.live(json!({})).await;
    let to = path(&live, "participants/s1/remove/");
    app.teacher().call(&to).await.problem(409, "provider-unsupported");
    app.student("s1").call(&to).await.problem(403, "forbidden");
    app.teacher().call(&path(&live, "participants/teacher/remove/")).await.problem(403, "forbidden");
    app.teacher().call(&path(&live, "end/")).await.expect(StatusCode::OK);
    app.teacher().call(&to).await.problem(410, "session-ended");
    assert_eq!(app.count("audit_log where action = 'participant.removed'").await, 0);
}

#[tokio::test]
async fn a_prosody_that_is_not_there_is_a_503_and_one_without_the_module_a_502() {
    let nowhere = sandbox::ports::free_port().unwrap();
    let url = format!("http://127.0.0.1:{nowhere}/webhook-control");
    let app = TestApp::start_with(&["--jitsi-control-url", &url, "--jitsi-control-secret", "a-control-secret"]).await;
    let live = app.live(json!({})).await;
    app.teacher().call(&path(&live, "participants/s1/remove/")).await.problem(503, "provider-unavailable");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhook-control", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
    let app = app.replica(&["--jitsi-control-url", &url, "--jitsi-control-secret", "a-control-secret"]).await;
    app.teacher().call(&path(&live, "participants/s1/remove/")).await.problem(502, "provider-refused");
}
