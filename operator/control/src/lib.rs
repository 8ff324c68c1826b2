//! Hands on the intents: observe, plan, act, report. `observe` freezes the world into `drover_plan::Observed`, the planner
//! decides, `act` executes each action exactly, `report` says how things are. Nothing in here decides about a set, and
//! nothing that is kept between passes matters: a new process finds everything in tags and bucket.

pub mod act;
pub mod agents;
pub mod asks;
pub mod certificates;
pub mod connections;
pub mod deletions;
pub mod directory;
pub mod doctor;
pub mod edge;
mod fleet;
pub mod forecast;
pub mod health;
pub mod kubernetes;
pub mod live;
pub mod lock;
mod memory;
pub mod metrics;
pub mod observe;
pub mod operator;
pub mod passwords;
pub mod publish;
pub mod report;
pub mod run;
pub mod snapshot;
pub mod socket;
pub mod source;
pub mod store;
pub mod task;
pub mod watching;
pub mod words;

pub use agents::{AgentError, Agents, Endpoint};
pub use connections::Connections;
pub use edge::{Clock, Entropy};
pub use observe::Pace;
pub use operator::{Config, Operator, PassOutcome};
pub use snapshot::Snapshot;
