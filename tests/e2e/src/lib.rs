//! Scenarios with the real binaries: `drover-local` boots machines on this host, `drover` runs the operator, machines run the
//! agent and mysqld. Here is what the scenarios stand on; the scenarios themselves are in `tests/`.
//!
//! Needs root and what `make build image` leaves. One cloud at a time fits on a host.

mod cloud;
mod disks;
mod ec2;
mod fleet;
mod operator;
mod pace;
mod programs;
mod records;
mod rows;
mod said;
mod scenario;

pub use cloud::{Cloud, Waiter};
pub use disks::device;
pub use ec2::Xml;
pub use fleet::{Facts, Machine};
pub use operator::{Asked, Operator, manifest};
pub use pace::{Clock, within};
pub use said::{Call, Endpoints, Instance, Lock, Status};
pub use scenario::{heading, scenario};
