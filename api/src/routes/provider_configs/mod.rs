//! Servers and accounts at meeting providers, as a tenant's administrator configures them.

mod body;
pub mod create;
mod forms;
pub mod health;
pub mod list;
pub mod make_default;
mod meaning;
pub mod remove;
pub mod test;
pub mod update;
