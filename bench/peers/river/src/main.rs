//! River (riverqueue) on Postgres: `work CONCURRENCY` is the worker; `open`, `push`, `bulk` and `pace` print one
//! JSON line. Its fetch cooldown is at the minimum, which is the fastest it can be told to be.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use riverqueue::{
    BoxError, Client, FETCH_COOLDOWN_MIN, Job, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers,
    migrate::PostgresMigrator,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

#[derive(Clone, Debug, Default, Deserialize, JobArgs, Serialize)]
#[river(kind = "noop")]
struct Noop {
    note: String,
    sleep_ms: u64,
}

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "stamp")]
struct Stamp {
    /// Milliseconds since 1970.
    called: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

async fn noop(_: WorkContext, job: Job<Noop>) -> Result<WorkOutcome, BoxError> {
    if job.args.sleep_ms > 0 {
        tokio::time::sleep(Duration::from_millis(job.args.sleep_ms)).await;
    }
    Ok(WorkOutcome::Complete)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("PEER_DATABASE_URL")?;
    let pool = PgPoolOptions::new().max_connections(20).connect(&url).await?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| arguments.get(i).and_then(|n| n.parse().ok()).unwrap_or(0);
    if arguments[0] == "work" {
        return work(pool, number(1)).await;
    }
    let client = Client::builder(pool).fetch_cooldown(FETCH_COOLDOWN_MIN).build()?;
    let (wall, cpu) = (Instant::now(), cpu());
    match arguments[0].as_str() {
        "push" => push(&client, number(1), number(2)).await?,
        "bulk" => bulk(&client, number(1), number(2) as u64).await?,
        "pace" => pace(&client, number(1), number(2)).await?,
        other => anyhow::bail!("no command {other}"),
    }
    println!("{{\"seconds\":{},\"cpu\":{}}}", wall.elapsed().as_secs_f64(), self::cpu() - cpu);
    Ok(())
}

async fn work(pool: PgPool, concurrency: usize) -> anyhow::Result<()> {
    PostgresMigrator::new(pool.clone()).migrate_up().await?;
    sqlx::raw_sql("create table if not exists samples (ms float8)").execute(&pool).await?;
    let mut workers = Workers::new();
    workers.add_fn(noop)?;
    let samples = pool.clone();
    workers.add_fn(move |_: WorkContext, job: Job<Stamp>| {
        let (samples, waited) = (samples.clone(), now() - job.args.called);
        async move {
            sqlx::query("insert into samples values ($1)").bind(waited).execute(&samples).await?;
            Ok::<_, BoxError>(WorkOutcome::Complete)
        }
    })?;
    let client = Client::builder(pool)
        .workers(workers)
        .fetch_cooldown(FETCH_COOLDOWN_MIN)
        .queue("default", QueueConfig::new(concurrency))
        .build()?;
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut run = client.start_with_graceful_stop(async move {
        terminated.recv().await;
    })?;
    println!("peer ready");
    run.wait().await?;
    Ok(())
}

async fn push(client: &Client, count: usize, pushers: usize) -> anyhow::Result<()> {
    let pushing = (0..pushers).map(|_| async {
        for n in 0..count / pushers {
            client.insert(Noop { note: n.to_string(), sleep_ms: 0 }).await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(pushing).await?;
    Ok(())
}

async fn bulk(client: &Client, count: usize, sleep_ms: u64) -> anyhow::Result<()> {
    let mut left = count;
    while left > 0 {
        let step = left.min(1_000);
        client.insert_many((0..step).map(|n| Noop { note: n.to_string(), sleep_ms })).await?;
        left -= step;
    }
    Ok(())
}

async fn pace(client: &Client, rate: usize, seconds: usize) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate as u32);
    for _ in 0..rate * seconds {
        tick.tick().await;
        client.insert(Stamp { called: now() }).await?;
    }
    Ok(())
}

/// CPU seconds of this process, by proc(5).
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}
