//! The whole system on one machine: servers, migrations, demo tenant, api, worker, scheduler.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use shared::{clock::Clock, config::DatabaseConfig, db, domain::ids::ProviderConfigId};

use crate::{
    bigbluebutton::BigBlueButton,
    people::{self, ADMIN, INSTRUCTOR, OPERATOR, STUDENTS, TENANT},
    ports::{self, free_port},
    postgres::{Durability, Postgres},
    private::{self, Secrets},
    provision::{self, Tool},
    recording_host::RecordingHost,
    redis::{Persistence, Redis},
    s3::{REGION, S3},
    services::{Launcher, OnServiceLine, Service, Supervised},
    smtp::{SmtpSettings, SmtpSink},
    supervision,
    zoom::{self, Account, Zoom},
};

const BUCKET: &str = "recordings";
const DATABASE: &str = "live_sessions";

/// What can be chosen.
#[derive(Clone)]
pub struct Options {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// The sandbox's own program; its services run in it.
    pub program: PathBuf,
    /// Port of the API; a free one, when absent.
    pub port: Option<u16>,
    /// How many workers.
    pub workers: usize,
    pub durability: Durability,
    /// Changes and additions to the services' environment.
    pub env: BTreeMap<String, String>,
    /// Gets every log line of a service.
    pub on_line: OnServiceLine,
    /// Gets a line per step of the start.
    pub on_progress: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The running system. [`System::stop`] ends it in order; dropping it ends it at once.
pub struct System {
    pub postgres: Postgres,
    pub redis: Redis,
    pub s3: S3,
    pub smtp: SmtpSink,
    pub recording_host: RecordingHost,
    pub bigbluebutton: BigBlueButton,
    pub zoom: Zoom,
    pub api: Supervised,
    pub workers: Vec<Supervised>,
    pub scheduler: Supervised,
    /// Everything that a script needs to use it; also in `<dir>/env`.
    pub env: BTreeMap<String, String>,
    dir: PathBuf,
}

impl System {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// The part that could not be started, and what to do about it.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let progress = Progress::new(options.on_progress.clone());
        if let Some(port) = options.port {
            ports::ensure_free(port)?;
        }
        std::fs::create_dir_all(&options.dir).with_context(|| format!("cannot make {}", options.dir.display()))?;
        let dir = options.dir.canonicalize().with_context(|| options.dir.display().to_string())?;
        for name in ["redis", "s3", "mails", "secrets"] {
            private::make_directory(&dir.join(name))?;
        }

        tokio::task::spawn_blocking(|| provision::ensure(&Tool::ALL)).await??;
        let persistence = match options.durability {
            Durability::Durable => Persistence::AppendOnly,
            Durability::Fast => Persistence::None,
        };
        let (postgres_dir, redis_dir, s3_dir) = (dir.join("postgres"), dir.join("redis"), dir.join("s3"));
        let smtp = SmtpSettings { dir: Some(dir.join("mails")), ..SmtpSettings::default() };
        let secrets = Secrets::load_or_make(&dir.join("secrets"))?;
        let account = Account::new(&secrets.zoom, &secrets.zoom_webhook);
        let (postgres, redis, s3, smtp, recording_host, bigbluebutton, zoom) = tokio::try_join!(
            progress.step("Postgres", Postgres::start(&postgres_dir, None, options.durability)),
            progress.step("Redis", Redis::start(&redis_dir, None, persistence)),
            progress.step("object store (S3)", S3::start(&s3_dir, None)),
            progress.step("mailbox (SMTP)", SmtpSink::start(smtp)),
            progress.step("recording host", RecordingHost::start(None)),
            progress.step("stand-in for BigBlueButton", BigBlueButton::start(None, &secrets.bbb)),
            progress.step("stand-in for Zoom", Zoom::start(None, account)),
        )?;
        s3.create_bucket(BUCKET)?;

        let prepared = prepare_database(&postgres, &secrets, &zoom);
        let zoom_config = progress.step("database and demo tenant", prepared).await?;

        let ports = Ports { api: options.port.map_or_else(free_port, Ok)?, scheduler: free_port()? };
        let mut env = environment(&postgres, &redis, &s3, &smtp, &recording_host, &secrets, &ports)?;
        env.insert("BBB_SERVER_URL".to_owned(), bigbluebutton.url());
        env.insert("BBB_SHARED_SECRET".to_owned(), bigbluebutton.secret().to_owned());
        env.extend(zoom::demo::environment(&zoom));
        env.extend(options.env);
        private::write_env(&dir.join("env"), &env)?;

        let launcher =
            Launcher { program: options.program, env: env.clone(), pid_dir: dir.clone(), on_line: options.on_line };
        let api = start_service(&launcher, "api", "api", "API_ADDR", ports.api)?;
        let scheduler = start_service(&launcher, "scheduler", "scheduler", "SCHEDULER_HEALTH_ADDR", ports.scheduler)?;
        let mut workers = Vec::new();
        for n in 1..=options.workers {
            let name = if options.workers == 1 { "worker".to_owned() } else { format!("worker-{n}") };
            workers.push(start_service(&launcher, &name, "worker", "WORKER_HEALTH_ADDR", free_port()?)?);
        }
        progress.step("api", api.ready()).await?;
        for worker in &workers {
            progress.step("worker", worker.ready()).await?;
        }
        progress.step("scheduler", scheduler.ready()).await?;
        zoom.set_webhook(&format!("http://127.0.0.1:{}/api/v1/live-sessions/webhooks/zoom/{zoom_config}/", ports.api));
        Ok(Self { postgres, redis, s3, smtp, recording_host, bigbluebutton, zoom, api, workers, scheduler, env, dir })
    }

    /// A value of the environment.
    #[must_use]
    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).map_or("", String::as_str)
    }

    /// Starts Postgres and Redis again whenever one ends by itself, telling `tell` so. Returns only when the system
    /// cannot go on: a server that does not stay up, or a service that fails again and again; with the reason.
    /// Whoever kills servers on purpose does not call this.
    pub async fn keep_running(&self, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Error {
        let services = [&self.api, &self.scheduler].into_iter().chain(&self.workers);
        let hopeless = futures::future::select_all(services.map(|service| Box::pin(service.hopeless())));
        tokio::select! {
            error = supervision::keep_running(&self.postgres, &self.redis, tell) => error,
            (error, ..) = hopeless => error,
        }
    }

    /// Ends the services, letting them finish, then the servers.
    pub async fn stop(self) {
        let workers = self.workers.iter().map(Supervised::stop);
        tokio::join!(self.api.stop(), self.scheduler.stop(), futures::future::join_all(workers));
        let _ = std::fs::remove_file(self.dir.join("env"));
        self.redis.stop().await;
        self.postgres.stop().await;
    }
}

struct Ports {
    api: u16,
    scheduler: u16,
}

fn start_service(
    launcher: &Launcher,
    name: &str,
    kind: &'static str,
    address_variable: &str,
    port: u16,
) -> anyhow::Result<Supervised> {
    let address = format!("127.0.0.1:{port}");
    let service = Service {
        name: name.to_owned(),
        kind,
        ready_url: format!("http://{address}/readyz"),
        env: BTreeMap::from([(address_variable.to_owned(), address)]),
    };
    Supervised::start(launcher, service)
}

async fn prepare_database(postgres: &Postgres, secrets: &Secrets, zoom: &Zoom) -> anyhow::Result<ProviderConfigId> {
    postgres.create_database(DATABASE).await?;
    let config = DatabaseConfig { database_url: postgres.url(DATABASE), database_pool: 2 };
    db::migrate(&config).await?;
    let pool = db::connect(&config, "sandbox").await?;
    people::seed(&pool).await?;
    let config = zoom::demo::configure(&pool, TENANT, &secrets.keys, zoom).await?;
    pool.close().await;
    Ok(config)
}

fn environment(
    postgres: &Postgres,
    redis: &Redis,
    s3: &S3,
    smtp: &SmtpSink,
    recording_host: &RecordingHost,
    secrets: &Secrets,
    ports: &Ports,
) -> anyhow::Result<BTreeMap<String, String>> {
    let now = Clock::System.now();
    let api_url = format!("http://127.0.0.1:{}", ports.api);
    let host = recording_host.url();
    let host = host.trim_start_matches("http://");
    let mut env: BTreeMap<String, String> = [
        ("API_URL", api_url.clone()),
        ("PUBLIC_URL", api_url.clone()),
        ("DATABASE_URL", postgres.url(DATABASE)),
        ("REDIS_URL", redis.url()),
        ("S3_ENDPOINT", s3.endpoint().to_owned()),
        ("S3_BUCKET", BUCKET.to_owned()),
        ("S3_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", s3.access_key().to_owned()),
        ("AWS_SECRET_ACCESS_KEY", s3.secret_key().to_owned()),
        ("SMTP_URL", smtp.url()),
        ("MAILBOX_URL", smtp.http_url()),
        ("MAIL_FROM", "Demo Okulu <live-sessions@demo.example>".to_owned()),
        ("SESSION_URL", format!("{api_url}/api/v1/live-sessions/sessions/{{id}}/")),
        ("RECORDING_HOST_URL", recording_host.url()),
        ("RECORDING_HOSTS", host.to_owned()),
        ("RECORDING_ALLOW_PRIVATE", "true".to_owned()),
        ("JITSI_DOMAIN", "meet.demo.example".to_owned()),
        ("JITSI_APP_ID", "demo".to_owned()),
        ("JITSI_JWT_SECRET", secrets.jitsi.clone()),
        ("JITSI_WEBHOOK_SECRET", secrets.jitsi_webhook.clone()),
        ("JAAS_WEBHOOK_SECRET", secrets.jaas_webhook.clone()),
        ("AUTH_JWT_SECRET", secrets.auth.clone()),
        ("SECRETS_KEYS", secrets.keys.clone()),
        ("PROVIDER_CONFIGS_ALLOW_PRIVATE", "true".to_owned()),
        ("LOG_FORMAT", "text".to_owned()),
        ("RUST_LOG", "info,sqlx=warn".to_owned()),
        // Often, so that a story of a minute shows it.
        ("SCHEDULE_CLOSE_STALE_ATTENDANCE", "*/5 * * * * *".to_owned()),
        ("DEMO_TENANT", TENANT.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let people = [
        ("DEMO_ADMIN_TOKEN", &ADMIN),
        ("DEMO_INSTRUCTOR_TOKEN", &INSTRUCTOR),
        ("DEMO_OPERATOR_TOKEN", &OPERATOR),
        ("DEMO_STUDENT_TOKEN", &STUDENTS[0]),
    ];
    for (name, person) in people {
        env.insert(name.to_owned(), people::token(person, &secrets.auth, now)?);
    }
    Ok(env)
}

/// Tells what was started and how long it took.
struct Progress {
    tell: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Progress {
    fn new(tell: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        Self { tell }
    }

    async fn step<T>(&self, what: &str, step: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let started = Instant::now();
        let value = step.await.with_context(|| format!("{what} could not be started"))?;
        (self.tell)(&format!("{what} is ready ({})", shown(started.elapsed())));
        Ok(value)
    }
}

/// As `0 ms`, `830 ms`, `1.3 s`.
fn shown(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_people_write_it() {
        let times = [0, 830, 1_000, 1_349].map(|ms| shown(Duration::from_millis(ms)));
        assert_eq!(times, ["0 ms", "830 ms", "1.0 s", "1.3 s"]);
    }
}
