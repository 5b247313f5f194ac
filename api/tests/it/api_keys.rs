use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

/// A new key of the school's, made by its administrator.
async fn made(app: &TestApp, roles: &[&str]) -> Value {
    app.admin().post("/api-keys/", &json!({"name": "Import", "roles": roles})).await.expect(StatusCode::CREATED)
}

fn at(key: &Value) -> String {
    format!("/api-keys/{}/", key["id"].as_str().unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn a_key_is_shown_once_works_until_it_is_revoked_and_stays_on_record() {
    let app = TestApp::start().await;
    let answer = app.admin().post("/api-keys/", &json!({"name": "Import", "roles": ["service"]})).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let location = answer.header("location").strip_prefix(BASE).unwrap().to_owned();
    let key = answer.expect(StatusCode::CREATED);
    assert_eq!(location, at(&key));
    let secret = text(&key["key"]);
    assert!(secret.starts_with(text(&key["prefix"])) && secret.len() == 101, "{key}");

    let machine = app.with_token(secret);
    let session = machine.post("/sessions/", &session(json!({"host_id": "teacher"}))).await.expect(StatusCode::CREATED);
    let id = text(&key["id"]);
    assert_eq!(session["created_by"], format!("api-key:{id}"));
    // It plans and runs classes, but is nobody in them, and makes no keys.
    machine.call(&path(&session, "start/")).await.expect(StatusCode::OK);
    machine.call(&path(&session, "join/")).await.problem(403, "forbidden");
    machine.get("/api-keys/").await.problem(403, "forbidden");
    machine.get("/jobs/").await.problem(403, "forbidden");

    let shown = app.admin().get(&at(&key)).await.expect(StatusCode::OK);
    assert_eq!(shown["key"], Value::Null);
    assert_eq!(
        (&shown["name"], &shown["roles"], &shown["created_by"]),
        (&json!("Import"), &json!(["service"]), &json!("admin"))
    );
    let stored: String = sqlx::query_scalar("select api_keys::text from api_keys").fetch_one(&app.pool).await.unwrap();
    assert!(!stored.contains(secret.rsplit('_').next().unwrap()), "the secret is kept: {stored}");

    // Twice is as good as once, and the first time stands.
    assert_eq!(app.admin().delete(&at(&key)).await.status, StatusCode::NO_CONTENT);
    let revoked = app.admin().get(&at(&key)).await.expect(StatusCode::OK)["revoked_at"].clone();
    assert_eq!(app.admin().delete(&at(&key)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.admin().get(&at(&key)).await.expect(StatusCode::OK)["revoked_at"], revoked);
    assert!(revoked.is_string());
    let problem = machine.get("/sessions/").await.problem(401, "unauthorized");
    assert!(text(&problem["detail"]).contains("revoked"), "{problem}");
}

#[tokio::test]
async fn a_revoked_key_ends_in_other_processes_within_seconds() {
    let app = TestApp::start().await;
    let other = TestApp::start_with(&["--database-url", &app.database_url]).await;
    let key = made(&app, &["service"]).await;
    let machine = other.with_token(text(&key["key"]));
    machine.get("/sessions/").await.expect(StatusCode::OK);
    app.admin().delete(&at(&key)).await;
    let revoked = std::time::Instant::now();
    eventually("it is refused", async || machine.get("/sessions/").await.status == StatusCode::UNAUTHORIZED).await;
    assert!(revoked.elapsed().as_secs() < 7, "{:?}", revoked.elapsed());
}

#[tokio::test]
async fn what_is_no_key_or_not_in_force_is_refused_as_a_token_is() {
    let app = TestApp::start().await;
    let (key, other) = (made(&app, &["service"]).await, made(&app, &["service"]).await);
    let (secret, other_secret) = (text(&key["key"]), text(&other["key"]));
    let unknown = format!("lsk_{}_{}", uuid::Uuid::now_v7().simple(), "0".repeat(64));
    let mixed = format!("{}_{}", text(&key["prefix"]), other_secret.rsplit('_').next().unwrap());
    let bad = [
        unknown,
        mixed,
        text(&key["prefix"]).to_owned(),
        secret[..100].to_owned(),
        format!("{secret}0"),
        format!("lsk_{}", secret[4..].to_uppercase()),
        "lsk_".to_owned(),
        format!("lsk_{}", "_".repeat(97)),
    ];
    for wrong in bad {
        let answer = app.with_token(&wrong).get("/sessions/").await;
        assert!(answer.header("www-authenticate").ends_with("error=\"invalid_token\""), "{wrong}");
        // One sentence for all: who does not hold the secret learns nothing of a key.
        assert_eq!(answer.problem(401, "unauthorized")["detail"], "The API key is not known here.", "{wrong}");
    }
    let request = app.anonymous().request(Method::GET, "/sessions/");
    answer(request.basic_auth("key", Some(secret))).await.problem(401, "unauthorized");
    answer(app.anonymous().request(Method::GET, &format!("/sessions/?key={secret}")))
        .await
        .problem(401, "unauthorized");

    app.sql("update api_keys set expires_at = now() - interval '1 second'").await;
    // The one whose row nobody remembers.
    let problem = app.with_token(other_secret).get("/sessions/").await.problem(401, "unauthorized");
    assert!(text(&problem["detail"]).contains("expired"), "{problem}");
}

#[tokio::test]
async fn keys_are_for_administrators_of_their_own_tenant() {
    let app = TestApp::start().await;
    let key = made(&app, &["admin"]).await;
    let new = json!({"name": "x", "roles": ["service"]});
    let operator = app.somebody("okul", "op", &["operator"]);
    for client in [app.teacher(), app.student("s1"), app.service(), operator] {
        client.get("/api-keys/").await.problem(403, "forbidden");
        client.post("/api-keys/", &new).await.problem(403, "forbidden");
        client.get(&at(&key)).await.problem(403, "forbidden");
        client.delete(&at(&key)).await.problem(403, "forbidden");
    }
    for answer in [app.anonymous().get("/api-keys/").await, app.anonymous().post("/api-keys/", &new).await] {
        answer.problem(401, "unauthorized");
    }
    let foreigner = app.foreigner();
    foreigner.get(&at(&key)).await.problem(404, "not-found");
    foreigner.delete(&at(&key)).await.problem(404, "not-found");
    assert_eq!(foreigner.get("/api-keys/").await.expect(StatusCode::OK)["results"], json!([]));
    // The key of one school is nobody in the other.
    let machine = app.with_token(text(&key["key"]));
    let elsewhere = foreigner.post("/sessions/", &session(json!({}))).await.expect(StatusCode::CREATED);
    machine.get(&path(&elsewhere, "")).await.problem(404, "not-found");
    assert_eq!(machine.get("/sessions/").await.expect(StatusCode::OK)["results"], json!([]));
    assert_eq!(app.count("api_keys").await, 1);
}

#[tokio::test]
async fn a_key_makes_no_key_that_outlives_it() {
    let app = TestApp::start().await;
    let new = |expires_at: Option<String>| {
        let mut body = json!({"name": "x", "roles": ["admin"]});
        if let Some(at) = expires_at {
            body["expires_at"] = at.into();
        }
        body
    };
    let key = app.admin().post("/api-keys/", &new(Some(in_minutes(60)))).await.expect(StatusCode::CREATED);
    let machine = app.with_token(text(&key["key"]));
    assert_eq!(machine.post("/api-keys/", &new(Some(in_minutes(61)))).await.pointers(), ["/expires_at"]);
    let child = machine.post("/api-keys/", &new(None)).await.expect(StatusCode::CREATED);
    assert_eq!(child["expires_at"], key["expires_at"]);
    assert_eq!(text(&child["created_by"]), format!("api-key:{}", text(&key["id"])));
    machine.post("/api-keys/", &new(Some(in_minutes(30)))).await.expect(StatusCode::CREATED);
    let grandchild =
        app.with_token(text(&child["key"])).post("/api-keys/", &new(None)).await.expect(StatusCode::CREATED);
    // A machine may end itself, and so those that it made.
    assert_eq!(machine.delete(&at(&key)).await.status, StatusCode::NO_CONTENT);
    machine.get("/sessions/").await.problem(401, "unauthorized");
    for made in [&child, &grandchild] {
        assert!(!app.admin().get(&at(made)).await.expect(StatusCode::OK)["revoked_at"].is_null(), "{made}");
    }
}

#[tokio::test]
async fn all_faults_of_a_new_key_are_told() {
    let app = TestApp::start().await;
    let faults = async |body: Value| app.admin().post("/api-keys/", &body).await.pointers();
    assert_eq!(faults(json!({})).await, ["/name", "/roles"]);
    let all = json!({"name": " ", "roles": ["operator"], "expires_at": in_minutes(-1), "secret": "x"});
    assert_eq!(faults(all).await, ["/expires_at", "/name", "/roles/0", "/secret"]);
    for roles in [json!([]), json!("admin"), json!(null), json!(["admin", "admin", "service"])] {
        assert_eq!(faults(json!({"name": "x", "roles": roles})).await, ["/roles"]);
    }
    for role in ["student", "instructor", "operator", "Admin"] {
        assert_eq!(faults(json!({"name": "x", "roles": [role]})).await, ["/roles/0"]);
    }
    for end in ["+262142-01-01T00:00:00Z", "tomorrow", "0001-01-01T00:00:00Z"] {
        assert_eq!(
            faults(json!({"name": "x", "roles": ["service"], "expires_at": end})).await,
            ["/expires_at"],
            "{end}"
        );
    }
    assert_eq!(app.count("api_keys").await, 0);
    let both = made(&app, &["service", "admin"]).await;
    assert_eq!(both["roles"], json!(["admin", "service"]));
}

#[tokio::test]
async fn the_list_is_in_pages_newest_first() {
    let app = TestApp::start().await;
    for n in 0..5 {
        let body = json!({"name": format!("{n}"), "roles": ["service"]});
        app.admin().post("/api-keys/", &body).await.expect(StatusCode::CREATED);
    }
    let (mut to, mut names) = (Some("/api-keys/?page_size=2".to_owned()), Vec::new());
    while let Some(address) = to {
        let page = app.admin().get(&address).await.expect(StatusCode::OK);
        for key in page["results"].as_array().unwrap() {
            assert!(key.get("key").is_none() && key.get("hash").is_none(), "{key}");
            names.push(text(&key["name"]).to_owned());
        }
        to = page["next"].as_str().map(|link| link.strip_prefix(BASE).unwrap().to_owned());
    }
    assert_eq!(names, ["4", "3", "2", "1", "0"]);
}

#[tokio::test]
async fn the_last_use_is_noted_once_a_minute() {
    let app = TestApp::start().await;
    let key = made(&app, &["service"]).await;
    let machine = app.with_token(text(&key["key"]));
    let last = async || {
        let used: Option<chrono::DateTime<chrono::Utc>> =
            sqlx::query_scalar("select last_used_at from api_keys").fetch_one(&app.pool).await.unwrap();
        used
    };
    // Somebody who only knows its beginning does not use it.
    let guess = format!("{}_{}", text(&key["prefix"]), "0".repeat(64));
    app.with_token(&guess).get("/sessions/").await.problem(401, "unauthorized");
    assert_eq!(last().await, None);
    machine.get("/sessions/").await.expect(StatusCode::OK);
    eventually("the use is noted", async || last().await.is_some()).await;
    // Another process at the same time, and this one after it has forgotten the row: neither writes again.
    app.sql("update api_keys set last_used_at = now() - interval '50 seconds'").await;
    let noted = last().await;
    let other = TestApp::start_with(&["--database-url", &app.database_url]).await;
    for _ in 0..3 {
        other.with_token(text(&key["key"])).get("/sessions/").await.expect(StatusCode::OK);
    }
    db_is_quiet(&app).await;
    assert_eq!(last().await, noted);
    app.sql("update api_keys set last_used_at = now() - interval '61 seconds'").await;
    let third = TestApp::start_with(&["--database-url", &app.database_url]).await;
    third.with_token(text(&key["key"])).get("/sessions/").await.expect(StatusCode::OK);
    eventually("the next use is noted", async || last().await > noted).await;
}

/// Until no statement on `api_keys` runs or waits any more.
async fn db_is_quiet(app: &TestApp) {
    eventually("the database is quiet", async || {
        let busy: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and state <> 'idle' \
               and query like '%api_keys%' and pid <> pg_backend_pid()",
        )
        .fetch_one(&app.pool)
        .await
        .unwrap();
        busy == 0
    })
    .await;
}
