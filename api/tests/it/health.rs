use reqwest::StatusCode;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn health_is_open_and_queues_are_for_operators() {
    let app = TestApp::start().await;
    let anonymous = app.anonymous();
    assert_eq!(anonymous.get("//livez").await.text(), "ok\n");
    assert_eq!(anonymous.get("//readyz").await.expect(StatusCode::OK)["status"], "ready");
    let ops = anonymous.get("/ops/").await.expect(StatusCode::OK);
    assert_eq!((&ops["status"], ops.get("queues")), (&json!("up"), None));
    let made = app.live(json!({})).await;
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    let operator = app.somebody("okul", "op", &["operator"]);
    let ops = operator.get("/ops/").await.expect(StatusCode::OK);
    let queues: Vec<_> = (0..3).map(|n| (&ops["queues"][n]["name"], &ops["queues"][n]["due"])).collect();
    let [none, one] = [&json!(0), &json!(1)];
    assert_eq!(queues, [(&json!("default"), none), (&json!("live"), one), (&json!("notifications"), none)]);
    assert_eq!(app.admin().get("/ops/").await.expect(StatusCode::OK).get("queues"), None);
    app.with_token("x").get("/ops/").await.problem(401, "unauthorized");
}

#[tokio::test]
async fn metrics_count_by_route_not_by_id() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    app.student("s1").call(&path(&made, "join/")).await.expect(StatusCode::OK);
    let text = app.anonymous().get("//metrics").await.text();
    for name in [
        "live_sessions_active_total 1",
        "live_participants_total 1",
        "http_requests_total{",
        "http_request_duration_seconds_bucket{",
        "route=\"/api/v1/live-sessions/sessions/{id}/join/\"",
    ] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    assert!(!text.contains(made["id"].as_str().unwrap()));
}

#[tokio::test]
async fn a_database_that_is_gone_is_503_and_changes_nothing() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    // Nobody may connect, and who is connected is thrown out: as when Postgres restarts, for this database alone.
    let name = app.database_url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let servers = sandbox::testing::servers().await;
    let admin = sqlx::PgPool::connect(&servers.postgres.url("postgres")).await.unwrap();
    let run = async |sql: String| sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&admin).await.unwrap();
    run(format!("alter database \"{name}\" with allow_connections false")).await;
    run(format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")).await;
    eventually("the loss shows", async || {
        app.anonymous().get("//readyz").await.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let problem = app.teacher().call(&path(&made, "end/")).await.problem(503, "unavailable");
    assert!(!problem.to_string().contains("postgres"), "nothing internal is shown: {problem}");
    assert_eq!(app.anonymous().get("/ops/").await.expect(StatusCode::SERVICE_UNAVAILABLE)["status"], "down");
    assert_eq!(app.anonymous().get("//livez").await.status, StatusCode::OK);
    run(format!("alter database \"{name}\" with allow_connections true")).await;
    eventually("it comes back by itself", async || {
        app.teacher().call(&path(&made, "end/")).await.status == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn without_redis_work_is_taken_and_stored() {
    // A port where nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = TestApp::start_with(&["--redis-url", &format!("redis://{free}/0")]).await;
    assert_eq!(app.anonymous().get("//readyz").await.expect(StatusCode::OK)["status"], "degraded");
    let made = app.live(json!({})).await;
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    assert_eq!(app.jobs().await.len(), 1);
    assert_eq!(app.anonymous().get("/ops/").await.expect(StatusCode::OK)["status"], "degraded");
}

#[tokio::test]
async fn metrics_can_have_a_port_of_their_own() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let app = TestApp::start_with(&["--api-metrics-addr", &free.to_string()]).await;
    app.anonymous().get("//metrics").await.problem(404, "not-found");
    for path in ["metrics", "livez", "readyz"] {
        let answer = reqwest::get(format!("http://{free}/{path}")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_stop_lets_running_requests_finish_and_takes_no_new_ones() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let mut holder = app.pool.begin().await.unwrap();
    sqlx::query("select from sessions for update").execute(&mut *holder).await.unwrap();
    let teacher = app.teacher();
    let to = path(&made, "end/");
    let release = async {
        eventually("the request waits for the row", async || {
            let here = "pid in (select pid from pg_stat_activity where datname = current_database())";
            app.count(&format!("pg_locks where not granted and {here}")).await == 1
        })
        .await;
        app.stop();
        eventually("nobody listens any more", async || tokio::net::TcpStream::connect(app.address).await.is_err())
            .await;
        holder.rollback().await.unwrap();
    };
    let (ended, ()) = tokio::join!(teacher.call(&to), release);
    assert_eq!(ended.expect(StatusCode::OK)["status"], "ended");
}

#[tokio::test]
async fn too_many_requests_at_once_are_turned_away() {
    let app = TestApp::start_with(&["--api-max-in-flight", "0"]).await;
    let answer = app.teacher().get("/sessions/").await;
    assert_eq!(answer.header("retry-after"), "2");
    answer.problem(503, "unavailable");
    // Load is not death.
    for probe in ["//livez", "//readyz", "//metrics"] {
        assert_eq!(app.anonymous().get(probe).await.status, StatusCode::OK, "{probe}");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up_whole() {
    let app = TestApp::start_with(&["--request-timeout", "1"]).await;
    let made = app.live(json!({})).await;
    let mut holder = app.pool.begin().await.unwrap();
    sqlx::query("select from sessions for update").execute(&mut *holder).await.unwrap();
    app.teacher().call(&path(&made, "end/")).await.problem(503, "timeout");
    holder.rollback().await.unwrap();
    assert_eq!(app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK)["status"], "live");
    assert_eq!(app.jobs().await.len(), 0);
}
