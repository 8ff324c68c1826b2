//! What a machine is asked to be, what it is told about itself, and what can go wrong: plain data, shared by every part.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use drover_api::{InstanceId, VolumeId};
use serde::{Deserialize, Serialize};

/// Where the machines of one drover-local live.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds root file systems, volumes and consoles; its canonical path names everything made in the kernel.
    pub dir: PathBuf,
    /// The machines' network, all of it on one bridge. Refused when a route of the host already leads into it.
    pub network: Subnet,
    pub limits: Limits,
}

/// How long the hypervisor waits, and what it leaves to the host.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the start of a boot until systemd runs as PID 1.
    pub boot: Duration,
    /// What a graceful stop or reboot may take before the machine is killed. EC2 waits a few minutes.
    pub graceful_stop: Duration,
    /// One external command (ip, mount, losetup, ...).
    pub command: Duration,
    /// Launches are refused below this much available memory, in bytes.
    pub memory_reserve: u64,
    /// Launches are refused below this much free disk under `dir`, in bytes.
    pub disk_reserve: u64,
}

/// An IPv4 network: the address of the network and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub address: Ipv4Addr,
    /// 8 to 28.
    pub prefix: u8,
}

/// The layers of a root file system, lowest last, as overlayfs takes them. [`super::Images`] makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub layers: Vec<PathBuf>,
    /// What `mysqld --version` states inside: the image's tag `mysql-version`. `None`: the image has no mysqld.
    pub mysql_version: Option<String>,
}

/// One machine. The same spec starts it the first time (the root file system is made) and every time after.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    pub id: InstanceId,
    pub image: Image,
    /// Inside [`Config::network`].
    pub private_ip: Ipv4Addr,
    /// The subnet that the address is configured with inside.
    pub subnet: Subnet,
    /// `02:..`, as the metadata service will say.
    pub mac: String,
    /// The first label is the host name: `ip-10-77-0-5.ec2.internal`.
    pub hostname: String,
    /// The cgroup's limit in bytes; `None`: no limit but the host's memory.
    pub memory_max: Option<u64>,
    /// HttpPutResponseHopLimit: 1 to 64.
    pub metadata_hop_limit: u8,
    /// Data volumes that are attached when it boots.
    pub volumes: Vec<VolumeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// systemd powers off; killed after [`Limits::graceful_stop`].
    Graceful,
    /// SIGKILL to everything in it: Force with SkipOsShutdown, and the loss of a host.
    Forced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// Only what no file system is mounted from.
    WhenFree,
    /// Force: also what is in use. What has it open ends.
    Forced,
}

/// What a machine did without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// Powered off or halted from inside: EC2 stops or terminates it (InstanceInitiatedShutdownBehavior).
    PoweredOff(InstanceId),
    /// Rebooted from inside, and already booting again with a new boot id.
    Rebooted(InstanceId),
    /// Died without a shutdown: its PID 1 was killed, or did not come back from a reboot (`reason`).
    Died { id: InstanceId, reason: String },
}

/// Which packets of a machine are dropped, seen from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// It still receives; nothing it sends arrives.
    Send,
    /// It still sends; nothing reaches it.
    Receive,
    Both,
}

/// A cut of the network. ARP passes, as EC2's network answers it even where security groups drop everything; the metadata service is
/// never cut. Established connections are cut too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    pub machine: InstanceId,
    pub direction: Direction,
    /// Only traffic with this machine; `None`: with everything, the EC2 and S3 endpoints too.
    pub peer: Option<InstanceId>,
}

/// What a command inside a machine printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; `None` when a signal ended it.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// What a sweep removed, by kind; all zero when there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub processes: usize,
    pub namespaces: usize,
    pub links: usize,
    pub loop_devices: usize,
    pub cgroups: usize,
}

/// What a machine may read about itself. Asked at every request, so that tags and credentials are always the present ones.
pub trait Metadata: Send + Sync + 'static {
    /// `None`: the metadata service answers 404 to everything.
    fn view(&self, instance: &InstanceId) -> Option<MetadataView>;
}

#[derive(Clone, Debug)]
pub struct MetadataView {
    pub instance_id: InstanceId,
    pub image_id: String,
    pub instance_type: String,
    pub reservation_id: String,
    pub account_id: String,
    pub region: String,
    pub zone: String,
    /// `use1-az1`.
    pub zone_id: String,
    pub private_ip: Ipv4Addr,
    /// Secondary private addresses of the interface.
    pub secondary_ips: Vec<Ipv4Addr>,
    pub mac: String,
    pub hostname: String,
    pub interface_id: String,
    pub vpc_id: String,
    pub vpc_cidr: String,
    pub subnet_id: String,
    pub subnet_cidr: String,
    /// Ids and names.
    pub security_groups: Vec<(String, String)>,
    /// RFC 3339, seconds: the identity document's `pendingTime`.
    pub launched_at: String,
    /// `None`: InstanceMetadataTags is disabled, and `tags/` answers 404.
    pub tags: Option<BTreeMap<String, String>>,
    /// Not base64. `None`: 404.
    pub user_data: Option<Vec<u8>>,
    /// HttpTokens: with `false`, IMDSv1 requests without a token are answered too.
    pub tokens_required: bool,
    pub role: Option<RoleView>,
}

#[derive(Clone, Debug)]
pub struct RoleView {
    pub profile_arn: String,
    pub profile_id: String,
    pub role_name: String,
    pub credentials: RoleCredentials,
}

/// The role's temporary credentials; the times are RFC 3339 in UTC with seconds, as the metadata service prints them.
#[derive(Clone, Serialize, Deserialize)]
pub struct RoleCredentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub token: String,
    pub last_updated: String,
    pub expiration: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host cannot carry another machine: InsufficientInstanceCapacity upstream. A whole sentence for people.
    #[error("the host has no room for another machine: {0}")]
    Capacity(String),
    /// The host lacks something that no machine can do without. A whole sentence for people.
    #[error("this host cannot run machines: {0}")]
    Unfit(String),
    #[error("{0} does not exist")]
    NoSuchMachine(InstanceId),
    #[error("{0} is not running")]
    NotRunning(InstanceId),
    #[error("{0} is running already")]
    AlreadyRunning(InstanceId),
    #[error("{0} does not exist")]
    NoSuchVolume(VolumeId),
    #[error("{volume} is in use by {by}")]
    VolumeInUse { volume: VolumeId, by: String },
    #[error("{volume} is not attached to {instance}")]
    NotAttached { volume: VolumeId, instance: InstanceId },
    #[error("{0} is not mounted inside its machine")]
    NotMounted(VolumeId),
    #[error("{id} did not boot: {reason}")]
    Boot { id: InstanceId, reason: String },
    #[error("{command} failed ({status}): {stderr}")]
    Command { command: String, status: String, stderr: String },
    #[error("{command} did not end within {limit:?}")]
    Deadline { command: String, limit: Duration },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

pub type Result<T> = std::result::Result<T, Error>;

// === impl ===

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Two seconds on an idle host; a bound is for what hangs, not for what is slow on a busy one.
            boot: Duration::from_secs(60),
            graceful_stop: Duration::from_secs(90),
            command: Duration::from_secs(60),
            memory_reserve: 512 << 20,
            disk_reserve: 1 << 30,
        }
    }
}

impl std::fmt::Debug for RoleCredentials {
    /// Never prints the secret or the token (law 9).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// overlayfs separates layers by colons and options by commas, so no path may hold one.
    pub(super) fn overlay(&self) -> std::result::Result<String, &'static str> {
        let layers: Option<Vec<&str>> = self.layers.iter().map(|layer| layer.to_str()).collect();
        match layers {
            Some(layers) if !layers.is_empty() && !layers.iter().any(|layer| layer.contains([':', ','])) => {
                Ok(layers.join(":"))
            }
            _ => Err("the paths of its image must be UTF-8 without colons and commas"),
        }
    }
}

impl Subnet {
    /// The `n`-th address of the network; 0 is the network itself.
    pub fn host(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address).wrapping_add(n))
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - u32::from(self.prefix));
        u32::from(address) & mask == u32::from(self.address) & mask
    }

    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
