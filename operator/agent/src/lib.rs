//! Hands on the machine. An agent runs on every machine of a set: it supervises mysqld, reports, and obeys numbered orders.
//!
//! [`state`] decides and touches nothing; [`hands`] performs what it decided, [`run`] is the loop between them. The agent
//! alone starts mysqld, always read-only and offline, in a systemd unit of its own that never sends SIGTERM.

pub mod durable;
mod edge;
pub mod hands;
pub mod identity;
mod run;
pub mod serve;
pub mod state;
pub mod update;
pub mod userdata;

pub use hands::paths::Paths;
pub use run::{AgentError, Config, run};
