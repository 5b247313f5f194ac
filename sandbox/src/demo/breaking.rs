//! What `demo --break` does to the system while the story goes on.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context;
use rustix::process::{Pid, Signal};

/// How long Redis may take for it.
const ANSWER: Duration = Duration::from_secs(10);

/// Kills and flushes what belongs to this sandbox, and nothing else.
pub struct Breaking {
    pid_file: PathBuf,
    redis_url: String,
}

impl Breaking {
    pub fn new(dir: &std::path::Path, env: &BTreeMap<String, String>) -> Self {
        Self { pid_file: dir.join("worker.pid"), redis_url: env.get("REDIS_URL").cloned().unwrap_or_default() }
    }

    /// `kill -9` of the worker; the sandbox starts another one.
    pub fn kill_worker(&self) -> anyhow::Result<()> {
        let pid = std::fs::read_to_string(&self.pid_file)
            .with_context(|| format!("{} (the sandbox has to run with one worker)", self.pid_file.display()))?;
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).context("the pid file holds no number")?;
        rustix::process::kill_process(pid, Signal::KILL).context("cannot kill the worker")?;
        println!("     ⚡ killed the worker ({}) with signal 9", pid.as_raw_nonzero());
        Ok(())
    }

    /// `FLUSHALL`: every queue is empty.
    pub async fn flush_redis(&self) -> anyhow::Result<()> {
        let flush = async {
            let client = redis::Client::open(self.redis_url.as_str())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await
        };
        tokio::time::timeout(ANSWER, flush).await.context("Redis does not answer")?.context("cannot flush Redis")?;
        println!("     ⚡ flushed Redis (FLUSHALL)");
        Ok(())
    }
}
