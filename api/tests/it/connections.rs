//! Peers that are slow, or many, over plain TCP.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::*;

const GET: &str = "GET /livez HTTP/1.1\r\nhost: x\r\n";

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.address).await.unwrap()
}

/// What comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.expect("it is closed");
    String::from_utf8(bytes).unwrap()
}

fn head_of_post(app: &TestApp, to: &str, length: usize) -> String {
    let token = token(claims("okul", "teacher", &["instructor"]));
    format!(
        "POST {BASE}{to} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n",
        app.address
    )
}

#[tokio::test]
async fn a_head_that_drips_is_given_up() {
    let app = TestApp::start_with(&["--request-timeout", "1"]).await;
    let mut stream = connect(&app).await;
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        for byte in GET.bytes().chain("x".bytes().cycle()) {
            if writer.write_u8(byte).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let closed = async {
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes).await;
        bytes
    };
    let started = Instant::now();
    let bytes = tokio::select! { bytes = closed => bytes, () = drip => panic!("it drips for ever") };
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn slow_requests_of_one_person_or_tenant_leave_places_to_the_others() {
    let settings = ["--api-max-in-flight", "80", "--rate-limit-person", "off", "--rate-limit-tenant", "off"];
    let app = TestApp::start_with(&settings).await;
    // One person's, whose bodies never come.
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&app).await;
        stream.write_all(head_of_post(&app, "/sessions/", 1_000).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let teacher = app.teacher();
    eventually("the teacher's places to be taken", async || teacher.get("/sessions/").await.status.as_u16() == 429)
        .await;
    teacher.get("/sessions/").await.problem(429, "too-many-at-once");
    app.admin().get("/sessions/").await.expect(StatusCode::OK);
    // The rest of the tenant's by somebody else.
    for _ in 0..40 {
        let mut stream = connect(&app).await;
        let head = head_of_post(&app, "/sessions/", 1_000).replace(
            &token(claims("okul", "teacher", &["instructor"])),
            &token(claims("okul", "another", &["instructor"])),
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    eventually("the tenant's places to be taken", async || app.admin().get("/sessions/").await.status.as_u16() == 429)
        .await;
    app.foreigner().get("/sessions/").await.expect(StatusCode::OK);
    drop(slow);
    eventually("the places to be given back", async || teacher.get("/sessions/").await.status.as_u16() == 200).await;
}

#[tokio::test]
async fn a_body_that_drips_is_a_408_and_changes_nothing() {
    let app = TestApp::start_with(&["--request-timeout", "1"]).await;
    let body = session(json!({})).to_string();
    for key in ["", "idempotency-key: k\r\n"] {
        let mut stream = connect(&app).await;
        let head = head_of_post(&app, "/sessions/", body.len()).replace("content-type", &format!("{key}content-type"));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body.as_bytes()[..10]).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("\"code\":\"body-timeout\"") && answer.contains("connection: close"), "{answer}");
    }
    assert_eq!((app.count("sessions").await, app.count("idempotency_keys").await), (0, 0));
}

#[tokio::test]
async fn slow_webhooks_of_strangers_take_no_place_of_callers() {
    let app = TestApp::start_with(&["--api-max-in-flight", "4"]).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(&app).await;
        stream.write_all(head_of_post(&app, "/webhooks/jaas/", 100).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    eventually("all but one are turned away", async || {
        let text = app.anonymous().get("//metrics").await.text();
        text.lines().any(|line| line.starts_with("http_requests_turned_away_total") && !line.ends_with(" 0"))
    })
    .await;
    app.live(json!({})).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_431() {
    let app = TestApp::start().await;
    let mut stream = connect(&app).await;
    let large = format!("{GET}x: {}\r\n\r\n", "x".repeat(40_000));
    let _ = stream.write_all(large.as_bytes()).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let app = TestApp::start_with(&["--api-max-connections", "2"]).await;
    let request = format!("{GET}connection: close\r\n\r\n");
    let (first, second) = (connect(&app).await, connect(&app).await);
    let mut third = connect(&app).await;
    third.write_all(request.as_bytes()).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(300), third.readable()).await;
    assert!(waits.is_err(), "it is served beside two others");
    drop(first);
    assert!(rest(&mut third).await.starts_with("HTTP/1.1 200 "));
    drop(second);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let app = TestApp::start_with(&["--request-timeout", "1"]).await;
    let mut stream = connect(&app).await;
    for _ in 0..5 {
        stream.write_all(format!("{GET}\r\n").as_bytes()).await.unwrap();
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).await.unwrap();
        assert!(bytes[..length].starts_with(b"HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_says_that_the_connection_ends() {
    let app = TestApp::start().await;
    for (head, status) in [
        (head_of_post(&app, "/api-keys/", 10), "403"),
        (head_of_post(&app, "/sessions/", 10).replace("Bearer ", "Bearer x"), "401"),
    ] {
        let mut stream = connect(&app).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await.to_lowercase();
        assert!(answer.starts_with(&format!("http/1.1 {status}")) && answer.contains("connection: close"), "{answer}");
    }
    // With the body, it is used again.
    let mut stream = connect(&app).await;
    let request = head_of_post(&app, "/sessions/", 2) + "{}";
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = [0; 4096];
        let n = stream.read(&mut bytes).await.unwrap();
        let answer = String::from_utf8_lossy(&bytes[..n]).to_lowercase();
        assert!(answer.starts_with("http/1.1 422") && !answer.contains("connection: close"), "{answer}");
    }
}
