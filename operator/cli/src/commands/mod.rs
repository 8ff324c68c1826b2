//! What each command does.

pub mod agent;
pub mod credentials;
pub mod delete;
pub mod doctor;
pub mod iam_policy;
pub mod mysql;
pub mod plan;
pub mod ready;
pub mod request;
pub mod run;
pub mod status;
