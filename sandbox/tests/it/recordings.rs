//! The stand-in for a meeting host.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sandbox::random_bytes::fill;
use sandbox::recording_host::{Faults, sha256_of};
use sandbox::testing::{servers, unique_prefix};
use sha2::{Digest, Sha256};

async fn get(url: &str) -> reqwest::Response {
    reqwest::Client::new().get(url).send().await.unwrap()
}

async fn get_range(url: &str, range: &str) -> reqwest::Response {
    reqwest::Client::new().get(url).header("range", range).send().await.unwrap()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_recording_is_the_same_each_time_and_its_checksum_is_known() {
    let host = &servers().await.recording_host;
    let url = host.recording_url(&unique_prefix(), 300_001, 9);
    let first = get(&url).await;
    assert_eq!(header(&first, "content-length"), "300001");
    assert_eq!(header(&first, "content-type"), "video/mp4");
    assert_eq!(header(&first, "accept-ranges"), "bytes");
    let etag = header(&first, "etag").to_owned();
    let bytes = first.bytes().await.unwrap();
    assert_eq!(bytes.len(), 300_001);
    assert_eq!(hex::encode(Sha256::digest(&bytes)), sha256_of(300_001, 9));
    let second = get(&url).await;
    assert_eq!(header(&second, "etag"), etag);
    assert_eq!(second.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn head_says_the_length_and_sends_nothing() {
    let host = &servers().await.recording_host;
    let name = unique_prefix();
    let url = host.recording_url(&name, 5_000_000_000, 1);
    let head = reqwest::Client::new().head(&url).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(header(&head, "content-length"), "5000000000");
    assert_eq!(host.requests_for(&name)[0].method, "HEAD");
}

#[tokio::test]
async fn ranges_are_answered_as_rfc_9110_wants() {
    let host = &servers().await.recording_host;
    let name = unique_prefix();
    let url = host.recording_url(&name, 1000, 3);
    let mut whole = [0; 1000];
    fill(3, 0, &mut whole);
    for (range, expected, shown) in [
        ("bytes=0-9", &whole[..10], "bytes 0-9/1000"),
        ("bytes=123-456", &whole[123..457], "bytes 123-456/1000"),
        ("bytes=990-", &whole[990..], "bytes 990-999/1000"),
        ("bytes=990-5000", &whole[990..], "bytes 990-999/1000"),
        ("bytes=-7", &whole[993..], "bytes 993-999/1000"),
    ] {
        let response = get_range(&url, range).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(header(&response, "content-range"), shown);
        assert_eq!(response.bytes().await.unwrap(), expected, "{range}");
    }
    let outside = get_range(&url, "bytes=1000-").await;
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&outside, "content-range"), "bytes */1000");
    assert_eq!(get_range(&url, "bytes=0-1,5-6").await.status(), StatusCode::OK);
    let changed = reqwest::Client::new()
        .get(&url)
        .header("range", "bytes=0-9")
        .header("if-range", "\"another\"")
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(host.requests_for(&name)[0].range.as_deref(), Some("bytes=0-9"));
}

#[tokio::test]
async fn a_recording_can_be_late() {
    let host = &servers().await.recording_host;
    let url = format!("{}&not_ready=2", host.recording_url(&unique_prefix(), 10, 1));
    assert_eq!(get(&url).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get(&url).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get(&url).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_download_can_break_off_and_be_resumed() {
    let host = &servers().await.recording_host;
    let name = unique_prefix();
    host.set_faults(&name, Faults { cut_after: Some(100_000), cut_times: Some(1), ..Faults::default() });
    let url = host.recording_url(&name, 300_000, 4);
    let mut response = get(&url).await;
    let mut received = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken);
    assert!(received.len() <= 100_000, "{}", received.len());
    let rest = get_range(&url, &format!("bytes={}-", received.len())).await;
    assert_eq!(rest.status(), StatusCode::PARTIAL_CONTENT);
    received.extend_from_slice(&rest.bytes().await.unwrap());
    assert_eq!(hex::encode(Sha256::digest(&received)), sha256_of(300_000, 4));
}

#[tokio::test]
async fn a_download_can_be_slow() {
    let host = &servers().await.recording_host;
    let url = format!("{}&bytes_per_second=20000", host.recording_url(&unique_prefix(), 10_000, 1));
    let start = Instant::now();
    assert_eq!(get(&url).await.bytes().await.unwrap().len(), 10_000);
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_download_can_stall() {
    let host = &servers().await.recording_host;
    let url = format!("{}&stall_after=1000", host.recording_url(&unique_prefix(), 10_000, 1));
    let mut response = get(&url).await;
    let mut received = 0;
    while received < 1000 {
        received += response.chunk().await.unwrap().unwrap().len();
    }
    assert_eq!(received, 1000);
    let more = tokio::time::timeout(Duration::from_millis(300), response.chunk()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn the_length_can_be_missing_or_wrong() {
    let host = &servers().await.recording_host;
    let url = host.recording_url(&unique_prefix(), 1000, 1);
    let without = get(&format!("{url}&no_length=true")).await;
    assert_eq!(header(&without, "content-length"), "");
    assert_eq!(without.bytes().await.unwrap().len(), 1000);
    let too_long = get(&format!("{url}&wrong_length=2000")).await;
    assert_eq!(header(&too_long, "content-length"), "2000");
    assert!(too_long.bytes().await.is_err());
    let too_short = get(&format!("{url}&wrong_length=500")).await;
    assert_eq!(too_short.bytes().await.unwrap().len(), 500);
}

#[tokio::test]
async fn a_host_can_answer_something_else() {
    let host = &servers().await.recording_host;
    let url = host.recording_url(&unique_prefix(), 1000, 1);
    assert_eq!(get(&format!("{url}&status=403")).await.status(), StatusCode::FORBIDDEN);
    let login = get(&format!("{url}&login_page=true")).await;
    assert_eq!(login.status(), StatusCode::OK);
    assert!(header(&login, "content-type").starts_with("text/html"));
    let redirected = get(&format!("{url}&redirect=true")).await;
    assert!(redirected.url().as_str().contains("direct=true"));
    assert_eq!(redirected.bytes().await.unwrap().len(), 1000);
    assert_eq!(get(&format!("{url}&nonsense=1")).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn faults_can_be_set_over_http() {
    let host = &servers().await.recording_host;
    let name = unique_prefix();
    let url = host.recording_url(&name, 1000, 1);
    let faults_url = format!("{}/faults/{name}", host.url());
    let client = reqwest::Client::new();
    let faults = serde_json::json!({ "status": 403 });
    let set = client.put(&faults_url).json(&faults).send().await.unwrap();
    assert_eq!(set.status(), StatusCode::NO_CONTENT);
    assert_eq!(get(&url).await.status(), StatusCode::FORBIDDEN);
    client.delete(&faults_url).send().await.unwrap();
    assert_eq!(get(&url).await.status(), StatusCode::OK);
}
