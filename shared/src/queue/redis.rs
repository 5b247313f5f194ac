//! The queues in Redis: per queue one sorted set of job ids, lowest score first. Only [`buckets`](super::buckets) are in
//! Redis beside them.
//!
//! A set, not a list, so that pushing an id twice changes nothing; popped by `BZMPOP` (Redis 7.0), so
//! that an idle worker waits without polling. Redis may forget everything at any time: the relay
//! writes it again from the ledger. Keys carry a hash tag, so that a cluster keeps each on one node.

use std::{sync::Arc, time::Duration};

use ::redis::{Cmd, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind, aio::MultiplexedConnection};
use anyhow::{Context, anyhow};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{buckets::Buckets, redis_server::RedisServer};
use crate::{config::RedisConfig, jobs::Queue};

/// How many ids of one queue Redis holds at most before producers leave the pushing to the relay.
/// Bounds Redis' memory (about 1 MB per queue) whatever the backlog.
pub const SLICE: usize = 10_000;

/// An answer that takes longer is an error. Longer than a short stall of Redis, shorter than a
/// person waits.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Adds ids unless the set is full already, in one step.
const PUSH: &str = r"
local room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[1])
if room <= 0 then return 0 end
return redis.call('ZADD', KEYS[1], unpack(ARGV, 2))
";

/// `ZADD` arguments per script call; Lua's `unpack` takes fewer than 8,000 values.
const PUSH_CHUNK: usize = 1_000;

/// A job on its way to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub id: Uuid,
    pub priority: i16,
}

impl Entry {
    /// Priority first, then age. Exact in a double: 3 · 10^13 + ms since 1970 < 2^53.
    fn score(self) -> u64 {
        let millis = self.id.get_timestamp().map_or(0, |t| {
            let (seconds, nanos) = t.to_unix();
            seconds * 1000 + u64::from(nanos / 1_000_000)
        });
        u64::try_from(self.priority).unwrap_or(0) * 10_000_000_000_000 + millis
    }
}

/// The Redis side of the queues, shared by all who push.
#[derive(Clone)]
pub struct RedisQueues {
    server: RedisServer,
    prefix: String,
    /// To where each queue is; in a cluster that may be three nodes.
    connections: Arc<[Mutex<Option<MultiplexedConnection>>; Queue::ALL.len()]>,
}

impl RedisQueues {
    /// By the settings.
    ///
    /// # Errors
    /// Settings that are wrong. When Redis is down this still succeeds: it connects when it is needed, and the relay
    /// catches up.
    pub fn open(config: &RedisConfig) -> anyhow::Result<Self> {
        let read = |file: &std::path::PathBuf| {
            std::fs::read(file).with_context(|| format!("REDIS_CA_FILE: cannot read {}", file.display()))
        };
        let authority = config.redis_ca_file.as_ref().map(read).transpose()?;
        let server = RedisServer::parse(&config.redis_url, authority).map_err(|error| anyhow!("REDIS_URL: {error}"))?;
        Ok(Self { server, prefix: config.redis_prefix.clone(), connections: Arc::default() })
    }

    /// Without settings; `prefix` keeps deployments that share a Redis apart.
    ///
    /// # Errors
    /// A wrong address.
    pub fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        Self::open(&RedisConfig { redis_url: url.to_owned(), redis_prefix: prefix.to_owned(), redis_ca_file: None })
    }

    /// To where the queue is.
    async fn connection(&self, queue: Queue) -> RedisResult<MultiplexedConnection> {
        let mut held = self.connections[queue as usize].lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let connection = self.server.connect(&self.key(queue), RESPONSE_TIMEOUT).await?;
        Ok(held.insert(connection).clone())
    }

    /// After an error the next command goes over a new connection: this one may be half dead, or lead to a server that is
    /// no primary any more.
    async fn forget_after_error<T>(&self, queue: Queue, result: RedisResult<T>) -> RedisResult<T> {
        if result.is_err() {
            self.connections[queue as usize].lock().await.take();
        }
        result
    }

    async fn send<T: FromRedisValue>(&self, queue: Queue, command: &Cmd) -> RedisResult<T> {
        let mut connection = self.connection(queue).await?;
        let answer = command.query_async(&mut connection).await;
        self.forget_after_error(queue, answer).await
    }

    /// The sorted set of a queue.
    pub fn key(&self, queue: Queue) -> String {
        format!("{}:queue:{{{queue}}}", self.prefix)
    }

    /// Pushes ids. Known ids stay as they are; ids beyond [`SLICE`] are left to the relay.
    pub async fn push(&self, queue: Queue, entries: &[Entry]) -> RedisResult<()> {
        let (key, script) = (self.key(queue), Script::new(PUSH));
        let mut connection = self.connection(queue).await?;
        for chunk in entries.chunks(PUSH_CHUNK) {
            let mut call = script.key(&key);
            call.arg(SLICE);
            for entry in chunk {
                call.arg(entry.score()).arg(entry.id.to_string());
            }
            let pushed: RedisResult<i64> = call.invoke_async(&mut connection).await;
            self.forget_after_error(queue, pushed).await?;
        }
        Ok(())
    }

    /// How many ids wait in Redis.
    pub async fn depth(&self, queue: Queue) -> RedisResult<usize> {
        self.send(queue, ::redis::cmd("ZCARD").arg(self.key(queue))).await
    }

    /// Removes a queue's key when somebody made it something else than a sorted set, which would stop the queue; what
    /// the queue held is pushed again by the relay.
    pub async fn remove_foreign_key(&self, queue: Queue) -> RedisResult<()> {
        self.send(queue, ::redis::cmd("UNLINK").arg(self.key(queue))).await
    }

    /// Whether Redis answers, everywhere where queues are.
    pub async fn ping(&self) -> RedisResult<()> {
        for queue in Queue::ALL {
            let _: ::redis::Value = self.send(queue, &::redis::cmd("PING")).await?;
        }
        Ok(())
    }

    /// A connection of its own for blocking pops.
    pub fn popper(&self, queue: Queue) -> Popper {
        Popper { server: self.server.clone(), key: self.key(queue), connection: None }
    }

    /// A connection of its own to the rate limits' buckets.
    pub fn buckets(&self) -> Buckets {
        Buckets::new(self.server.clone(), &self.prefix)
    }
}

/// Takes ids out of one queue; waits on a connection of its own, because `BZMPOP` blocks it.
pub struct Popper {
    server: RedisServer,
    key: String,
    connection: Option<MultiplexedConnection>,
}

impl Popper {
    /// Up to `count` ids, first things first; empty after `wait` without any. An id is out of Redis
    /// from here on: if this process dies before it claims the job, the relay pushes it again.
    pub async fn pop(&mut self, count: usize, wait: Duration) -> RedisResult<Vec<Uuid>> {
        let result = self.try_pop(count, wait).await;
        if result.is_err() {
            // A new connection next time: this one may be half dead, or lead to an old primary.
            self.connection = None;
        }
        result
    }

    async fn try_pop(&mut self, count: usize, wait: Duration) -> RedisResult<Vec<Uuid>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.server.connect(&self.key, wait + RESPONSE_TIMEOUT).await?),
        };
        // Members as bytes: a stranger's may be no text.
        let popped: Option<Popped> = ::redis::cmd("BZMPOP")
            .arg(wait.as_secs_f64())
            .arg(1)
            .arg(&self.key)
            .arg("MIN")
            .arg("COUNT")
            .arg(count)
            .query_async(connection)
            .await?;
        let members = popped.map(|(_, members)| members).unwrap_or_default();
        Ok(members.iter().filter_map(|(member, _)| parse_member(member)).collect())
    }
}

/// The key that had members, and these with their scores.
type Popped = (String, Vec<(Vec<u8>, f64)>);

/// Foreign members are dropped: only what the ledger knows can run anyway.
fn parse_member(member: &[u8]) -> Option<Uuid> {
    let id = Uuid::try_parse_ascii(member).ok();
    if id.is_none() {
        metrics::counter!("queue_foreign_entries_total").increment(1);
        tracing::warn!("an entry in a Redis queue is no job id; ignored");
    }
    id
}

/// What an operator can do about a Redis error, if it is one of set-up.
pub fn explain(error: &RedisError) -> Option<&'static str> {
    match (error.kind(), error.code()) {
        (::redis::ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            Some("Redis refuses the user or password in REDIS_URL")
        }
        (::redis::ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            Some("REDIS_URL leads to a replica, which cannot be written to")
        }
        (_, Some("WRONGTYPE")) => Some("the queue's key in Redis is no sorted set; the scheduler removes it"),
        (_, Some("OOM")) => Some("Redis is out of memory (maxmemory)"),
        (_, Some("MISCONF")) => Some("Redis cannot write to its disk"),
        _ if error.to_string().contains("BZMPOP") => Some("Redis 7.0 or newer is needed (BZMPOP)"),
        _ => None,
    }
}
