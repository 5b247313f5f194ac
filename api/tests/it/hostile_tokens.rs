//! Tokens that somebody made to get in, and whatever else may come as one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use reqwest::{Method, StatusCode, header::HeaderValue};
use serde_json::{Value, json};

use crate::{
    key_server::{KeyServer, Serves, Signer, set},
    support::*,
};

fn admin() -> Value {
    claims("okul", "admin", &["admin", "operator"])
}

/// A token of any header, with a real HS256 signature.
fn signed(header: &str, payload: &[u8], secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret_nor_for_a_key_of_another_kind() {
    let (rsa, ec) = (Signer::new(Algorithm::RS256, "rsa"), Signer::new(Algorithm::ES256, "ec"));
    let server = KeyServer::start(Serves::Set(set(&[&rsa, &ec]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    app.with_token(&rsa.token(&admin())).get("/sessions/").await.expect(StatusCode::OK);

    // What an attacker can know of the key, as the secret of an HMAC.
    let jwk = rsa.public();
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let e = URL_SAFE_NO_PAD.decode(jwk["e"].as_str().unwrap()).unwrap();
    // PKCS #1 of 2048 bits: SEQUENCE { INTEGER n, INTEGER e }, and the same inside SubjectPublicKeyInfo.
    let inner = [&[0x02, 0x82, 0x01, 0x01, 0x00][..], &n, &[0x02, 0x03], &e].concat();
    let pkcs1 = [&[0x30, 0x82, 0x01, 0x0a][..], &inner].concat();
    let spki =
        [
            &[
                0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
                0x05,
            ][..],
            &[0x00, 0x03, 0x82, 0x01, 0x0f, 0x00],
            &pkcs1,
        ]
        .concat();
    let pem = |kind: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n")).into_bytes()
    };
    let secrets = [
        pem("PUBLIC KEY", &spki),
        pem("RSA PUBLIC KEY", &pkcs1),
        spki,
        pkcs1,
        n,
        jwk["n"].as_str().unwrap().as_bytes().to_vec(),
        jwk.to_string().into_bytes(),
        Vec::new(),
    ];
    let payload = admin().to_string();
    let mut tokens = Vec::new();
    for secret in &secrets {
        for alg in ["HS256", "RS256", "HS384", "HS512"] {
            tokens.push(signed(&json!({"alg": alg, "kid": "rsa"}).to_string(), payload.as_bytes(), secret));
        }
    }
    // A right signature under the name of another key or algorithm.
    let named = |alg: Algorithm, kid: &str| Header { kid: Some(kid.to_owned()), ..Header::new(alg) };
    let swapped = |token: &str, header: &Header| {
        let (_, rest) = token.split_once('.').unwrap();
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(serde_json::to_string(header).unwrap()))
    };
    for alg in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::PS256, Algorithm::RS512] {
        tokens.push(swapped(&rsa.token(&admin()), &named(alg, "rsa")));
    }
    tokens.push(rsa.token_with(&named(Algorithm::RS256, "ec"), &admin()));
    tokens.push(ec.token_with(&named(Algorithm::ES256, "rsa"), &admin()));
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": none, "kid": "rsa"}).to_string());
        let message = format!("{head}.{}", URL_SAFE_NO_PAD.encode(&payload));
        tokens.extend([format!("{message}."), message.clone(), format!("{message}.AA")]);
    }
    for token in tokens {
        app.with_token(&token).get("/sessions/").await.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_token_brings_no_key_of_its_own_and_its_kid_is_only_compared() {
    let (good, evil) = (Signer::new(Algorithm::ES256, "good"), Signer::new(Algorithm::ES256, "evil"));
    let server = KeyServer::start(Serves::Set(set(&[&good]))).await;
    let attacker = KeyServer::start(Serves::Set(set(&[&evil]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    let refused = async |token: &str| _ = app.with_token(token).get("/sessions/").await.problem(401, "unauthorized");
    app.with_token(&good.token(&admin())).get("/sessions/").await.expect(StatusCode::OK);
    for kid in [None, Some("good"), Some("evil")] {
        let kid = kid.map(str::to_owned);
        let jwk = serde_json::from_value(evil.public()).unwrap();
        let plain = Header { kid, ..Header::new(Algorithm::ES256) };
        for header in [
            Header { jwk: Some(jwk), ..plain.clone() },
            Header { jku: Some(attacker.url()), ..plain.clone() },
            Header { x5u: Some(attacker.url()), ..plain.clone() },
            Header { x5c: Some(vec!["MIIB".into()]), ..plain.clone() },
        ] {
            refused(&evil.token_with(&header, &admin())).await;
        }
    }
    let long = "k".repeat(9_000);
    for kid in ["../../../../dev/null", "/dev/null", "' or '1'='1", "good\0", "GOOD", "", "%67ood", "|sleep 9", &long] {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        refused(&evil.token_with(&header, &admin())).await;
        // The key of an empty file.
        refused(&signed(&json!({"alg": "HS256", "kid": kid}).to_string(), admin().to_string().as_bytes(), b"")).await;
    }
    for header in [
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256","kid":["good"]}"#,
        r#"{"alg":"HS256","kid":{"$ne":""}}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"hs256"}"#,
        "{}",
        "[]",
        "",
    ] {
        refused(&signed(header, admin().to_string().as_bytes(), SECRET.as_bytes())).await;
    }
    assert_eq!(attacker.asked(), 0);
}

#[tokio::test]
async fn claims_that_are_there_twice_and_tokens_that_are_too_long_are_refused() {
    let app = TestApp::start().await;
    let exp = now().timestamp() + 600;
    let send = async |payload: &str| {
        let token = signed(r#"{"alg":"HS256"}"#, payload.as_bytes(), SECRET.as_bytes());
        app.with_token(&token).get("/sessions/").await
    };
    let start = format!(r#""sub":"a","tenant":"okul","roles":["student"],"exp":{exp}"#);
    send(&format!("{{{start}}}")).await.expect(StatusCode::OK);
    for twice in [
        r#""sub":"b""#,
        r#""tenant":"other""#,
        r#""\u0074enant":"other""#,
        r#""roles":["admin"]"#,
        r#""exp":99999999999"#,
    ] {
        send(&format!("{{{start},{twice}}}")).await.problem(401, "unauthorized");
        send(&format!("{{{twice},{start}}}")).await.problem(401, "unauthorized");
    }
    let problem = send(&format!(r#"{{{start},"x":"{}"}}"#, "x".repeat(16_384))).await.problem(401, "unauthorized");
    assert!(problem["detail"].as_str().unwrap().contains("longer than 16384"), "{problem}");
    send(&format!(r#"{{{start},"x":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000))).await.expect(StatusCode::OK);
    send(&format!(r#"{{"sub":"a","tenant":{}{},"exp":{exp}}}"#, "[".repeat(5_000), "]".repeat(5_000)))
        .await
        .problem(401, "unauthorized");
}

/// Sends `cases` values, one after the other.
pub fn try_all<S: Strategy>(cases: u32, values: S, send: impl AsyncFn(S::Value)) {
    // Nothing is written beside the sources: a failure shows the value.
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let runtime = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&values, |value| {
            runtime.block_on(send(value));
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// The status of a request with this header, as bytes.
async fn status(app: &TestApp, authorization: &[u8]) -> StatusCode {
    let value = HeaderValue::from_bytes(authorization).unwrap();
    answer(app.anonymous().request(Method::GET, "/sessions/").header("authorization", value)).await.status
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "okul|other|admin|student|HS256|ES256|none|good".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{1,4}", inner, 0..4).prop_map(|m| m.into_iter().collect::<Value>()),
        ]
    })
}

/// Some of these names, with any values.
fn members(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    proptest::collection::vec((proptest::sample::select(names), json_value()), 0..5)
}

fn with(mut object: Value, changes: Vec<(&'static str, Value)>) -> Value {
    for (name, value) in changes {
        object[name] = value;
    }
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_as_a_token_is_taken_or_refused_with_401() {
    let good = Signer::new(Algorithm::ES256, "good");
    let server = KeyServer::start(Serves::Set(set(&[&good]))).await;
    let app = TestApp::start_with(&["--auth-jwks-url", &server.url()]).await;
    let body = json!({"name": "fuzz", "roles": ["admin"]});
    let key =
        app.admin().post("/api-keys/", &body).await.expect(StatusCode::CREATED)["key"].as_str().unwrap().to_owned();
    let valid = [token(admin()), good.token(&admin()), key];
    for token in &valid {
        app.with_token(token).get("/sessions/").await.expect(StatusCode::OK);
    }

    // Any text that a header can hold.
    let byte = prop_oneof![Just(b'\t'), 32_u8..127, 128_u8..=255];
    try_all(300, (any::<bool>(), proptest::collection::vec(byte, 0..200)), async |(bearer, text)| {
        let text = if bearer { [b"Bearer ", &*text].concat() } else { text };
        assert_eq!(status(&app, &text).await, StatusCode::UNAUTHORIZED);
    });
    // Parts and dots.
    try_all(300, "(lsk_|eyJ)?[A-Za-z0-9_.=-]{0,80}(\\.[A-Za-z0-9_-]{0,40}){0,4}", async |text: String| {
        assert_eq!(status(&app, format!("Bearer {text}").as_bytes()).await, StatusCode::UNAUTHORIZED);
    });
    // One change in a valid one: a character replaced, left out, put in, the rest cut off, parts turned round.
    let change = (0..valid.len(), 0_usize..5, any::<proptest::sample::Index>(), "[!-~]");
    try_all(600, change, async |(which, how, at, new): (usize, usize, proptest::sample::Index, String)| {
        let token = &valid[which];
        let at = at.index(token.len());
        let changed = match how {
            0 => format!("{}{new}{}", &token[..at], &token[at + 1..]),
            1 => format!("{}{}", &token[..at], &token[at + 1..]),
            2 => format!("{}{new}{}", &token[..at], &token[at..]),
            3 => token[..at].to_owned(),
            _ => token.split('.').rev().collect::<Vec<_>>().join("."),
        };
        if changed != *token {
            assert_eq!(
                status(&app, format!("Bearer {changed}").as_bytes()).await,
                StatusCode::UNAUTHORIZED,
                "{changed}"
            );
        }
    });
    // Rightly signed, but odd.
    let is_judged = async |token: String| {
        let status = status(&app, format!("Bearer {token}").as_bytes()).await;
        assert!([StatusCode::OK, StatusCode::UNAUTHORIZED].contains(&status), "{status}: {token}");
    };
    let claims = &["sub", "tenant", "roles", "exp", "nbf", "iat", "iss", "aud", "name", "email", "x"];
    try_all(400, members(claims), async |changes| {
        is_judged(token(with(admin(), changes))).await;
    });
    let names = &["alg", "kid", "typ", "crit", "jwk", "jku", "x5u", "x5c", "x5t", "b64", "zip", "enc", "cty", "x"];
    try_all(400, members(names), async |changes| {
        let header = with(json!({"alg": "HS256"}), changes);
        is_judged(signed(&header.to_string(), admin().to_string().as_bytes(), SECRET.as_bytes())).await;
    });
    try_all(200, json_value(), async |payload| {
        is_judged(signed(r#"{"alg":"HS256"}"#, payload.to_string().as_bytes(), SECRET.as_bytes())).await;
    });
}
