//! A real Kubernetes of a test's own: etcd, API server and controller manager ([`ControlPlane`]), and where pods are to run, a
//! whole cluster of one node besides ([`Cluster`]). `make kubernetes` builds the programs; nothing of the host's is used or changed.

mod access;
mod audit;
mod authority;
mod cgroups;
mod cluster;
mod history;
mod image;
mod network;
mod node;
mod permissions;
mod plane;
mod running;
mod tools;

pub use access::Access;
pub use audit::AuditEntry;
pub use cluster::Cluster;
pub use history::History;
pub use image::{image_of_mysql, image_of_program, reference};
pub use plane::ControlPlane;

use std::{fs, path::Path};

use crate::host::{self, Traces};

/// Removes what clusters in the directories below `dir` left in the kernel when their test was killed: the kernel itself ended their
/// processes and, with those, mounts and networks.
pub(crate) fn sweep(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let below = entry?.path();
        if below.join(node::HOME).is_dir() {
            cluster::remove_what_is_left(&host::tag(&below)?)?;
        }
    }
    Ok(())
}

/// Everything on this host that belongs to the Kubernetes in a directory.
pub fn traces(dir: &Path) -> anyhow::Result<Traces> {
    let tag = host::tag(dir)?;
    host::belonging(dir, &cgroup(&tag), &network::link(&tag))
}

/// A cluster's cgroup, in every hierarchy.
fn cgroup(tag: &str) -> String {
    format!("drover-kube-{tag}")
}
