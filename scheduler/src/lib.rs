//! The scheduler process: starts jobs by the clock (`tick`) and does what has to happen all the time
//! (`relay`). Any number of them may run; none is a leader.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use shared::{
    db,
    queue::{Dispatcher, redis::RedisQueues},
    telemetry,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod config;
pub mod cron_local;
mod health;
pub mod relay;
pub mod schedules;
pub mod tick;

pub use config::Config;
use {health::Health, relay::Duties, schedules::Schedule};

/// Ticks are looked for at least this often, so that an edited clock or a paused machine is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// What one round of ticks may take: a database that fell silent would be waited for without end.
const LIMIT: Duration = Duration::from_secs(20);

/// Tests settings and connections and shows the schedules.
pub async fn check(config: Config) -> anyhow::Result<()> {
    let schedules = schedules::from_env()?;
    db::check(&config.database).await?;
    let now = shared::clock::Clock::System.now();
    println!("ok     Postgres");
    RedisQueues::open(&config.redis)?.ping().await.context("Redis")?;
    println!("ok     Redis");
    for schedule in &schedules {
        match schedule.cron.next(now) {
            Some(next) => println!("ok     {:<26} next run {next}", schedule.name),
            None => println!("ok     {:<26} never runs again", schedule.name),
        }
    }
    Ok(())
}

/// Runs until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = telemetry::init_metrics();
    let schedules = schedules::from_env()?;
    db::migrate(&config.database).await?;
    let db = db::connect(&config.database, "scheduler").await?;
    let redis = RedisQueues::open(&config.redis)?;
    let dispatcher = Dispatcher::start(redis.clone());
    let health = Health::new(metrics);

    let listener = TcpListener::bind(config.health_addr)
        .await
        .with_context(|| format!("SCHEDULER_HEALTH_ADDR: cannot listen on {}", config.health_addr))?;
    let router = health::router(Arc::clone(&health));
    tokio::spawn(async move { axum::serve(listener, router).await });

    tracing::info!(schedules = schedules.len(), "scheduling");
    let duties = Duties { db: db.clone(), redis, dispatcher: dispatcher.clone(), health };
    tokio::join!(duties.run(shutdown.clone()), keep_ticking(&db, &dispatcher, &schedules, &shutdown));
    tracing::info!("stopped");
    Ok(())
}

/// Writes down what is scheduled, for operators to see. Ticks go on without it.
async fn show(db: &sqlx::PgPool, schedules: &[Schedule]) {
    let written = async {
        let now = shared::db::schedules::now(db).await?;
        shared::db::schedules::write(db, &schedules::known(schedules::TABLE, schedules, now)).await
    };
    if let Err(error) = written.await {
        tracing::debug!(error = %error, "cannot write down the schedules");
    }
}

async fn keep_ticking(
    db: &sqlx::PgPool,
    dispatcher: &Dispatcher,
    schedules: &[Schedule],
    shutdown: &CancellationToken,
) {
    let mut failing = false;
    while !shutdown.is_cancelled() {
        let round = async {
            let round = tick::run_due(db, dispatcher, schedules).await?;
            show(db, schedules).await;
            anyhow::Ok(round)
        };
        let round = tokio::time::timeout(LIMIT, round).await.context("Postgres does not answer").flatten();
        let sleep = match round {
            Ok(round) => {
                if failing {
                    tracing::info!(duty = "ticks", "works again");
                }
                failing = false;
                round.next_in.map_or(LONGEST_SLEEP, |next| next.min(LONGEST_SLEEP))
            }
            Err(error) => {
                metrics::counter!("scheduler_failures_total", "duty" => "ticks").increment(1);
                if !failing {
                    tracing::error!(
                        duty = "ticks",
                        error = format!("{error:#}"),
                        "failed; trying again until it works"
                    );
                }
                failing = true;
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}
