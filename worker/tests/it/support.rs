//! A worker on a database of its own, and short ways to fill that.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use sandbox::testing::{BUCKET, TestServers, servers, unique_prefix};
use serde_json::{Value, json};
use shared::{
    db,
    domain::ids::{JobId, RecordingId, ReminderId, SessionId, TenantId, WebhookEventId},
    jobs::Job,
    queue::{
        Cause, Dispatcher, Tx,
        ledger::{self, Claimed},
        redis::RedisQueues,
    },
};
use tokio_util::sync::CancellationToken;
use worker::{Config, handlers, run::Engine, state::State};

pub struct TestWorker {
    pub servers: &'static TestServers,
    pub engine: Arc<Engine>,
    pub stop: CancellationToken,
    /// Belongs to this test alone.
    pub unique: String,
    pub tenant: TenantId,
    /// The whole second in which the test began: all its times count from here.
    now: DateTime<Utc>,
}

/// A job after its run.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct JobRow {
    pub id: JobId,
    pub state: String,
    pub attempt: i32,
    pub errors: Value,
    /// Seconds until it runs again.
    pub wait_seconds: f64,
}

impl JobRow {
    pub fn error(&self) -> String {
        self.errors.as_array().and_then(|all| all.last()).map(|last| last["error"].to_string()).unwrap_or_default()
    }
}

impl TestWorker {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A worker whose settings differ.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let servers = servers().await;
        let unique = unique_prefix();
        let url = servers.database(&db::MIGRATOR).await;
        let (redis, smtp, host) = (servers.redis.url(), servers.smtp.url(), servers.recording_host.url());
        let settings = [
            ("--database-url", url.as_str()),
            ("--database-pool", "8"),
            ("--redis-url", &redis),
            ("--redis-prefix", &unique),
            ("--s3-endpoint", servers.s3.endpoint()),
            ("--s3-bucket", BUCKET),
            ("--s3-region", "us-east-1"),
            ("--aws-access-key-id", servers.s3.access_key()),
            ("--aws-secret-access-key", servers.s3.secret_key()),
            ("--smtp-url", &smtp),
            ("--mail-from", "Live sessions <live@school.test>"),
            ("--session-url", "https://lms.test/live/{id}"),
            ("--recording-hosts", host.trim_start_matches("http://")),
        ];
        let settings = settings.iter().flat_map(|(name, value)| [*name, *value]);
        let mut config =
            Config::parse_from(["worker"].into_iter().chain(settings).chain(["--recording-allow-private"]));
        change(&mut config);
        let pool = db::connect(&config.database, "worker-test").await.unwrap();
        let redis = RedisQueues::connect(&config.redis.redis_url, &config.redis.redis_prefix).unwrap();
        let state = State::new(config, pool.clone(), Dispatcher::start(redis)).await.unwrap();
        let tenant = db::tenants::insert(&pool, "okul", "Deneme Okulu").await.unwrap();
        let now = sqlx::query_scalar("select date_trunc('second', now())").fetch_one(&pool).await.unwrap();
        let stop = CancellationToken::new();
        let engine = Engine::new(state, handlers::registry(), stop.clone());
        Self { servers, engine, stop, unique, tenant, now }
    }

    pub fn state(&self) -> &State {
        &self.engine.state
    }

    pub fn db(&self) -> &sqlx::PgPool {
        &self.engine.state.db
    }

    /// As the owner of the tables, who may do what the services may not.
    pub async fn owner(&self) -> sqlx::PgPool {
        sqlx::PgPool::connect(&self.state().config.database.database_url).await.unwrap()
    }

    /// A transaction that sees all tenants.
    pub async fn begin(&self) -> Tx {
        Tx::begin(self.db(), &self.state().dispatcher).await.unwrap()
    }

    /// A transaction that sees one tenant.
    pub async fn begin_for(&self, tenant: TenantId) -> Tx {
        let cause = Cause { actor: "person:test", request_id: "request" };
        Tx::begin_for(self.db(), &self.state().dispatcher, Some(tenant), cause).await.unwrap()
    }

    /// As this tenant's job, unless it is a sweep over all of them.
    pub async fn enqueue<J: Job>(&self, job: &J) -> JobId {
        let is_sweep = serde_json::to_value(job).unwrap() == json!({});
        let mut tx = if is_sweep { self.begin().await } else { self.begin_for(self.tenant).await };
        let id = tx.enqueue(job).await.unwrap().job_id();
        tx.commit().await.unwrap();
        id
    }

    pub async fn claim(&self, id: JobId) -> Claimed {
        let kinds = self.engine.registry.kinds();
        let mut claimed = ledger::claim(self.db(), &[id.0], &kinds, "test", Duration::from_secs(60)).await.unwrap();
        claimed.pop().expect("the job is due")
    }

    /// Enqueues a job and runs it once.
    pub async fn run<J: Job>(&self, job: &J) -> JobRow {
        let id = self.enqueue(job).await;
        self.run_id(id).await
    }

    /// Runs a job that waits, as if its time had come.
    pub async fn run_id(&self, id: JobId) -> JobRow {
        sqlx::query("update jobs set run_at = now() where id = $1").bind(id).execute(self.db()).await.unwrap();
        let claimed = self.claim(id).await;
        self.engine.run(claimed).await;
        self.job(id).await
    }

    /// Runs a job as its last attempt.
    pub async fn run_last<J: Job>(&self, job: &J) -> JobRow {
        let id = self.enqueue(job).await;
        self.set("jobs", id.0, "attempt = max_attempts - 1").await;
        self.run_id(id).await
    }

    pub async fn job(&self, id: JobId) -> JobRow {
        sqlx::query_as(
            "select id, state, attempt, errors, extract(epoch from run_at - now())::float8 as wait_seconds \
             from jobs where id = $1",
        )
        .bind(id)
        .fetch_one(self.db())
        .await
        .unwrap()
    }

    /// Ids of waiting jobs of one kind.
    pub async fn waiting<J: Job>(&self) -> Vec<JobId> {
        sqlx::query_scalar("select id from jobs where kind = $1 and state = 'available' order by id")
            .bind(J::NAME)
            .fetch_all(self.db())
            .await
            .unwrap()
    }

    /// Changes columns of a row.
    pub async fn set(&self, table: &str, id: uuid::Uuid, columns: &str) {
        let statement = format!("update {table} set {columns} where id = $1");
        let done = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id).execute(self.db()).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// One value.
    pub async fn get<T>(&self, query: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(self.db()).await.unwrap()
    }

    /// A planned class of one hour, hosted by `host`, that starts `starts_in` from now.
    pub async fn session(&self, starts_in: TimeDelta) -> SessionId {
        let id = SessionId::new();
        sqlx::query(
            "insert into sessions (id, tenant_id, kind, title, host_id, host_name, host_email, provider, room, starts_at, \
                 ends_at, timezone, created_by) \
             values ($1, $2, 'scheduled', 'Lineer Cebir', 'host', 'Ayşe Öğretmen', 'ayse@school.test', 'jitsi', $3, \
                 $4, $4 + interval '1 hour', 'Europe/Istanbul', 'host')",
        )
        .bind(id)
        .bind(self.tenant)
        .bind(format!("oda-{}", id.0.simple()))
        .bind(self.now + starts_in)
        .execute(self.db())
        .await
        .unwrap();
        id
    }

    /// The same, live since its planned start.
    pub async fn live_session(&self, started_ago: TimeDelta) -> SessionId {
        let id = self.session(-started_ago).await;
        self.set("sessions", id.0, "status = 'live', started_at = starts_at").await;
        id
    }

    pub async fn invite(&self, session: SessionId, person: &str, columns: &[(&str, &str)]) {
        sqlx::query("insert into invitees (session_id, tenant_id, person_id, name) values ($1, $2, $3, initcap($3))")
            .bind(session)
            .bind(self.tenant)
            .bind(person)
            .execute(self.db())
            .await
            .unwrap();
        for (column, value) in columns {
            let statement =
                format!("update invitees set {column} = '{value}' where session_id = $1 and person_id = $2");
            sqlx::query(sqlx::AssertSqlSafe(statement)).bind(session).bind(person).execute(self.db()).await.unwrap();
        }
    }

    /// A stretch of heartbeats.
    pub async fn heartbeats(
        &self,
        session: SessionId,
        person: &str,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        left: bool,
    ) -> uuid::Uuid {
        let id = uuid::Uuid::now_v7();
        sqlx::query(
            "insert into participants (id, tenant_id, session_id, person_id, name, source, connection_key, joined_at, \
                 last_seen_at, left_at, left_reason) \
             values ($1, $2, $3, $4, initcap($4), 'heartbeat', $5, $6, $7, case when $8 then $7 end, \
                 case when $8 then 'left' end)",
        )
        .bind(id)
        .bind(self.tenant)
        .bind(session)
        .bind(person)
        .bind(id.to_string())
        .bind(from)
        .bind(to)
        .bind(left)
        .execute(self.db())
        .await
        .unwrap();
        id
    }

    /// Stores a webhook of event_sync, as the API does.
    pub async fn webhook(&self, body: &Value) -> WebhookEventId {
        self.webhook_from("jitsi", body).await
    }

    pub async fn webhook_from(&self, provider: &str, body: &Value) -> WebhookEventId {
        let id = WebhookEventId::new();
        sqlx::query(
            "insert into webhook_events (id, provider, event_key, event_type, occurred_at, body) \
             values ($1, $2, $3, '', now(), $4)",
        )
        .bind(id)
        .bind(provider)
        .bind(id.to_string())
        .bind(body)
        .execute(self.db())
        .await
        .unwrap();
        id
    }

    /// A recording that can be fetched.
    pub async fn recording(&self, session: SessionId, url: &str) -> RecordingId {
        let id = RecordingId::new();
        sqlx::query(
            "insert into recordings (id, tenant_id, session_id, external_id, state, source_url, deadline_at) \
             values ($1, $2, $3, $1::text, 'available', $4, now() + interval '1 day')",
        )
        .bind(id)
        .bind(self.tenant)
        .bind(session)
        .bind(url)
        .execute(self.db())
        .await
        .unwrap();
        id
    }

    /// A planned mail whose job is about to be enqueued.
    pub async fn mail(&self, session: SessionId, person: &str, mail: &str, step: i32) -> ReminderId {
        let id = ReminderId::new();
        sqlx::query(
            "insert into reminders (id, tenant_id, session_id, person_id, mail, step, due_at, state) \
             values ($1, $2, $3, $4, $5, $6, now() - interval '1 second', 'queued')",
        )
        .bind(id)
        .bind(self.tenant)
        .bind(session)
        .bind(person)
        .bind(mail)
        .bind(step)
        .execute(self.db())
        .await
        .unwrap();
        id
    }

    /// An address that only this test uses.
    pub fn address(&self, name: &str) -> String {
        format!("{name}-{}@students.test", self.unique)
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }
}

/// A connection of the pool.
pub async fn on(pool: &sqlx::PgPool) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    pool.acquire().await.unwrap()
}

/// Waits until `check` says so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
