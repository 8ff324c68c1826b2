//! The machines of drover-local: what stands for EC2's hardware. A machine is a network namespace on a bridge, a root file system
//! laid over the image, and systemd as PID 1 of its own namespaces; a volume is a sparse file behind a loop device; the metadata
//! service answers on 169.254.169.254 inside each machine. Nothing here knows of the EC2 API: the model of the account decides,
//! [`Hypervisor`] does, and what happens by itself (a machine that powers off from inside) comes back as a [`HostEvent`].
//!
//! Everything made in the kernel carries a name derived from the instance's directory, so [`sweep`] finds all of it, and nothing
//! else, after a crash too. Machines die with the process that started them: a parent-death signal kills each one's PID 1.
//!
//! Needs root, and from the host: iproute2, util-linux, nftables (for network faults and security groups), e2fsprogs in the image, overlayfs, loop devices.

mod boot;
mod cgroups;
mod command;
mod console;
mod enter;
mod faults;
mod host;
mod hypervisor;
mod image;
mod imds;
mod names;
mod network;
mod pace;
mod rules;
mod site;
mod spec;
mod stall;
mod sweep;
mod tear;
#[cfg(test)]
mod tests;
mod volumes;

pub use enter::entrance_to;
pub use hypervisor::Hypervisor;
pub use image::Images;
pub use network::{Turn, first_free};
pub use spec::{
    Config, Cut, Detach, Direction, Error, HostEvent, Image, Limits, MachineSpec, Metadata, MetadataView, Output,
    Result, RoleCredentials, RoleView, Stop, Subnet, Swept,
};
pub use sweep::sweep;
