use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, Header};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    key_server::{KeyServer, Serves, Signer, set},
    support::*,
};

fn teacher() -> Value {
    claims("okul", "teacher", &["instructor"])
}

async fn ask(app: &TestApp, token: &str) -> StatusCode {
    app.with_token(token).get("/sessions/").await.status
}

/// Until a look at the keys is possible again.
async fn until_next_look() {
    tokio::time::sleep(Duration::from_millis(2_100)).await;
}

#[tokio::test]
async fn tokens_by_published_keys_of_each_kind_get_in_beside_those_by_the_secret() {
    let signers =
        [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(|alg| Signer::new(alg, &format!("{alg:?}")));
    let [rsa, ec, ed] = &signers;
    let server = KeyServer::start(Serves::Set(set(&[rsa, ec, ed]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    for signer in &signers {
        assert_eq!(ask(&app, &signer.token(&teacher())).await, StatusCode::OK, "{}", signer.kid);
        // Without a kid it is the only key of its algorithm.
        let header = Header::new(signer.algorithm);
        assert_eq!(ask(&app, &signer.token_with(&header, &teacher())).await, StatusCode::OK, "{}", signer.kid);
        // The claims are judged the same way.
        let mut expired = teacher();
        expired["exp"] = json!(1);
        let problem = app.with_token(&signer.token(&expired)).get("/sessions/").await.problem(401, "unauthorized");
        assert!(problem["detail"].as_str().unwrap().contains("has expired"), "{problem}");
        let mut nobody = teacher();
        nobody.as_object_mut().unwrap().remove("sub");
        let problem = app.with_token(&signer.token(&nobody)).get("/sessions/").await.problem(401, "unauthorized");
        assert_eq!(problem["detail"], "The token has no claim sub.");
    }
    assert_eq!(ask(&app, &token(teacher())).await, StatusCode::OK);
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn without_a_secret_no_token_by_one_gets_in() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let server = KeyServer::start(Serves::Set(set(&[&signer]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url(), "--auth-jwt-secret", ""]).await;
    assert_eq!(ask(&app, &signer.token(&teacher())).await, StatusCode::OK);
    for secret in ["", SECRET] {
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &teacher(), &key).unwrap();
        let problem = app.with_token(&token).get("/sessions/").await.problem(401, "unauthorized");
        assert!(problem["detail"].as_str().unwrap().contains("not signed as agreed"), "{problem}");
    }
}

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it_and_a_withdrawn_one_is_refused() {
    let (old, new) = (Signer::new(Algorithm::RS256, "old"), Signer::new(Algorithm::ES256, "new"));
    let server = KeyServer::start(Serves::Set(set(&[&old]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    assert_eq!(ask(&app, &old.token(&teacher())).await, StatusCode::OK);
    server.serve(Serves::Set(set(&[&new])));
    until_next_look().await;
    assert_eq!(ask(&app, &new.token(&teacher())).await, StatusCode::OK);
    let problem = app.with_token(&old.token(&teacher())).get("/sessions/").await.problem(401, "unauthorized");
    assert!(problem["detail"].as_str().unwrap().contains("key that is not known"), "{problem}");
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_the_beat_though_no_token_names_another() {
    let signer = Signer::new(Algorithm::EdDSA, "a");
    let server = KeyServer::start(Serves::Set(set(&[&signer]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url(), "--auth-jwks-refresh", "5"]).await;
    assert_eq!(ask(&app, &signer.token(&teacher())).await, StatusCode::OK);
    server.serve(Serves::Set(set(&[])));
    let token = signer.token(&teacher());
    eventually("the key is refused", async || ask(&app, &token).await == StatusCode::UNAUTHORIZED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_keys_cannot_flood_the_key_server_nor_hold_up_others() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let stranger = Signer::new(Algorithm::ES256, "b");
    let server = KeyServer::start(Serves::Set(set(&[&signer]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    let good = signer.token(&teacher());
    assert_eq!(ask(&app, &good).await, StatusCode::OK);
    let made_up = |n: usize| {
        let header = Header { kid: Some(format!("made-up-{n}")), ..Header::new(Algorithm::ES256) };
        stranger.token_with(&header, &teacher())
    };
    // One after the other they are plainly refused.
    for n in 0..50 {
        assert_eq!(ask(&app, &made_up(n)).await, StatusCode::UNAUTHORIZED);
    }
    assert!(server.asked() <= 2, "{}", server.asked());
    // While the server is slow, most are sent away at once, and nobody else waits.
    server.serve(Serves::Silence);
    until_next_look().await;
    let (before, started) = (server.asked(), Instant::now());
    let tokens: Vec<String> = (0..300).map(made_up).collect();
    let flood = futures::future::join_all(tokens.iter().map(|token| ask(&app, token)));
    let others = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(ask(&app, &good).await, StatusCode::OK);
        assert_eq!(ask(&app, &token(teacher())).await, StatusCode::OK);
        started.elapsed()
    };
    let (flood, others) = futures::future::join(flood, others).await;
    assert!(flood.iter().all(|status| *status == StatusCode::SERVICE_UNAVAILABLE));
    assert!(others < Duration::from_secs(3), "{others:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(server.asked() <= before + 2, "{} after {before}", server.asked());
}

#[tokio::test]
async fn an_outage_of_the_key_server_is_survived_with_the_known_keys() {
    let (known, new) = (Signer::new(Algorithm::ES256, "known"), Signer::new(Algorithm::ES256, "new"));
    let mut server = KeyServer::start(Serves::Set(set(&[&known]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    assert_eq!(ask(&app, &known.token(&teacher())).await, StatusCode::OK);
    server.die().await;
    until_next_look().await;
    // A key that nobody can look up now: come back. `Answer` checks Retry-After.
    app.with_token(&new.token(&teacher())).get("/sessions/").await.problem(503, "unavailable");
    for token in [known.token(&teacher()), token(teacher())] {
        assert_eq!(ask(&app, &token).await, StatusCode::OK);
    }
    server.serve(Serves::Set(set(&[&known, &new])));
    server.come_back().await;
    let token = new.token(&teacher());
    eventually("the new key is known", async || ask(&app, &token).await == StatusCode::OK).await;
}

#[tokio::test]
async fn answers_that_are_no_key_set_leave_the_known_keys_in_place() {
    let (known, evil) = (Signer::new(Algorithm::ES256, "known"), Signer::new(Algorithm::ES256, "evil"));
    let server = KeyServer::start(Serves::Set(set(&[&known]))).await;
    let elsewhere = KeyServer::start(Serves::Set(set(&[&evil]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    assert_eq!(ask(&app, &known.token(&teacher())).await, StatusCode::OK);
    let mut padded = set(&[&known, &evil]);
    padded["padding"] = json!("x".repeat(300_000));
    for bad in [
        Serves::Status(500),
        Serves::Status(404),
        Serves::Bytes(b"<html>sign in</html>".to_vec()),
        Serves::Bytes(b"{\"keys\":".to_vec()),
        Serves::Set(json!({})),
        Serves::Set(padded),
        Serves::Redirect(elsewhere.url()),
        Serves::Silence,
    ] {
        server.serve(bad);
        until_next_look().await;
        app.with_token(&evil.token(&teacher())).get("/sessions/").await.problem(503, "unavailable");
        assert_eq!(ask(&app, &known.token(&teacher())).await, StatusCode::OK);
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn known_keys_are_trusted_only_so_long_without_their_server() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let mut server = KeyServer::start(Serves::Set(set(&[&signer]))).await;
    let app = TestApp::start_with(&[
        "--auth-jwks-url",
        &server.url(),
        "--auth-jwks-refresh",
        "5",
        "--auth-jwks-max-age",
        "10",
    ])
    .await;
    let good = signer.token(&teacher());
    assert_eq!(ask(&app, &good).await, StatusCode::OK);
    server.die().await;
    eventually("the key is too old", async || ask(&app, &good).await == StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(ask(&app, &token(teacher())).await, StatusCode::OK);
    server.come_back().await;
    eventually("the key is read again", async || ask(&app, &good).await == StatusCode::OK).await;
}

#[tokio::test]
async fn the_service_starts_without_the_key_server() {
    let signer = Signer::new(Algorithm::RS256, "a");
    let mut server = KeyServer::start(Serves::Set(set(&[&signer]))).await;
    server.die().await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    let good = signer.token(&teacher());
    app.with_token(&good).get("/sessions/").await.problem(503, "unavailable");
    assert_eq!(ask(&app, &token(teacher())).await, StatusCode::OK);
    app.anonymous().get("//readyz").await.expect(StatusCode::OK);
    server.come_back().await;
    eventually("the keys are there", async || ask(&app, &good).await == StatusCode::OK).await;
}

#[tokio::test]
async fn keys_may_lie_in_a_file_that_is_replaced() {
    let (old, new) = (Signer::new(Algorithm::RS256, "old"), Signer::new(Algorithm::EdDSA, "new"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, set(&[&old]).to_string()).unwrap();
    let app = TestApp::start_with(&["--auth-jwks-file", file.to_str().unwrap()]).await;
    assert_eq!(ask(&app, &old.token(&teacher())).await, StatusCode::OK);
    std::fs::write(&file, set(&[&old, &new]).to_string()).unwrap();
    until_next_look().await;
    for signer in [&old, &new] {
        assert_eq!(ask(&app, &signer.token(&teacher())).await, StatusCode::OK, "{}", signer.kid);
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(ask(&app, &new.token(&teacher())).await, StatusCode::OK);
}

#[tokio::test]
async fn issuer_and_audience_hold_for_published_keys_too() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let server = KeyServer::start(Serves::Set(set(&[&signer]))).await;
    let flags = ["--auth-jwks-url", &server.url(), "--auth-jwt-issuer", "https://lms", "--auth-jwt-audience", "live"];
    let app = TestApp::start_with(&flags).await;
    let with = |iss: &str, aud: Value| {
        let mut claims = teacher();
        (claims["iss"], claims["aud"]) = (json!(iss), aud);
        signer.token(&claims)
    };
    assert_eq!(ask(&app, &with("https://lms", json!(["other", "live"]))).await, StatusCode::OK);
    let bad = [signer.token(&teacher()), with("https://evil", json!("live")), with("https://lms", json!("other"))];
    for token in bad.iter().chain([&with("https://lms", json!(7))]) {
        assert_eq!(ask(&app, token).await, StatusCode::UNAUTHORIZED);
    }
}
