//! Keeps Redis filled with the head of each queue. The scheduler calls [`refill`] twice a second, a
//! worker when its queue runs low: one function heals a push that failed, an API that died between
//! commit and push, jobs that became due, and a Redis that was flushed or replaced.

use sqlx::PgPool;

use super::{
    ledger,
    redis::{RedisQueues, SLICE},
};
use crate::jobs::Queue;

/// Pushes the first due jobs unless Redis holds enough of them. Returns how many ids were sent;
/// most of them may be known there already, which changes nothing.
pub async fn refill(pool: &PgPool, redis: &RedisQueues, queue: Queue) -> anyhow::Result<usize> {
    match redis.depth(queue).await {
        Ok(depth) if depth > SLICE / 2 => return Ok(0),
        Ok(_) => {}
        Err(error) if error.code() == Some("WRONGTYPE") => {
            tracing::error!(queue = %queue, "the queue's key in Redis is no sorted set: removing it");
            redis.remove_foreign_key(queue).await?;
        }
        Err(error) => return Err(error.into()),
    }
    let head = ledger::due_head(pool, queue, SLICE as i64).await?;
    redis.push(queue, &head).await?;
    Ok(head.len())
}
