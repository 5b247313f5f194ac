use std::collections::BTreeSet;

use api::router::WITHOUT_KEY;
use reqwest::{Method, StatusCode};
use sandbox::proxy::Proxy;
use serde_json::{Value, json};

use crate::{
    provider_configs::{config_path, jitsi},
    support::*,
    webhooks::webhook_event,
};

const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";
const REPLAYED: &str = "idempotent-replayed";

fn plan() -> Value {
    session(json!({"title": "Once"}))
}

/// Where a POST of the document goes and what it takes, so that it succeeds; and who sends it.
async fn good<'a>(app: &'a TestApp, operation: &str) -> (Client<'a>, String, Value) {
    let operator = || app.somebody("other", "op", &["operator"]);
    let job = async |state: &str| {
        let id = uuid::Uuid::now_v7();
        let insert = "insert into jobs (id, queue, kind, payload, max_attempts, state) values ($1, 'default', 'noop', '{}', 1, $2)";
        sqlx::query(insert).bind(id).bind(state).execute(&app.pool).await.unwrap();
        id
    };
    let verb = operation.trim_end_matches('/').rsplit('/').next().unwrap();
    match operation {
        "/sessions/" => (app.teacher(), operation.to_owned(), plan()),
        "/sessions/{id}/start/" | "/sessions/{id}/cancel/" => {
            (app.teacher(), path(&app.planned(json!({})).await, &format!("{verb}/")), json!({}))
        }
        "/sessions/{id}/end/" | "/sessions/{id}/join/" => {
            (app.teacher(), path(&app.live(json!({})).await, &format!("{verb}/")), json!({}))
        }
        "/sessions/{id}/participants/{person_id}/remove/" => {
            // At the environment's Jitsi, which takes commands.
            app.sql("update provider_configs set is_default = false").await;
            (app.teacher(), path(&app.live(json!({})).await, "participants/s1/remove/"), json!({}))
        }
        "/sessions/{id}/heartbeat/" | "/sessions/{id}/leave/" => {
            let made = app.live(json!({})).await;
            app.student("s1").call(&path(&made, "join/")).await.expect(StatusCode::OK);
            (app.student("s1"), path(&made, &format!("{verb}/")), json!({}))
        }
        "/sessions/{id}/attendance-objections/" => (
            app.student("s1"),
            path(&app.live(json!({})).await, "attendance-objections/"),
            json!({"reason": "I was there"}),
        ),
        "/sessions/{id}/attendance-objections/{person_id}/refuse/" => {
            let made = app.live(json!({})).await;
            let reason = json!({"reason": "I was there"});
            app.student("s1").post(&path(&made, "attendance-objections/"), &reason).await.expect(StatusCode::CREATED);
            (app.teacher(), path(&made, "attendance-objections/s1/refuse/"), json!({"reason": "You were not"}))
        }
        "/people/{person_id}/erase/" => (app.admin(), "/people/s7/erase/".to_owned(), json!({})),
        "/recordings/{id}/retry/" => {
            let made = app.live(json!({})).await;
            let at = crate::recordings::record(app, &made, "failed", None).await;
            (app.teacher(), format!("{at}retry/"), json!({}))
        }
        "/jobs/retry-dead/" => {
            job("dead").await;
            (operator(), operation.to_owned(), json!({}))
        }
        "/jobs/{id}/retry/" | "/jobs/{id}/discard/" => {
            (operator(), operation.replace("{id}", &job("dead").await.to_string()), json!({}))
        }
        "/jobs/{id}/cancel/" => (operator(), operation.replace("{id}", &job("available").await.to_string()), json!({})),
        "/queues/{name}/pause/" | "/queues/{name}/resume/" => {
            (operator(), operation.replace("{name}", "default"), json!({}))
        }
        "/schedules/{name}/run/" => {
            app.sql("insert into schedules (name, cron, zone, enabled) values ('cleanup', '0 3 * * *', 'UTC', true)")
                .await;
            (operator(), operation.replace("{name}", "cleanup"), json!({}))
        }
        "/api-keys/" => (app.admin(), operation.to_owned(), json!({"name": "LMS", "roles": ["service"]})),
        "/provider-configs/" => (app.admin(), operation.to_owned(), jitsi("Campus", json!({}))),
        "/provider-configs/{id}/make-default/" => {
            let made = app.configure(&jitsi(verb, json!({}))).await;
            (app.admin(), config_path(&made, &format!("{verb}/")), json!({}))
        }
        "/webhook-events/{id}/replay/" => {
            (app.admin(), operation.replace("{id}", &webhook_event(app).await), json!({}))
        }
        new => panic!("{new}: say here how it succeeds"),
    }
}

#[tokio::test]
async fn every_post_of_the_document_gives_its_first_answer_again() {
    // What a Prosody answers that has removed somebody.
    let prosody = axum::Router::new().fallback(async || axum::Json(json!({"removed": 1})));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control_url = format!("http://{}/webhook-control", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, prosody).await });
    let control = ["--jitsi-control-url", &control_url, "--jitsi-control-secret", "the-control-secret-of-tests"];
    let app = TestApp::start_with(&control).await;
    let document = app.anonymous().get("//openapi.json").await.expect(StatusCode::OK);
    let paths = document["paths"].as_object().unwrap().iter().filter(|(_, item)| item.get("post").is_some());
    let mut tried = 0;
    for (operation, item) in
        paths.filter(|(path, _)| !path.contains("/webhooks/") && !WITHOUT_KEY.contains(&path.as_str()))
    {
        let operation = operation.strip_prefix(BASE).unwrap();
        let (client, to, body) = good(&app, operation).await;
        let effects = async || {
            let tables = [
                "sessions",
                "participants",
                "jobs where state <> 'dead'",
                "reminders",
                "api_keys",
                "provider_configs",
                "attendance_objections",
                "erasures",
                "idempotency_keys",
            ];
            let mut counts = Vec::new();
            for table in tables {
                counts.push(app.count(table).await);
            }
            counts
        };
        let first = client.post_once(&to, KEY, &body).await;
        assert!(first.status.is_success(), "{operation}: {} {}", first.status, first.text());
        assert!(first.headers.get(REPLAYED).is_none(), "{operation}");
        let after = effects().await;
        let again = client.post_once(&to, KEY, &body).await;
        assert_eq!((again.status, &again.bytes), (first.status, &first.bytes), "{operation}");
        assert_eq!(again.header(REPLAYED), "true", "{operation}");
        for name in ["content-type", "location", "etag", "cache-control"] {
            assert_eq!(again.headers.get(name), first.headers.get(name), "{operation}: {name}");
        }
        assert_eq!(effects().await, after, "{operation}: no second effect");
        let other = client.post_once(&format!("{to}?other"), KEY, &body).await;
        other.problem(422, "idempotency-key-reused");
        // It is documented.
        let post = &item["post"];
        assert!(post["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "idempotency-key"), "{operation}");
        for status in ["400", "409", "422", "429"] {
            assert!(post["responses"].get(status).is_some(), "{operation}: {status}");
        }
        tried += 1;
    }
    assert!(tried >= 14, "{tried}");
}

#[tokio::test]
async fn sixty_four_posts_with_one_key_on_two_replicas_make_one_session() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let (one, other, body) = (app.teacher(), replica.teacher(), plan());
    let posts = (0..64)
        .map(|n| if n % 2 == 0 { &one } else { &other })
        .map(|client| client.post_once("/sessions/", KEY, &body));
    let mut made = BTreeSet::new();
    for answer in futures::future::join_all(posts).await {
        match answer.status {
            StatusCode::CREATED => drop(made.insert(answer.text())),
            _ => {
                assert_eq!(answer.header("retry-after"), "1");
                answer.problem(409, "idempotency-key-in-use");
            }
        }
    }
    assert_eq!((made.len(), app.count("sessions").await), (1, 1));
    assert_eq!(other.post_once("/sessions/", KEY, &body).await.text(), *made.first().unwrap());
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_caller_of_one_tenant() {
    let app = TestApp::start().await;
    let body = plan();
    app.teacher().post_once("/sessions/", KEY, &body).await.expect(StatusCode::CREATED);
    let other_body = session(json!({"title": "Twice"}));
    app.teacher().post_once("/sessions/", KEY, &other_body).await.problem(422, "idempotency-key-reused");
    for client in [app.admin(), app.somebody("other", "teacher", &["instructor"])] {
        let answer = client.post_once("/sessions/", KEY, &body).await;
        assert!(answer.headers.get(REPLAYED).is_none());
        answer.expect(StatusCode::CREATED);
    }
    // Quotes are how structured fields write a text; the key is the same.
    let quoted = app.teacher().post_once("/sessions/", &format!("\"{KEY}\""), &body).await;
    assert_eq!(quoted.header(REPLAYED), "true");
    assert_eq!(app.count("sessions").await, 3);
    // Another kind of request may use it as well.
    let made = quoted.expect(StatusCode::CREATED);
    app.teacher().post_once(&path(&made, "start/"), KEY, &json!({})).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_key_is_new_after_a_day() {
    let app = TestApp::start().await;
    let body = plan();
    let first = app.teacher().post_once("/sessions/", KEY, &body).await.expect(StatusCode::CREATED);
    app.sql("update idempotency_keys set created_at = created_at - interval '23 hours 59 minutes'").await;
    assert_eq!(app.teacher().post_once("/sessions/", KEY, &body).await.expect(StatusCode::CREATED), first);
    app.sql("update idempotency_keys set created_at = created_at - interval '1 minute'").await;
    let second = app.teacher().post_once("/sessions/", KEY, &body).await.expect(StatusCode::CREATED);
    assert_ne!(second["id"], first["id"]);
    assert_eq!(app.teacher().post_once("/sessions/", KEY, &body).await.expect(StatusCode::CREATED), second);
    assert_eq!((app.count("sessions").await, app.count("idempotency_keys").await), (2, 1));
}

#[tokio::test]
async fn what_was_refused_is_judged_anew() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let (student, to) = (app.student("s1"), path(&made, "join/"));
    student.post_once(&to, KEY, &json!({})).await.problem(409, "join-not-open");
    app.teacher().call(&path(&made, "start/")).await.expect(StatusCode::OK);
    student.post_once(&to, KEY, &json!({})).await.expect(StatusCode::OK);
    // So a mended body may come with the same key.
    app.teacher().post_once("/sessions/", KEY, &json!({})).await.problem(422, "validation-failed");
    app.teacher().post_once("/sessions/", KEY, &plan()).await.expect(StatusCode::CREATED);
    assert_eq!(app.count("idempotency_keys").await, 2);
}

#[tokio::test]
async fn a_repeat_while_the_first_is_running_is_told_to_wait() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let mut holder = app.pool.begin().await.unwrap();
    sqlx::query("select from sessions for update").execute(&mut *holder).await.unwrap();
    let (teacher, to) = (app.teacher(), path(&made, "end/"));
    let repeat = async {
        eventually("the first waits for the row", async || {
            app.count("pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()").await == 1
        })
        .await;
        let answer = teacher.post_once(&to, KEY, &json!({})).await;
        assert_eq!(answer.header("retry-after"), "1");
        answer.problem(409, "idempotency-key-in-use");
        holder.rollback().await.unwrap();
    };
    let body = json!({});
    let (first, ()) = tokio::join!(teacher.post_once(&to, KEY, &body), repeat);
    let first = first.expect(StatusCode::OK);
    let again = teacher.post_once(&to, KEY, &json!({})).await;
    assert_eq!(again.header(REPLAYED), "true");
    assert_eq!(again.expect(StatusCode::OK), first);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_by_the_repeat() {
    let app = TestApp::start().await;
    let url = url::Url::parse(&app.database_url).unwrap();
    let postgres = Proxy::start(url.port().unwrap()).await.unwrap();
    let over_proxy = app.database_url.replace(&format!(":{}", url.port().unwrap()), &format!(":{}", postgres.port()));
    let lossy = app.replica(&["--database-url", &over_proxy]).await;
    let body = plan();
    lossy.teacher().get("/sessions/").await.expect(StatusCode::OK);
    // The commit arrives, its answer does not: nobody but Postgres knows.
    postgres.lose_answers("COMMIT", 1);
    lossy.teacher().post_once("/sessions/", KEY, &body).await.problem(503, "unavailable");
    assert_eq!((postgres.still_losing(), app.count("sessions").await), (0, 1));
    let again = lossy.teacher().post_once("/sessions/", KEY, &body).await;
    assert_eq!(again.header(REPLAYED), "true");
    let made = again.expect(StatusCode::CREATED);
    assert_eq!(app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK)["title"], "Once");
    // The connection breaks before, with the session's row: nothing was done, and the repeat does it.
    postgres.lose_answers("Once", 1);
    lossy.teacher().post_once("/sessions/", "another", &body).await.problem(503, "unavailable");
    assert_eq!((postgres.still_losing(), app.count("sessions").await), (0, 1));
    eventually("Postgres notices", async || {
        lossy.teacher().post_once("/sessions/", "another", &body).await.status == StatusCode::CREATED
    })
    .await;
    assert_eq!(app.count("sessions").await, 2);
}

#[tokio::test]
async fn a_request_that_takes_too_long_leaves_its_key_free() {
    let app = TestApp::start_with(&["--request-timeout", "1"]).await;
    let made = app.live(json!({})).await;
    let mut holder = app.pool.begin().await.unwrap();
    sqlx::query("select from sessions for update").execute(&mut *holder).await.unwrap();
    let (teacher, to) = (app.teacher(), path(&made, "end/"));
    teacher.post_once(&to, KEY, &json!({})).await.problem(503, "timeout");
    holder.rollback().await.unwrap();
    eventually("the key is free", async || teacher.post_once(&to, KEY, &json!({})).await.status == StatusCode::OK)
        .await;
    assert_eq!(app.jobs().await.len(), 1);
}

#[tokio::test]
async fn kept_answers_cannot_be_read_in_the_database() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let join = async || {
        let answer = app.student("s1").post_once(&path(&made, "join/"), KEY, &json!({})).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.expect(StatusCode::OK)
    };
    let (first, again) = (join().await, join().await);
    assert_eq!((&first, app.count("participants").await), (&again, 1));
    let row: Vec<u8> =
        sqlx::query_scalar("select id || answer from idempotency_keys").fetch_one(&app.pool).await.unwrap();
    for secret in [first["token"].as_str().unwrap(), "join_url", KEY] {
        assert!(!row.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }
}

#[tokio::test]
async fn keys_that_are_none_are_refused_and_other_methods_ignore_them() {
    let app = TestApp::start().await;
    let long = "x".repeat(256);
    for key in ["", "\"\"", "\"open", &long] {
        app.teacher().post_once("/sessions/", key, &plan()).await.problem(400, "invalid-idempotency-key");
    }
    let twice = app.teacher().request(Method::POST, "/sessions/").header("idempotency-key", "a");
    answer(twice.header("idempotency-key", "b").json(&plan())).await.problem(400, "invalid-idempotency-key");
    app.anonymous().post_once("/sessions/", "", &plan()).await.problem(401, "unauthorized");
    let get = app.teacher().request(Method::GET, "/sessions/").header("idempotency-key", "");
    answer(get).await.expect(StatusCode::OK);
    assert_eq!(app.count("idempotency_keys").await, 0);
}

#[tokio::test]
async fn jobs_of_a_request_with_a_key_are_delivered_at_its_commit() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    app.teacher().post_once(&path(&made, "end/"), KEY, &json!({})).await.expect(StatusCode::OK);
    eventually("the job is in Redis", async || app.delivered().await == 1).await;
    app.teacher().post_once(&path(&made, "end/"), KEY, &json!({})).await.expect(StatusCode::OK);
    assert_eq!(app.jobs().await.len(), 1);
}
