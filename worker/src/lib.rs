//! The worker process: takes jobs from the queues and runs them. `docs/ARCHITECTURE.md` shows the
//! way of a job; what each job does is in `handlers`.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use apalis::prelude::{Data, WorkerBuilder};
use shared::{
    checks::{Checks, can_listen},
    db,
    queue::{Dispatcher, redis::RedisQueues},
    secrets::Keyring,
    telemetry,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub mod backend;
mod caps;
pub mod cli;
mod completer;
pub mod config;
pub mod failpoint;
pub mod fetch;
mod fetcher;
pub mod handler;
pub mod handlers;
pub mod health;
pub mod mail;
pub mod provider_configs;
mod quarantine;
pub mod rates;
pub mod registry;
pub mod run;
pub mod running;
pub mod state;
pub mod storage;
mod watchdog;

pub use config::Config;
use {
    backend::{ClaimedJobs, Delivery},
    caps::Caps,
    fetcher::Fetcher,
    health::{Health, Pulse},
    mail::Mailer,
    run::Engine,
    state::State,
    storage::Storage,
};

/// Connects everything that handlers use.
pub async fn connect(config: Config) -> anyhow::Result<(State, RedisQueues)> {
    let db = db::connect(&config.database, "worker").await?;
    let redis = RedisQueues::open(&config.redis)?;
    let state = State::new(config, db, Dispatcher::start(redis.clone())).await?;
    Ok((state, redis))
}

/// Tests settings and connections; each fault is one line that says what to do.
pub async fn check(config: Config) -> anyhow::Result<()> {
    let mut checks = Checks::new();
    checks.add_all("providers", &config.providers.faults());
    checks.add("keys for secrets", Keyring::load(&config.secrets));
    let names_session = config.mail.session_url.contains("{id}");
    checks.add(
        "mails",
        names_session.then_some(()).ok_or("SESSION_URL has no {id}: every mail would link to the same page"),
    );
    checks.add("address", can_listen(config.health_addr, "WORKER_HEALTH_ADDR").await);
    checks.add("Postgres", db::check(&config.database).await);
    let redis = async {
        let redis = RedisQueues::open(&config.redis)?;
        anyhow::Ok(redis.ping().await?)
    };
    checks.add("Redis (REDIS_URL)", redis.await);
    checks.add("object store", Storage::new(&config.storage).await.check().await);
    let mail = async { Mailer::new(&config.mail)?.check().await };
    checks.add("mail server (SMTP_URL, MAIL_FROM)", mail.await);
    checks.finish()
}

/// Runs until `shutdown`, then finishes or gives back what runs.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = telemetry::init_metrics();
    db::migrate(&config.database).await?;
    let (state, redis) = connect(config).await?;
    let config = state.config.clone();

    // Unique per start: two processes never share a name, whatever the host is called.
    let name = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
    let engine = Engine::new(state, handlers::registry(), shutdown.clone());
    watchdog::start(Duration::from_secs(config.stuck_after));
    let renewing = tokio::spawn(run::renew_leases(engine.clone(), config.lease()));

    let caps = Caps::of(&engine.registry);
    let mut pulses = Vec::new();
    let mut queues = JoinSet::new();
    for &queue in &config.queues {
        let slots = config.concurrency.of(queue);
        let (sender, receiver) = mpsc::channel(slots);
        let pulse = Arc::new(Pulse::default());
        pulses.push(pulse.clone());
        let fetcher = Fetcher {
            engine: engine.clone(),
            queue,
            redis: redis.clone(),
            caps: caps.clone(),
            rates: config.rate.clone(),
            slots: Arc::new(Semaphore::new(slots)),
            worker: name.clone(),
            lease: config.lease(),
            pulse,
        };
        tokio::spawn(fetcher.run(sender, shutdown.clone()));
        let worker = WorkerBuilder::new(format!("{queue}-{name}"))
            .backend(ClaimedJobs::new(receiver))
            .data(engine.clone())
            .build(deliver);
        queues.spawn(worker.run());
        tracing::info!(queue = %queue, concurrency = slots, "working");
    }

    let listener = TcpListener::bind(config.health_addr)
        .await
        .with_context(|| format!("WORKER_HEALTH_ADDR: cannot listen on {}", config.health_addr))?;
    let health = Health { engine: engine.clone(), pulses, metrics };
    tokio::spawn(async move { axum::serve(listener, health::router(health)).await });

    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        // The end of a worker may be seen before the signal that caused it.
        Some(ended) = queues.join_next() => match shutdown.is_cancelled() {
            true => Ok(()),
            false => Err(anyhow::anyhow!("an apalis worker ended by itself: {ended:?}")),
        },
    };
    let finish = async { while queues.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(config.shutdown_grace), finish).await.is_err() {
        engine.give_back().await;
    }
    renewing.abort();
    tracing::info!("stopped");
    ended
}

/// What apalis calls for each job.
async fn deliver(delivery: Delivery, engine: Data<Arc<Engine>>) {
    let Delivery { job, slot, admission } = delivery;
    engine.run(job).await;
    drop((slot, admission));
}
