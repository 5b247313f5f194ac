use std::time::Duration;

use reqwest::StatusCode;
use sandbox::testing::{servers, unique_prefix};
use serde_json::json;
use shared::queue::redis::RedisQueues;
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn who_asks_too_much_is_told_when_to_come_again_and_nobody_else_is() {
    let app = TestApp::start_with(&["--rate-limit-person", "0.5:3"]).await;
    let student = app.student("s1");
    let first = student.get("/sessions/").await;
    assert_eq!((first.header("ratelimit"), first.status), ("\"person\";r=2;t=2", StatusCode::OK));
    assert_eq!(first.header("ratelimit-policy"), "\"tenant\";q=20000;w=20, \"person\";q=3;w=6");
    // Also what fails counts, and tells.
    assert!(student.get("/sessions/nothing/").await.header("ratelimit").starts_with("\"person\";r=1;"));
    student.get("/sessions/").await.expect(StatusCode::OK);
    let refused = student.get("/sessions/").await;
    assert!(["1", "2"].contains(&refused.header("retry-after")), "{}", refused.header("retry-after"));
    assert!(refused.header("ratelimit").starts_with("\"person\";r=0;"));
    refused.problem(429, "rate-limited");
    app.student("s2").get("/sessions/").await.expect(StatusCode::OK);
    // The LMS speaks for many.
    for _ in 0..9 {
        let answer = app.service().get("/sessions/").await;
        assert!(answer.header("ratelimit").starts_with("\"tenant\";"));
        answer.expect(StatusCode::OK);
    }
    for open in ["//livez", "//readyz", "//openapi.json", "/ops/"] {
        for _ in 0..5 {
            assert!(app.anonymous().get(open).await.headers.get("ratelimit").is_none(), "{open}");
        }
    }
}

#[tokio::test]
async fn a_tenant_has_a_limit_of_its_own() {
    let app = TestApp::start_with(&["--rate-limit-tenant", "0.1:4", "--rate-limit-person", "off"]).await;
    for n in 0..4 {
        app.student(&format!("s{n}")).get("/sessions/").await.expect(StatusCode::OK);
    }
    let problem = app.student("s4").get("/sessions/").await.problem(429, "rate-limited");
    assert!(problem["detail"].as_str().unwrap().contains("tenant"));
    app.foreigner().get("/sessions/").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_limit_holds_over_all_replicas() {
    let limit = ["--rate-limit-person", "0.001:20"];
    let app = TestApp::start_with(&limit).await;
    let replica = app.replica(&limit).await;
    for _ in 0..20 {
        app.student("s1").get("/sessions/").await.expect(StatusCode::OK);
    }
    app.student("s1").get("/sessions/").await.problem(429, "rate-limited");
    let mut let_in = 0;
    eventually("the other replica knows of it", async || {
        let refused = replica.student("s1").get("/sessions/").await.status == StatusCode::TOO_MANY_REQUESTS;
        let_in += usize::from(!refused);
        refused
    })
    .await;
    assert!(let_in < 20, "{let_in}: it was refused for what it knew by itself");
    replica.student("s2").get("/sessions/").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn without_redis_each_replica_limits_by_itself() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let redis = format!("redis://{free}/0");
    let app = TestApp::start_with(&["--redis-url", &redis, "--rate-limit-person", "0.001:2"]).await;
    for _ in 0..2 {
        app.student("s1").get("/sessions/").await.expect(StatusCode::OK);
    }
    eventually("it could not be told", async || {
        app.anonymous().get("//metrics").await.text().contains("rate_limits_not_shared_total")
    })
    .await;
    app.student("s1").get("/sessions/").await.problem(429, "rate-limited");
}

#[tokio::test]
async fn a_request_with_a_key_counts_once() {
    let app = TestApp::start_with(&["--rate-limit-person", "0.001:2"]).await;
    let body = session(json!({}));
    for _ in 0..2 {
        app.teacher().post_once("/sessions/", "k", &body).await.expect(StatusCode::CREATED);
    }
    app.teacher().post_once("/sessions/", "k", &body).await.problem(429, "rate-limited");
}

#[tokio::test]
async fn buckets_in_redis_run_empty_by_themselves() {
    let queues = RedisQueues::connect(&servers().await.redis.url(), &unique_prefix()).unwrap();
    let (mut one, mut other) = (queues.buckets(), queues.buckets());
    let ids: Vec<Uuid> = (0..1_200).map(|_| Uuid::now_v7()).collect();
    let pour = |seconds| ids.iter().map(move |id| (*id, Duration::from_secs(seconds))).collect::<Vec<_>>();
    let left = one.pour(&pour(100)).await.unwrap();
    assert!(left.len() == 1_200 && left.iter().all(|left| *left == Duration::from_secs(100)));
    let left = other.pour(&pour(20)).await.unwrap();
    assert!(left.iter().all(|left| (90..=120).contains(&left.as_secs())), "{:?}", left[0]);
    // A short one is gone when it is empty.
    let short = [(Uuid::now_v7(), Duration::from_millis(30))];
    one.pour(&short).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(other.pour(&short).await.unwrap(), [Duration::from_millis(30)]);
}
