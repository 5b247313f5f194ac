//! The queue: Postgres decides, Redis delivers (docs/adr/0001).
//!
//! [`Tx::enqueue`] writes a row of the ledger in the caller's transaction; after [`Tx::commit`] the
//! [`Dispatcher`] pushes its id to Redis. Whatever was not pushed, or was lost there, is pushed by
//! [`relay`], which keeps the head of each queue in Redis. Workers claim rows through [`ledger`].

pub mod buckets;
pub mod control;
mod dispatcher;
mod joint;
pub mod ledger;
pub mod rates;
pub mod redis;
mod redis_server;
pub mod relay;
mod tx;

pub use dispatcher::Dispatcher;
pub use joint::Joint;
pub use tx::{Cause, Enqueued, Tx};
