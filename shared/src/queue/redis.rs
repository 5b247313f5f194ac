//! The only file that talks to Redis: per queue one sorted set of job ids, lowest score first.
//!
//! A set, not a list, so that pushing an id twice changes nothing; popped by `BZMPOP` (Redis 7.0), so
//! that an idle worker waits without polling. Redis may forget everything at any time: the relay
//! writes it again from the ledger. Keys carry a hash tag, so that a cluster keeps each on one node.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, RedisError, RedisResult, Script, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
};
use uuid::Uuid;

use crate::jobs::Queue;

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
    client: Client,
    connection: ConnectionManager,
    prefix: String,
}

impl RedisQueues {
    /// Connects; `prefix` keeps deployments that share a Redis apart. When Redis is down this still
    /// succeeds: it reconnects by itself and the relay catches up.
    pub fn connect(url: &str, prefix: &str) -> RedisResult<Self> {
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_secs(1));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self { client, connection, prefix: prefix.to_owned() })
    }

    /// The sorted set of a queue.
    pub fn key(&self, queue: Queue) -> String {
        format!("{}:queue:{{{queue}}}", self.prefix)
    }

    /// Pushes ids. Known ids stay as they are; ids beyond [`SLICE`] are left to the relay.
    pub async fn push(&self, queue: Queue, entries: &[Entry]) -> RedisResult<()> {
        let key = self.key(queue);
        let script = Script::new(PUSH);
        for chunk in entries.chunks(PUSH_CHUNK) {
            let mut call = script.key(&key);
            call.arg(SLICE);
            for entry in chunk {
                call.arg(entry.score()).arg(entry.id.to_string());
            }
            let _: i64 = call.invoke_async(&mut self.connection.clone()).await?;
        }
        Ok(())
    }

    /// How many ids wait in Redis.
    pub async fn depth(&self, queue: Queue) -> RedisResult<usize> {
        ::redis::cmd("ZCARD").arg(self.key(queue)).query_async(&mut self.connection.clone()).await
    }

    /// Removes a queue's key when somebody made it something else than a sorted set, which would stop the queue; what
    /// the queue held is pushed again by the relay.
    pub async fn remove_foreign_key(&self, queue: Queue) -> RedisResult<()> {
        ::redis::cmd("UNLINK").arg(self.key(queue)).query_async(&mut self.connection.clone()).await
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> RedisResult<()> {
        ::redis::cmd("PING").query_async(&mut self.connection.clone()).await
    }

    /// A connection of its own for blocking pops.
    pub fn popper(&self, queue: Queue) -> Popper {
        Popper { client: self.client.clone(), key: self.key(queue), connection: None }
    }
}

/// Takes ids out of one queue; waits on a connection of its own, because `BZMPOP` blocks it.
pub struct Popper {
    client: Client,
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
            none => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(Duration::from_secs(2)))
                    .set_response_timeout(Some(wait + RESPONSE_TIMEOUT));
                none.insert(self.client.get_multiplexed_async_connection_with_config(&config).await?)
            }
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
