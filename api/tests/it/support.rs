//! A running API with a database of its own, and clients that speak for people.

use std::{net::SocketAddr, time::Duration};

use api::config::Config;
use chrono::{DateTime, Utc};
use clap::Parser as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use sandbox::testing::{servers, unique_prefix};
use serde_json::{Value, json};
use shared::{clock::Clock, db, jobs::Queue, queue::redis::RedisQueues};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const JITSI_SECRET: &str = "jitsi-webhook-secret";
pub const JAAS_SECRET: &str = "whsec_9635df66714a4cf088ee9d0979dd3bf6";
pub const SECRETS_KEYS: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const BASE: &str = "/api/v1/live-sessions";

/// One API process with a database of its own and the tenants `okul` and `other`.
pub struct TestApp {
    pub address: SocketAddr,
    pub pool: PgPool,
    pub database_url: String,
    redis_prefix: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further settings, as on the command line.
    pub async fn start_with(more: &[&str]) -> Self {
        let database_url = servers().await.database(&db::MIGRATOR).await;
        Self::start_on(database_url, unique_prefix(), more).await
    }

    /// Another process on the same database and the same Redis.
    pub async fn replica(&self, more: &[&str]) -> Self {
        Self::start_on(self.database_url.clone(), self.redis_prefix.clone(), more).await
    }

    async fn start_on(database_url: String, prefix: String, more: &[&str]) -> Self {
        let servers = servers().await;
        let redis_url = servers.redis.url();
        let usual = [
            ("--database-url", database_url.as_str()),
            ("--database-pool", "8"),
            ("--redis-url", &redis_url),
            ("--redis-prefix", &prefix),
            ("--auth-jwt-secret", SECRET),
            ("--jitsi-domain", "meet.example.org"),
            ("--jitsi-app-id", "lms"),
            ("--jitsi-jwt-secret", SECRET),
            ("--jitsi-webhook-secret", JITSI_SECRET),
            ("--jaas-webhook-secret", JAAS_SECRET),
            ("--secrets-keys", SECRETS_KEYS),
            ("--s3-endpoint", servers.s3.endpoint()),
            ("--aws-access-key-id", servers.s3.access_key()),
            ("--aws-secret-access-key", servers.s3.secret_key()),
        ];
        let given = |flag: &str| more.contains(&flag);
        let usual = usual.into_iter().filter(|(flag, _)| !given(flag)).flat_map(|(flag, value)| [flag, value]);
        let arguments = ["api"].into_iter().chain(usual).chain(more.iter().copied());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Settings may name the process's own address.
        let arguments = arguments.map(|argument| argument.replace("{address}", &address.to_string()));
        let config = Config::try_parse_from(arguments).unwrap();
        let shutdown = CancellationToken::new();
        let served = api::serve(config, listener, shutdown.clone());
        tokio::spawn(async move { served.await.expect("the API serves until it is told to stop") });
        let pool = PgPool::connect(&database_url).await.unwrap();
        for slug in ["okul", "other"] {
            db::tenants::insert(&pool, slug, slug).await.unwrap();
        }
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self { address, pool, database_url, redis_prefix: prefix, http, shutdown }
    }

    /// Asks the process to stop, as SIGTERM does.
    pub fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Nobody in particular: no token.
    pub fn anonymous(&self) -> Client<'_> {
        Client { app: self, token: None }
    }

    /// Somebody with exactly this token.
    pub fn with_token(&self, token: &str) -> Client<'_> {
        Client { app: self, token: Some(token.to_owned()) }
    }

    pub fn somebody(&self, tenant: &str, id: &str, roles: &[&str]) -> Client<'_> {
        self.with_token(&token(claims(tenant, id, roles)))
    }

    pub fn teacher(&self) -> Client<'_> {
        self.somebody("okul", "teacher", &["instructor"])
    }

    pub fn student(&self, id: &str) -> Client<'_> {
        self.somebody("okul", id, &["student"])
    }

    pub fn admin(&self) -> Client<'_> {
        self.somebody("okul", "admin", &["admin"])
    }

    pub fn service(&self) -> Client<'_> {
        self.somebody("okul", "lms", &["service"])
    }

    /// Administrator of another tenant.
    pub fn foreigner(&self) -> Client<'_> {
        self.somebody("other", "admin", &["admin"])
    }

    /// A session of the teacher's, open to the tenant, that starts in an hour.
    pub async fn planned(&self, changes: Value) -> Value {
        self.teacher().post("/sessions/", &session(changes)).await.expect(StatusCode::CREATED)
    }

    /// A session that is live now, open to the tenant.
    pub async fn live(&self, changes: Value) -> Value {
        let mut body = json!({"title": "Algebra", "kind": "instant", "access": "tenant"});
        merge(&mut body, changes);
        self.teacher().post("/sessions/", &body).await.expect(StatusCode::CREATED)
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Runs a statement on the database, to make a state that takes time to come about.
    pub async fn sql(&self, statement: &str) -> u64 {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&self.pool).await.unwrap().rows_affected()
    }

    /// Kinds of the jobs in the ledger, oldest first.
    pub async fn jobs(&self) -> Vec<(String, Value)> {
        sqlx::query_as("select kind, payload from jobs order by id").fetch_all(&self.pool).await.unwrap()
    }

    /// How many jobs were brought to the workers.
    pub async fn delivered(&self) -> usize {
        let redis = RedisQueues::connect(&servers().await.redis.url(), &self.redis_prefix).unwrap();
        let mut delivered = 0;
        for queue in Queue::ALL {
            delivered += redis.depth(queue).await.unwrap();
        }
        delivered
    }

    /// `mail/person/step/state` of the planned mails.
    pub async fn mails(&self, session: &Value) -> Vec<String> {
        sqlx::query_scalar(
            "select format('%s %s %s %s', mail, person_id, step, state) from reminders \
             where session_id = $1::uuid order by 1",
        )
        .bind(session["id"].as_str().unwrap())
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }
}

/// Who speaks.
pub struct Client<'a> {
    app: &'a TestApp,
    token: Option<String>,
}

impl Client<'_> {
    /// A request to an address below [`BASE`], or, after `//`, anywhere.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = match path.strip_prefix("//") {
            Some(root) => format!("/{root}"),
            None => format!("{BASE}{path}"),
        };
        let request = self.app.http.request(method, format!("http://{}{path}", self.app.address));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// With an idempotency key.
    pub async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    /// Without a body.
    pub async fn call(&self, path: &str) -> Answer {
        answer(self.request(Method::POST, path)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap().to_vec();
    let answer = Answer { status, headers, bytes };
    if status.is_client_error() || status.is_server_error() {
        answer.is_problem();
    }
    answer
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON body of an answer with this status.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// A problem with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.json()["code"].as_str()), (status, Some(code)), "{}", self.text());
        self.json()
    }

    /// Pointers of all faults, for a 422.
    #[track_caller]
    pub fn pointers(self) -> Vec<String> {
        let problem = self.problem(422, "validation-failed");
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect()
    }

    /// Every failure is a whole problem document; health answers alone have a form of their own.
    #[track_caller]
    fn is_problem(&self) {
        let kind = self.header("content-type");
        if kind == "application/json" && self.status == StatusCode::SERVICE_UNAVAILABLE {
            return;
        }
        assert_eq!(kind, "application/problem+json", "{}", self.text());
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        assert_eq!(body["type"], format!("/problems/{}", body["code"].as_str().unwrap()));
        assert_eq!(body["request_id"], self.header("x-request-id"));
        for text in ["title", "detail", "request_id"] {
            assert!(body[text].as_str().is_some_and(|t| !t.is_empty()), "{text}: {body}");
        }
        if self.status == StatusCode::UNAUTHORIZED {
            assert!(self.header("www-authenticate").starts_with("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(!self.header("retry-after").is_empty());
        }
    }
}

/// A good session of the teacher's in an hour, with changes.
pub fn session(changes: Value) -> Value {
    let mut body = json!({
        "title": "Algebra II", "access": "tenant",
        "starts_at": in_minutes(60), "ends_at": in_minutes(120), "timezone": "Europe/Istanbul",
    });
    merge(&mut body, changes);
    body
}

fn merge(body: &mut Value, changes: Value) {
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
}

pub fn path(session: &Value, rest: &str) -> String {
    format!("/sessions/{}/{rest}", session["id"].as_str().unwrap())
}

pub fn now() -> DateTime<Utc> {
    Clock::System.now()
}

/// A moment from now, to the second.
pub fn in_minutes(minutes: i64) -> String {
    (now() + chrono::Duration::minutes(minutes)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

pub fn claims(tenant: &str, id: &str, roles: &[&str]) -> Value {
    json!({
        "sub": id, "tenant": tenant, "roles": roles, "name": format!("Name of {id}"),
        "email": format!("{id}@okul.example"), "exp": now().timestamp() + 600,
    })
}

pub fn token(claims: Value) -> String {
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// Polls until the condition holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
