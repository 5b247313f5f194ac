//! Sessions: planned, read, changed, deleted here; their life is in [`lifecycle`].

pub mod body;
pub mod create;
pub mod lifecycle;
pub mod list;
pub mod meaning;
mod provider;
pub mod read;
pub mod remove;
pub mod update;
