//! Nouns. What a set, a machine, a slot, an epoch and a record *are*, and how they are written down: the custom resource,
//! the EC2 tags, the objects in the bucket and the agent's wire format. Nothing here decides and nothing here does I/O.

pub mod allow;
pub mod bucket;
pub mod clients;
pub mod conditions;
pub mod config;
pub mod crd;
pub mod defaults;
pub mod digest;
pub mod gtid;
pub mod launch;
pub mod manifest;
pub mod names;
pub mod object;
pub mod problems;
pub mod records;
pub mod requests;
pub mod secrets;
pub mod set;
pub mod settings;
pub mod status;
pub mod tags;
pub mod validate;
pub mod wire;
pub mod yaml;

pub use gtid::GtidSet;
pub use names::*;
