//! Scenarios with the real binaries: `drover-local` boots machines on this host, `drover` runs the operator, machines run the
//! agent and mysqld. Here is what the scenarios stand on; the scenarios themselves are in `tests/`.
//!
//! Needs root and what `make build image kubernetes` leaves. `run.sh` says how many at a time.

mod cloud;
mod demo;
mod disks;
mod ec2;
mod fleet;
mod host;
mod kubernetes;
mod operator;
mod pace;
mod policy;
mod processes;
mod programs;
mod records;
mod rows;
mod said;
mod scenario;
mod secrets;

pub use cloud::{Cloud, Waiter, image_cache, sweep_in};
pub use demo::Demo;
pub use disks::device;
pub use ec2::{Role, Xml};
pub use fleet::{Facts, Machine};
pub use host::{Traces, has_or_will_have_ended, traces};
pub use kubernetes::{
    Access, AuditEntry, Cluster, ControlPlane, History, image_of_mysql, image_of_program, reference,
    traces as kubernetes_traces,
};
pub use operator::{Asked, CONFIG, Installed, Operator, drover, manifest};
pub use pace::{Clock, within};
pub use policy::{Policy, permission};
pub use processes::{Seen, Watch};
pub use programs::binary;
pub use said::{Call, Endpoints, Instance, Lock, Status};
pub use scenario::{heading, scenario, scenario_without_machines};
pub use secrets::{OPERATOR_KEY, Secret, is_secret, objects, roles, secrets};
