//! Decisions. Everything that Drover decides about a fleet is decided here, from data to data: no I/O, no clock, no
//! environment, no randomness, no logging. `plan(&Observed) -> Plan` says what is to be done, what is awaited, and how the
//! sets are; executing a plan never decides anything (law 5).

pub mod actions;
pub mod observed;
pub mod report;

pub use actions::{Action, Plan, Planned, Waiting};
pub use observed::Observed;
pub use report::SetReport;
