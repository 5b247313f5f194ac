//! `test/` against servers that answer as the real ones do.

use axum::{
    Router,
    extract::RawQuery,
    http::header,
    response::{Html, IntoResponse as _, Redirect, Response},
    routing::get,
};
use reqwest::StatusCode;
use sandbox::zoom::{self, Account, Zoom};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::{provider_configs::*, support::*};

const BBB_SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn xml(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/xml;charset=utf-8")], text).into_response()
}

/// A BigBlueButton of this version that checks checksums.
fn bigbluebutton(version: &'static str) -> Router {
    let about = format!(
        "<response><returncode>SUCCESS</returncode><version>2.0</version><apiVersion>2.0</apiVersion>\
         <bbbVersion>{version}</bbbVersion></response>"
    );
    let meetings = async |RawQuery(query): RawQuery| {
        let good = format!("checksum={:x}", Checksum(Sha256::digest(format!("getMeetings{BBB_SECRET}")).into()));
        xml(match query == Some(good) {
            true => "<response><returncode>SUCCESS</returncode><meetings/></response>".to_owned(),
            false => {
                "<response><returncode>FAILED</returncode><messageKey>checksumError</messageKey></response>".to_owned()
            }
        })
    };
    Router::new()
        .route("/bigbluebutton/api/", get(async move || xml(about.clone())))
        .route("/bigbluebutton/api/getMeetings", get(meetings))
}

struct Checksum([u8; 32]);

impl std::fmt::LowerHex for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

async fn app() -> TestApp {
    TestApp::start_with(&["--provider-configs-allow-private"]).await
}

/// `name: ok` of each check, and whether all are.
async fn tested(app: &TestApp, config: &Value) -> (bool, Vec<(String, Option<bool>)>) {
    let answer = app.admin().call(&config_path(config, "test/")).await.expect(StatusCode::OK);
    let checks = answer["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| !check["detail"].as_str().unwrap().is_empty()), "{answer}");
    let checks = checks.iter().map(|check| (check["name"].as_str().unwrap().to_owned(), check["ok"].as_bool()));
    (answer["ok"].as_bool().unwrap(), checks.collect())
}

fn checks(of: &[(&str, Option<bool>)]) -> Vec<(String, Option<bool>)> {
    of.iter().map(|(name, ok)| ((*name).to_owned(), *ok)).collect()
}

#[tokio::test]
async fn address_version_and_secret_of_a_bigbluebutton_are_told_apart() {
    let app = app().await;
    let (good, old) = (serve(bigbluebutton("3.0.4")).await, serve(bigbluebutton("2.4.1")).await);
    let site = serve(Router::new().fallback(async || Html("<html>hello</html>"))).await;
    let moved = serve(Router::new().fallback(async || Redirect::temporary("http://127.0.0.1:1/"))).await;
    let nothing = "http://127.0.0.1:1".to_owned();
    let (yes, no, open) = (Some(true), Some(false), None);
    for (name, url, secret, address, version, right) in [
        ("good", &good, BBB_SECRET, yes, yes, yes),
        ("wrong secret", &good, "another-secret", yes, yes, no),
        ("old", &old, BBB_SECRET, yes, no, yes),
        ("a web site", &site, BBB_SECRET, no, open, open),
        ("moved", &moved, BBB_SECRET, no, open, open),
        ("nothing", &nothing, BBB_SECRET, no, open, open),
    ] {
        let mut body = bbb(name, url);
        body["secrets"]["shared_secret"] = secret.into();
        let config = app.configure(&body).await;
        let expected = checks(&[("address", address), ("version", version), ("secret", right)]);
        let all = [address, version, right].iter().all(|ok| *ok == yes);
        assert_eq!(tested(&app, &config).await, (all, expected), "{name}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_a_fault_of_tls() {
    let app = app().await;
    let plain = serve(bigbluebutton("3.0.4")).await;
    let config = app.configure(&bbb("no TLS", &plain.replace("http://", "https://"))).await;
    let expected = checks(&[("address", Some(true)), ("tls", Some(false)), ("version", None), ("secret", None)]);
    assert_eq!(tested(&app, &config).await, (false, expected));
}

#[tokio::test]
async fn private_addresses_are_not_asked_unless_the_operator_allows_it() {
    let app = TestApp::start().await;
    let port = serve(bigbluebutton("3.0.4")).await.rsplit_once(':').unwrap().1.to_owned();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let config = app.configure(&bbb(host, &format!("http://{host}:{port}"))).await;
        let answer = app.admin().call(&config_path(&config, "test/")).await.expect(StatusCode::OK);
        assert_eq!(answer["ok"], false);
        let detail = answer["checks"][0]["detail"].as_str().unwrap();
        assert_eq!(detail, "the host has a private address (PROVIDER_CONFIGS_ALLOW_PRIVATE is off)", "{host}");
    }
}

#[tokio::test]
async fn a_jitsi_has_its_script_and_a_secret_that_signs() {
    let app = app().await;
    let script = async || ([(header::CONTENT_TYPE, "application/javascript")], "// JitsiMeetExternalAPI");
    let meet = serve(Router::new().route("/external_api.js", get(script))).await;
    let site = serve(Router::new().fallback(async || Html("<html>hello</html>"))).await;
    for (name, domain, found) in [("meet", meet, true), ("site", site, false)] {
        let config = app.configure(&jitsi(name, json!({"settings": {"domain": domain, "app_id": "x"}}))).await;
        let expected = checks(&[("address", Some(found)), ("secret", Some(true))]);
        assert_eq!(tested(&app, &config).await, (found, expected), "{name}");
    }
}

#[tokio::test]
async fn zoom_says_whether_it_knows_the_app_and_the_user() {
    let zoom = Zoom::start(None, Account::new("a-client-secret", "a-webhook-secret-x")).await.unwrap();
    let (oauth, api, account) = (zoom.oauth_url(), zoom.api_url(), zoom.account().clone());
    let app = TestApp::start_with(&["--zoom-oauth-url", &oauth, "--zoom-api-url", &api]).await;
    let tested = async |name: &str, secret: &str, settings: Value| {
        let mut whole =
            json!({"account_id": account.account_id, "client_id": account.client_id, "user_id": account.user_email});
        whole.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let body = json!({"name": name, "provider": "zoom", "secrets": {"client_secret": secret}, "settings": whole});
        tested(&app, &app.configure(&body).await).await
    };
    let found = |secret, user| checks(&[("address", Some(true)), ("secret", secret), ("user", user)]);
    let good = "a-client-secret";
    assert_eq!(tested("good", good, json!({})).await, (true, found(Some(true), Some(true))));
    let wrong = tested("wrong secret", "another-secret", json!({})).await;
    assert_eq!(wrong, (false, found(Some(false), None)));
    let wrong = tested("wrong account", good, json!({"account_id": "nobody"})).await;
    assert_eq!(wrong, (false, found(Some(false), None)));
    let wrong = tested("wrong user", good, json!({"user_id": "nobody@school.test"})).await;
    assert_eq!(wrong, (false, found(Some(true), Some(false))));
    let limited = |only: &str| zoom::Faults {
        rate_limit: Some(zoom::RateLimit::default()),
        only: vec![only.to_owned()],
        ..zoom::Faults::default()
    };
    zoom.set_faults(limited("token"));
    assert_eq!(tested("busy", good, json!({})).await, (false, found(None, None)));
    zoom.set_faults(zoom::Faults { code: Some(4711), ..zoom::Faults::default() });
    assert_eq!(tested("scopes", good, json!({})).await, (false, found(Some(true), Some(false))));
}
