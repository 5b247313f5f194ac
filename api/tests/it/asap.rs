//! Keys of our own for a Jitsi, as its Prosody gets them.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    key_server::rsa_pem,
    provider_configs::{JWT_SECRET, config_path, jitsi},
    support::*,
};

fn verified(token: &str, pem: &str) -> Value {
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&["jitsi"]);
    decode::<Value>(token, &DecodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), &rules).unwrap().claims
}

/// The file that Prosody asks for.
fn file_of(token: &str) -> String {
    let kid = decode_header(token).unwrap().kid.unwrap();
    format!("{}.pem", Sha256::digest(kid).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[tokio::test]
async fn a_jitsi_without_a_key_gets_one_made_and_prosody_finds_its_public_half() {
    let app = TestApp::start().await;
    let settings = json!({"domain": "meet.school.test", "app_id": "school", "algorithm": "RS256"});
    let made = app.configure_default(&jitsi("Campus", json!({"settings": settings, "secrets": {}}))).await;
    assert_eq!(made["secrets"]["private_key"], "••••");
    let server = made["key_server_url"].as_str().unwrap().to_owned();
    assert_eq!(server, format!("/asap/{}", made["id"].as_str().unwrap()));
    let live = app.live(json!({})).await;
    let join = app.teacher().call(&path(&live, "join/")).await.expect(StatusCode::OK);
    let token = join["token"].as_str().unwrap();
    let answer = app.anonymous().get(&format!("/{server}/{}", file_of(token))).await;
    assert_eq!(answer.header("cache-control"), "public, max-age=86400");
    assert_eq!(verified(token, &answer.text())["iss"], "school");
    let set = app.anonymous().get(&format!("/{server}/jwks.json")).await.expect(StatusCode::OK);
    assert_eq!(set["keys"][0]["kid"], decode_header(token).unwrap().kid.unwrap());
    assert_eq!(set["keys"][0].get("d"), None);

    // A key of one configuration is none of another, nor of the environment.
    let other = app.configure(&jitsi("North", json!({"settings": settings, "secrets": {}}))).await;
    let other = other["key_server_url"].as_str().unwrap().to_owned();
    for elsewhere in [other.as_str(), "/asap"] {
        app.anonymous().get(&format!("/{elsewhere}/{}", file_of(token))).await.problem(404, "not-found");
    }
    // Another key is another name.
    let change = json!({"secrets": {"private_key": rsa_pem()}});
    app.admin().patch(&config_path(&made, ""), &change).await.expect(StatusCode::OK);
    let join = app.teacher().call(&path(&live, "join/")).await.expect(StatusCode::OK);
    let anew = join["token"].as_str().unwrap();
    assert_ne!(file_of(anew), file_of(token));
    let answer = app.anonymous().get(&format!("/{server}/{}", file_of(anew))).await;
    verified(anew, &answer.text());
}

#[tokio::test]
async fn a_configuration_has_the_key_that_its_algorithm_needs() {
    let app = TestApp::start().await;
    let without = app.admin().post("/provider-configs/", &jitsi("Campus", json!({"secrets": {}}))).await;
    assert_eq!(without.pointers(), ["/secrets/jwt_secret"]);
    let made = app.configure(&jitsi("Campus", json!({}))).await;
    let to = config_path(&made, "");
    let none = app.admin().patch(&to, &json!({"secrets": {"jwt_secret": null}})).await;
    assert_eq!(none.pointers(), ["/secrets/jwt_secret"]);
    // Its own key is made at the change; then Prosody's secret is of no use any more.
    let change = json!({"settings": {"algorithm": "RS256"}, "secrets": {"jwt_secret": null}});
    let changed = app.admin().patch(&to, &change).await.expect(StatusCode::OK);
    assert_eq!((&changed["secrets"]["jwt_secret"], &changed["secrets"]["private_key"]), (&Value::Null, &json!("••••")));
    let back = app.admin().patch(&to, &json!({"settings": {"algorithm": "HS256"}})).await;
    assert_eq!(back.pointers(), ["/secrets/jwt_secret"]);
    let change = json!({"settings": {"algorithm": "HS256"}, "secrets": {"jwt_secret": JWT_SECRET}});
    app.admin().patch(&to, &change).await.expect(StatusCode::OK);
    let odd = app.admin().patch(&to, &json!({"settings": {"algorithm": "none", "control_url": "ftp://x"}})).await;
    assert_eq!(odd.pointers(), ["/settings/algorithm", "/settings/control_url"]);
}

#[tokio::test]
async fn the_environment_s_jitsi_may_have_a_key_of_its_own() {
    let pem = rsa_pem().trim().replace('\n', "\\n");
    let app = TestApp::start_with(&["--jitsi-private-key", &pem]).await;
    let live = app.live(json!({})).await;
    let join = app.teacher().call(&path(&live, "join/")).await.expect(StatusCode::OK);
    let token = join["token"].as_str().unwrap();
    let answer = app.anonymous().get(&format!("//asap/{}", file_of(token))).await;
    assert_eq!(verified(token, &answer.text())["iss"], "lms");
}
