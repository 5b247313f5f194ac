//! Leaky buckets in Redis: how much each of many callers has asked for of late, over all processes.
//!
//! A bucket is the moment at which it will have run empty. Redis forgets it then by itself, and may forget it before.

use std::time::Duration;

use ::redis::{RedisResult, Script, aio::MultiplexedConnection};
use uuid::Uuid;

use super::redis_server::RedisServer;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Adds to each bucket, and tells in how many microseconds it will have run empty.
const POUR: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left = {}
for n, key in ipairs(KEYS) do
  local empty_at = math.max(tonumber(redis.call('GET', key) or 0) or 0, now) + tonumber(ARGV[n])
  left[n] = empty_at - now
  redis.call('SET', key, string.format('%.0f', empty_at), 'PX', math.ceil(left[n] / 1000) + 1)
end
return left
";

/// Buckets per call; Redis does nothing else meanwhile (a few microseconds each).
const CHUNK: usize = 500;

/// A connection of its own to the buckets; made by [`RedisQueues::buckets`](super::redis::RedisQueues::buckets).
pub struct Buckets {
    server: RedisServer,
    /// With a hash tag, so that a cluster keeps all buckets on one node.
    prefix: String,
    connection: Option<MultiplexedConnection>,
}

impl Buckets {
    pub(super) fn new(server: RedisServer, prefix: &str) -> Self {
        Self { server, prefix: format!("{prefix}:{{buckets}}:"), connection: None }
    }

    /// Adds to buckets what takes this long to run out, and tells how long each now takes to run empty.
    pub async fn pour(&mut self, poured: &[(Uuid, Duration)]) -> RedisResult<Vec<Duration>> {
        let mut left = Vec::with_capacity(poured.len());
        for chunk in poured.chunks(CHUNK) {
            match self.pour_chunk(chunk).await {
                Ok(micros) => left.extend(micros.into_iter().map(Duration::from_micros)),
                Err(error) => {
                    // A new connection next time: this one may be half dead, or lead to an old primary.
                    self.connection = None;
                    return Err(error);
                }
            }
        }
        Ok(left)
    }

    async fn pour_chunk(&mut self, chunk: &[(Uuid, Duration)]) -> RedisResult<Vec<u64>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.server.connect(&self.prefix, RESPONSE_TIMEOUT).await?),
        };
        let script = Script::new(POUR);
        let mut call = script.prepare_invoke();
        for (id, amount) in chunk {
            call.key(format!("{}{id}", self.prefix)).arg(u64::try_from(amount.as_micros()).unwrap_or(u64::MAX));
        }
        call.invoke_async(connection).await
    }
}
