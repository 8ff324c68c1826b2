//! What each command does.

pub mod agent;
pub mod credentials;
pub mod delete;
pub mod mysql;
pub mod plan;
pub mod run;
pub mod status;
