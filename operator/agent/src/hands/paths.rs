//! Where things lie on a machine.

use std::path::{Path, PathBuf};

/// mysqld's user and group, the same number on every image: volumes move between machines.
pub const MYSQL_ID: u32 = 27_306;
pub const MYSQL_USER: &str = "drover-mysql";
pub const MYSQLD: &str = "/usr/sbin/mysqld";
/// Created by the unit.
pub const SOCKET: &str = "/run/drover-mysqld/mysqld.sock";
pub const MYSQLD_UNIT: &str = "drover-mysqld.service";
pub const AGENT_UNIT: &str = "drover-agent.service";
/// In the agent's own directory: see [`Paths::hint`].
pub const HINT: &str = "volume-id";

/// The agent's own directory and what is in it.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `/var/lib/drover`
    pub home: PathBuf,
    /// `/opt/drover/bin`
    pub bin: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { home: "/var/lib/drover".into(), bin: "/opt/drover/bin".into() }
    }
}

impl Paths {
    /// Where the data volume is mounted. The unit of that mount is ordered against ours, so its name needs no escapes.
    pub fn volume(&self) -> PathBuf {
        self.home.join("volume")
    }

    /// A whole data directory, or nothing.
    pub fn data(&self) -> PathBuf {
        self.volume().join("data")
    }

    /// Data in the making; removed before every attempt.
    pub fn making(&self) -> PathBuf {
        self.volume().join("data.tmp")
    }

    pub fn temporary(&self) -> PathBuf {
        self.volume().join("tmp")
    }

    /// my.cnf and the TLS files, on the root volume.
    pub fn mysqld(&self) -> PathBuf {
        self.home.join("mysqld")
    }

    /// Which volume was mounted last, so that a machine that boots without an operator finds it again, and in which boot, so
    /// that a volume that was used elsewhere since, or is an older copy, is told from one that is as this machine left it.
    pub fn hint(&self) -> PathBuf {
        self.home.join(HINT)
    }
}

/// By-id names of EBS volumes on Nitro machines (EC2 documentation, "Amazon EBS volumes and NVMe"); machines before Nitro have
/// none and are not supported.
pub fn device(volume: &str) -> PathBuf {
    Path::new("/dev/disk/by-id").join(format!("nvme-Amazon_Elastic_Block_Store_{}", volume.replace('-', "")))
}
