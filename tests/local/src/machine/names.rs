//! The names of everything made in the kernel, derived from the directory: a sweep needs no list, and two instances never meet.

use std::path::{Path, PathBuf};

use drover_api::{InstanceId, VolumeId};
use sha2::{Digest, Sha256};

use super::spec::{Error, Result};

/// The directory of one drover-local, and the tag that its kernel objects carry.
#[derive(Clone, Debug)]
pub(super) struct Names {
    dir: PathBuf,
    tag: String,
}

/// The machine's interface, in its own namespace.
pub(super) const INTERFACE: &str = "eth0";

impl Names {
    /// The directory must exist: its canonical path is what is hashed.
    pub(super) fn of(dir: &Path) -> Result<Names> {
        let dir = dir
            .canonicalize()
            .map_err(|source| Error::Io { what: format!("cannot open {}", dir.display()), source })?;
        let tag = short_hash(dir.as_os_str().as_encoded_bytes(), 8);
        Ok(Names { dir, tag })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The namespace that holds the bridge, and the prefix of the machines' namespaces. The bridge lives in a namespace of its own so
    /// that no firewall of the host sees the machines' traffic, and so that deleting the namespace deletes all of it.
    pub(super) fn switch(&self) -> String {
        format!("drover-{}", self.tag)
    }

    pub(super) fn namespace(&self, instance: &InstanceId) -> String {
        format!("drover-{}-{instance}", self.tag)
    }

    pub(super) fn owns_namespace(&self, name: &str) -> bool {
        name == self.switch() || name.starts_with(&format!("{}-", self.switch()))
    }

    /// The host's interface into the network: 14 of the 15 characters that Linux allows.
    pub(super) fn host_link(&self) -> String {
        format!("drover{}", self.tag)
    }

    /// The directory of the cgroups, one below each controller.
    pub(super) fn cgroup(&self) -> String {
        format!("drover-{}", self.tag)
    }

    pub(super) fn machine_dir(&self, instance: &InstanceId) -> PathBuf {
        self.dir.join("machines").join(instance.as_str())
    }

    pub(super) fn volumes_dir(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    pub(super) fn volume_file(&self, volume: &VolumeId) -> PathBuf {
        self.volumes_dir().join(format!("{volume}.img"))
    }
}

/// The switch's end of a machine's cable.
pub(super) fn port(instance: &InstanceId) -> String {
    format!("m{}", short_hash(instance.as_str().as_bytes(), 12))
}

/// What a Nitro machine sees of an EBS volume: the id without its dash, in the link that udev makes of the controller's serial number.
/// Source: "Map Amazon EBS volumes to NVMe device names" in the EC2 user guide.
pub(super) fn device_link(volume: &VolumeId) -> String {
    format!("nvme-Amazon_Elastic_Block_Store_{}", volume.as_str().replacen('-', "", 1))
}

pub(super) fn short_hash(bytes: &[u8], digits: usize) -> String {
    let mut text = hex::encode(Sha256::digest(bytes));
    text.truncate(digits);
    text
}
