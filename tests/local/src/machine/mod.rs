//! The machines of drover-local: what stands for EC2's hardware. A machine is a network namespace on a bridge, a root file system
//! laid over the image, and systemd as PID 1 of its own namespaces; a volume is a sparse file behind a loop device; the metadata
//! service answers on 169.254.169.254 inside each machine. Nothing here knows of the EC2 API: the model of the account decides,
//! [`Hypervisor`] does, and what happens by itself (a machine that powers off from inside) comes back as a [`HostEvent`].
//!
//! Everything made in the kernel carries a name derived from the instance's directory, so [`sweep`] finds all of it, and nothing
//! else, after a crash too. Machines die with the process that started them: a parent-death signal kills each one's PID 1.
//!
//! The surface of [`Hypervisor`], all of it async but `open`'s arguments:
//! `open(Config, Arc<dyn Metadata>) -> (Hypervisor, mpsc::Receiver<HostEvent>)`, `gateway() -> Ipv4Addr` (where machines reach the
//! endpoints), `boot(&MachineSpec)` (launch and start), `stop(id, Stop)`, `reboot(id)`, `terminate(id)`, `exec(id, argv, limit)`,
//! `create_volume(id, bytes)`, `attach(volume, instance)`, `detach(volume, instance)`, `delete_volume(id)`, `freeze(id)`, `thaw(id)`,
//! `cut(Cut)`, `heal(Cut)`, `stall_volume(id)`, `resume_volume(id)`, `fill_volume(id)`, `empty_volume(id)`, `close()`.
//!
//! Needs root, and from the host: iproute2, util-linux, nftables (for network faults), e2fsprogs in the image, overlayfs, loop devices.

mod spec;

pub use spec::{
    Config, Cut, Direction, Error, HostEvent, Image, Limits, MachineSpec, Metadata, MetadataView, Output, Result,
    RoleCredentials, RoleView, Stop, Subnet, Swept,
};
