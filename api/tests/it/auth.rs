use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn only_tokens_signed_as_agreed_get_in() {
    let app = TestApp::start().await;
    let good = claims("okul", "teacher", &["instructor"]);
    app.with_token(&token(good.clone())).get("/sessions/").await.expect(StatusCode::OK);

    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let signed =
        |alg, secret: &str| encode(&Header::new(alg), &good, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
    let whole = token(good.clone());
    let (head_and_body, signature) = whole.rsplit_once('.').unwrap();
    let body = whole.split('.').nth(1).unwrap();
    // {"alg":"none","typ":"JWT"}
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    let critical = |crit| {
        let header = Header { crit: Some(crit), ..Header::new(Algorithm::HS256) };
        encode(&header, &good, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    };
    let bad = [
        ("expired", token(with("exp", json!(now().timestamp() - 3600))), "has expired"),
        ("no expiry", token(without("exp")), "no claim exp"),
        ("expiry of a wrong type", token(with("exp", json!("soon"))), "claim exp must be a time"),
        ("expiry before all time", token(with("exp", json!(-1))), "claim exp must be a time"),
        ("start of a wrong type", token(with("nbf", json!("soon"))), "claim nbf must be a time"),
        ("start that is no value", token(with("nbf", json!([1]))), "malformed"),
        ("not yet", token(with("nbf", json!(now().timestamp() + 3600))), "not valid yet"),
        ("no subject", token(without("sub")), "no claim sub"),
        ("subject of a wrong type", token(with("sub", json!(7))), "claim sub must be a text"),
        ("subject of a machine", token(with("sub", json!("api-key:1"))), "api-key:"),
        ("empty subject", token(with("sub", json!(""))), "sub must be"),
        ("NUL in subject", token(with("sub", json!("a\0b"))), "sub must be"),
        ("no tenant", token(without("tenant")), "no claim tenant"),
        ("unknown tenant", token(with("tenant", json!("nowhere"))), "tenant is not known"),
        ("NUL in tenant", token(with("tenant", json!("okul\0"))), "tenant is not known"),
        ("tenant of a wrong type", token(with("tenant", json!(7))), "claim tenant must be a text"),
        ("roles of a wrong type", token(with("roles", json!("admin"))), "claim roles must be a list of texts"),
        ("name of a wrong type", token(with("name", json!(["a"]))), "claim name must be a text"),
        ("another secret", signed(Algorithm::HS256, "ffffffffffffffffffffffffffffffff"), "not signed as agreed"),
        ("another algorithm", signed(Algorithm::HS512, SECRET), "not signed as agreed"),
        ("critical extensions", critical(vec!["exp".into()]), "crit"),
        ("no critical extensions", critical(Vec::new()), "crit"),
        ("alg none", none.clone(), "malformed"),
        ("alg none with a signature", format!("{none}{signature}"), "malformed"),
        ("cut", head_and_body.to_owned(), "malformed"),
        ("no signature", format!("{head_and_body}."), "not signed as agreed"),
        ("junk", "a.b.c".to_owned(), "malformed"),
        ("empty", String::new(), ""),
    ];
    for (what, token, told) in bad {
        let answer = app.with_token(&token).post("/sessions/", &session(json!({}))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        assert!(answer.header("www-authenticate").ends_with("error=\"invalid_token\""), "{what}");
        let problem = answer.problem(401, "unauthorized");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{what}: {problem}");
    }
    let answer = app.anonymous().get("/sessions/").await;
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"live-sessions\"");
    assert!(answer.problem(401, "unauthorized")["detail"].as_str().unwrap().starts_with("There is no token"));
    assert_eq!(app.count("sessions").await, 0);
}

#[tokio::test]
async fn a_token_has_to_come_as_a_bearer() {
    let app = TestApp::start().await;
    let token = token(claims("okul", "teacher", &["instructor"]));
    let request = || app.anonymous().request(Method::GET, "/sessions/");
    answer(request()).await.problem(401, "unauthorized");
    answer(request().basic_auth("teacher", Some(&token))).await.problem(401, "unauthorized");
    answer(request().header("authorization", &token)).await.problem(401, "unauthorized");
    answer(app.anonymous().request(Method::GET, &format!("/sessions/?token={token}")))
        .await
        .problem(401, "unauthorized");
    answer(request().bearer_auth(&token).bearer_auth(&token)).await.problem(401, "unauthorized");
    answer(request().header("authorization", format!("bEaReR {token}"))).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn issuer_and_audience_are_demanded_where_configured() {
    let app = TestApp::start_with(&["--auth-jwt-issuer", "https://lms", "--auth-jwt-audience", "live"]).await;
    let with = |iss: Option<&str>, aud: Option<&str>| {
        let mut claims = claims("okul", "teacher", &["instructor"]);
        for (name, value) in [("iss", iss), ("aud", aud)] {
            if let Some(value) = value {
                claims[name] = value.into();
            }
        }
        token(claims)
    };
    for (iss, aud) in [(None, None), (Some("https://lms"), None), (None, Some("live")), (Some("x"), Some("live"))] {
        app.with_token(&with(iss, aud)).get("/sessions/").await.problem(401, "unauthorized");
    }
    app.with_token(&with(Some("https://lms"), Some("live"))).get("/sessions/").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_tenant_is_named_by_slug_or_id_and_unknown_roles_are_ignored() {
    let app = TestApp::start().await;
    let session = app.planned(json!({})).await;
    let id: uuid::Uuid =
        sqlx::query_scalar("select id from tenants where slug = 'okul'").fetch_one(&app.pool).await.unwrap();
    let by_id = app.somebody(&id.to_string(), "x", &["janitor", "admin"]);
    by_id.get(&path(&session, "")).await.expect(StatusCode::OK);
    let nobody = app.somebody("okul", "x", &["janitor", "Admin", "ADMIN"]);
    nobody.post("/sessions/", &crate::support::session(json!({}))).await.problem(403, "forbidden");
}

#[tokio::test]
async fn tokens_by_the_old_secret_are_taken_while_it_is_replaced() {
    const NEW: &str = "fedcba9876543210fedcba9876543210";
    let app = TestApp::start_with(&["--auth-jwt-secret", NEW, "--auth-jwt-old-secret", SECRET]).await;
    let signed = |secret: &str, claims: &serde_json::Value| {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    let mut claims = claims("okul", "teacher", &["instructor"]);
    for secret in [NEW, SECRET] {
        app.with_token(&signed(secret, &claims)).get("/sessions/").await.expect(StatusCode::OK);
    }
    app.with_token(&signed(&NEW.to_uppercase(), &claims)).get("/sessions/").await.problem(401, "unauthorized");
    claims["exp"] = json!(1);
    for secret in [NEW, SECRET] {
        let problem = app.with_token(&signed(secret, &claims)).get("/sessions/").await.problem(401, "unauthorized");
        assert!(problem["detail"].as_str().unwrap().contains("has expired"), "{problem}");
    }
}

#[tokio::test]
async fn tenant_and_roles_may_have_other_names() {
    let flags = ["--auth-jwt-tenant-claim", "school", "--auth-jwt-roles-claim", "https://lms/groups"];
    let app = TestApp::start_with(&flags).await;
    let mut claims =
        json!({"sub": "t", "exp": now().timestamp() + 600, "school": "okul", "https://lms/groups": ["instructor"]});
    app.with_token(&token(claims.clone())).post("/sessions/", &session(json!({}))).await.expect(StatusCode::CREATED);
    claims.as_object_mut().unwrap().remove("school");
    claims["tenant"] = json!("okul");
    let problem = app.with_token(&token(claims)).get("/sessions/").await.problem(401, "unauthorized");
    assert_eq!(problem["detail"], "The token has no claim school.");
}
