//! What the tests of the whole system share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::Method;
use sandbox::{
    people::{self, Person},
    ports::free_port,
    postgres::Durability,
    services::{Launcher, Service, Supervised},
    system::{Options, System},
};
use serde_json::Value;
use shared::{clock::Clock, config::DatabaseConfig};
use sqlx::PgPool;

/// The sandbox's own program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sandbox");

pub async fn system(dir: &tempfile::TempDir, workers: usize, env: &[(&str, &str)]) -> System {
    System::start(Options {
        dir: dir.path().to_owned(),
        program: PROGRAM.into(),
        port: None,
        workers,
        durability: Durability::Fast,
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        on_line: Arc::new(on_line),
        on_progress: Arc::new(|_| {}),
    })
    .await
    .expect("the system starts")
}

/// The services' lines come on threads that cargo does not silence.
fn on_line(name: &str, line: &str) {
    if std::env::var_os("SHOW_LOGS").is_some() {
        println!("{name:<9} | {line}");
    }
}

/// One more process of the system; `kind` is `api`, `worker` or `scheduler`, `env` what is different for it.
pub fn launch(system: &System, dir: &tempfile::TempDir, kind: &'static str, env: &[(&str, &str)]) -> Launched {
    let port = free_port().expect("a free port");
    let address = format!("127.0.0.1:{port}");
    let variable = match kind {
        "api" => "API_ADDR",
        "scheduler" => "SCHEDULER_HEALTH_ADDR",
        _ => "WORKER_HEALTH_ADDR",
    };
    let mut own: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    own.insert(variable.to_owned(), address.clone());
    let service =
        Service { name: format!("{kind}-{port}"), kind, ready_url: format!("http://{address}/readyz"), env: own };
    let launcher = Launcher {
        program: PROGRAM.into(),
        env: system.env.clone(),
        pid_dir: dir.path().to_owned(),
        on_line: Arc::new(on_line),
    };
    let service = Supervised::start(&launcher, service).expect("the process starts");
    Launched { service, url: format!("http://{address}") }
}

/// A process beside those of the system.
pub struct Launched {
    pub service: Supervised,
    /// Where it listens.
    pub url: String,
}

impl Launched {
    pub async fn ready(&self) {
        self.service.ready().await.expect("it gets ready");
    }
}

pub async fn database(system: &System) -> PgPool {
    let config = DatabaseConfig { database_url: system.var("DATABASE_URL").to_owned(), database_pool: 4 };
    shared::db::connect(&config, "test").await.expect("the database answers")
}

/// Asks until the answer is yes, for at most a minute.
pub async fn eventually(what: &str, ask: impl AsyncFnMut() -> bool) {
    within(Duration::from_secs(60), what, ask).await;
}

/// Asks until the answer is yes, for at most so long.
pub async fn within(time: Duration, what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + time;
    while !ask().await {
        assert!(tokio::time::Instant::now() < deadline, "waited {} s for: {what}", time.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn count(db: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.expect("the count works")
}

/// Calls the API; anything but success fails the test.
pub async fn call(system: &System, person: &Person, method: Method, path: &str, body: Option<&Value>) -> Value {
    let token = people::token(person, system.var("AUTH_JWT_SECRET"), Clock::System.now()).expect("a token");
    let url = format!("{}/api/v1/live-sessions/{path}", system.var("API_URL"));
    let mut request = reqwest::Client::new().request(method.clone(), url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.expect("the API answers");
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert!(status.is_success(), "{method} {path}: {status} {text}");
    serde_json::from_str(&text).expect("JSON")
}

pub async fn post(system: &System, person: &Person, path: &str, body: &Value) -> Value {
    call(system, person, Method::POST, path, Some(body)).await
}
