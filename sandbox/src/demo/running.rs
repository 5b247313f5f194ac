//! Finds the sandbox that a demo uses, and makes sure that it can show anything: a story against a system that has
//! lost its worker or its database would only wait.

use std::{collections::BTreeMap, io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context, bail};
use shared::{
    config::DatabaseConfig,
    db,
    jobs::Noop,
    queue::{Dispatcher, Tx, redis::RedisQueues},
};

use super::client::until;
use crate::place;

/// A sandbox that has just lost a process has it back by then.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of one request.
const ANSWER: Duration = Duration::from_secs(3);

/// The environment of the sandbox that runs in `dir`; none where none runs.
///
/// # Errors
/// When one runs but does not get ready.
pub async fn environment(dir: &Path) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    if !place::is_in_use(dir) {
        return Ok(None);
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let trouble = match read_env(&dir.join("env")) {
            Ok(env) => match readiness(&env).await {
                Ok(()) => return Ok(Some(env)),
                Err(trouble) => trouble,
            },
            Err(error) if is_missing(&error) => anyhow::anyhow!("it has not finished its start"),
            Err(error) => return Err(error),
        };
        if tokio::time::Instant::now() >= deadline {
            bail!(
                "the sandbox that runs in {} is not ready: {trouble:#}; look at its output, or start it anew",
                dir.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// What a running sandbox wrote down for others.
pub fn read_env(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect())
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The API answers and has its database and Redis.
async fn readiness(env: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let url = format!("{}/readyz", env.get("API_URL").context("its environment has no API_URL")?);
    let request = reqwest::Client::new().get(url).timeout(ANSWER);
    let response = request.send().await.map_err(|_| anyhow::anyhow!("its api does not answer"))?;
    let status = response.status();
    let said: serde_json::Value = response.json().await.unwrap_or_default();
    for (part, name) in [("postgres", "Postgres"), ("redis", "Redis")] {
        if said[part] == "down" {
            bail!("its {name} does not answer");
        }
    }
    if !status.is_success() {
        bail!("its api says {status}: {said}");
    }
    Ok(())
}

/// Has one job done.
///
/// # Errors
/// When nobody does it.
pub async fn ensure_worker(env: &BTreeMap<String, String>) -> anyhow::Result<()> {
    // A Postgres that has been stopped (SIGSTOP) takes connections and says nothing.
    let tried = tokio::time::timeout(PATIENCE + PATIENCE / 2, try_worker(env)).await;
    tried.context("the sandbox does not take a job; look at its output, or start it anew")?
}

async fn try_worker(env: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let var = |name: &str| env.get(name).cloned().unwrap_or_default();
    let config = DatabaseConfig { database_url: var("DATABASE_URL"), database_pool: 1 };
    let pool = db::connect(&config, "demo").await?;
    let redis = RedisQueues::connect(&var("REDIS_URL"), "live-sessions")?;
    let note = format!("demo {}", uuid::Uuid::now_v7());
    let mut tx = Tx::begin(&pool, &Dispatcher::start(redis)).await?;
    tx.enqueue(&Noop { note: note.clone(), ..Noop::default() }).await?;
    tx.commit().await?;
    let done = until("a worker to do a job", PATIENCE, async || {
        let state: String = sqlx::query_scalar("select state from jobs where kind = 'noop' and payload->>'note' = $1")
            .bind(&note)
            .fetch_one(&pool)
            .await?;
        Ok((state == "done").then_some(()))
    });
    done.await.context("no worker of the sandbox does anything; look at its output, or start it anew")
}
