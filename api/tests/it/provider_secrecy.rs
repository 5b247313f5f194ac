//! Secrets of configurations come to light nowhere: not in answers, logs, jobs, the document, or any table.

use std::{
    io,
    sync::{Arc, Mutex},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{provider_configs::*, support::*};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every row of every table, as text.
async fn rows(app: &TestApp) -> String {
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
        .fetch_all(&app.pool)
        .await
        .unwrap();
    assert!(tables.iter().any(|table| table == "provider_secrets"));
    let mut all = String::new();
    for table in tables {
        let statement = format!("select coalesce(string_agg(t::text, E'\\n'), '') from {table} t");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(&app.pool).await.unwrap();
        all.push_str(&text);
    }
    all
}

#[tokio::test]
async fn a_secret_comes_to_light_nowhere() {
    let log = Log::default();
    let writer = {
        let log = log.clone();
        move || log.clone()
    };
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(writer).with_ansi(false).finish();
    // For all threads: a log of this one alone misses lines that another thread has come by first. The other tests' lines
    // are welcome: their secrets are the same.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let app = TestApp::start().await;
    let admin = app.admin();
    let mut seen = Vec::new();
    let refused = "a secret with a space in it";
    seen.push(admin.post("/provider-configs/", &jitsi("x", json!({"secrets": {"jwt_secret": refused}}))).await.text());
    let unknown = json!({"secrets": {"jwt_secret": JWT_SECRET, "other": "an-unknown-secret-field"}});
    seen.push(admin.post("/provider-configs/", &jitsi("x", unknown)).await.text());
    let made = app
        .configure_default(&jitsi("Main campus", json!({"settings": {"domain": "127.0.0.1:9", "app_id": "x"}})))
        .await;
    seen.push(made.to_string());
    seen.push(admin.post("/provider-configs/", &jitsi("Main campus", json!({}))).await.text());
    seen.push(admin.get("/provider-configs/").await.text());
    seen.push(admin.call(&config_path(&made, "test/")).await.text());
    let session = app.live(json!({})).await;
    seen.push(app.teacher().call(&path(&session, "join/")).await.text());
    let body = json!({"event_name": "muc-room-created", "room_name": session["room"], "created_at": now().timestamp()});
    for secret in [WEBHOOK_SECRET, JWT_SECRET] {
        let to = format!("/webhooks/jitsi/{}/", made["id"].as_str().unwrap());
        let request = app.anonymous().request(Method::POST, &to).bearer_auth(secret).json(&body);
        seen.push(answer(request).await.text());
    }
    app.sql("update provider_secrets set key_id = 'lost'").await;
    seen.push(admin.call(&config_path(&made, "test/")).await.text());
    seen.push(app.anonymous().get("//openapi.json").await.expect(StatusCode::OK).to_string());
    assert!(app.jobs().await.iter().any(|(kind, _): &(String, Value)| kind == "process-webhook"));
    let stored = rows(&app).await;

    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        logged.contains("a provider secret cannot be used") && logged.contains("a webhook was refused"),
        "{logged}"
    );
    let keys = SECRETS_KEYS.split_once(':').unwrap().1;
    for secret in [JWT_SECRET, WEBHOOK_SECRET, refused, "an-unknown-secret-field", keys] {
        let as_hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for (place, text) in [("answers", seen.concat()), ("log", logged.clone()), ("tables", stored.clone())] {
            assert!(!text.contains(secret) && !text.contains(&as_hex), "{secret} is in the {place}");
        }
    }
}
