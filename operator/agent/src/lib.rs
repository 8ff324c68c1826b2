//! Hands on the machine. An agent runs on every machine of a set: it supervises mysqld, reports, and obeys numbered orders.
//!
//! [`state`] decides and touches nothing; everything else performs what it decided. The agent alone starts mysqld, always
//! read-only and offline, in a systemd unit of its own that never sends SIGTERM.

pub mod durable;
pub mod state;
