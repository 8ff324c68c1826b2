//! What an account holds before its owner has done anything: region, zones, one VPC with a subnet in each zone, the default
//! group and one for machines, an instance profile, instance types, images.

use std::{net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use super::types::{Architecture, InstanceTypeInfo, Tags};

/// Who moves the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hosting {
    /// The model itself, after the times of [`Timings`].
    Automatic,
    /// A host that is told by [`super::HostEvent`] and reports back.
    Reported,
}

/// How long things take. Under [`Hosting::Reported`] only those from `address_move` on count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// pending to running.
    pub boot: Duration,
    /// stopping to stopped, and shutting-down to terminated.
    pub graceful: Duration,
    /// The same with SkipOsShutdown, or when the host is lost.
    pub at_once: Duration,
    /// creating to available.
    pub volume: Duration,
    /// attaching to attached, and back.
    pub attach: Duration,
    /// Whether DetachVolume from a running machine ends: None means that it hangs, as with a mounted file system, until the
    /// machine stops or the call is repeated with Force.
    pub detach_running: Option<Duration>,
    /// From AssignPrivateIpAddresses to the address being there (the API reference: remapping is asynchronous).
    pub address_move: Duration,
    /// From the loss of a host to the machine's revival elsewhere by simplified automatic recovery; None: it stays down.
    pub auto_recovery: Option<Duration>,
    /// Status checks say `initializing` this long after running.
    pub status_checks: Duration,
    /// How long a terminated instance keeps its tags, and how long it stays listed (the API reference: about an hour).
    pub terminated_tags: Duration,
    pub terminated_listed: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(15),
            graceful: Duration::from_secs(30),
            at_once: Duration::from_secs(5),
            volume: Duration::from_secs(3),
            attach: Duration::from_secs(2),
            detach_running: None,
            address_move: Duration::from_secs(2),
            auto_recovery: None,
            status_checks: Duration::from_secs(120),
            terminated_tags: Duration::from_secs(10 * 60),
            terminated_listed: Duration::from_secs(60 * 60),
        }
    }
}

/// An image that the account owns from the start, or registers later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    pub name: String,
    pub description: String,
    pub architecture: Architecture,
    pub root_size_gib: u32,
    pub tags: Tags,
}

/// A zone and its subnet's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    pub zone: String,
    pub cidr: Cidr,
}

/// Everything about an account that its owner could have chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Twelve digits.
    pub owner_id: String,
    pub region: String,
    pub vpc_cidr: Cidr,
    /// One per zone; the order of the zones is that of this list.
    pub subnets: Vec<SubnetSpec>,
    /// Tags of the subnets and of the machines' group, so that they can be selected by tag.
    pub network_tags: Tags,
    /// The name of the security group made for machines.
    pub machine_group: String,
    /// Names of instance profiles that exist.
    pub instance_profiles: Vec<String>,
    pub images: Vec<ImageSpec>,
    pub instance_types: Vec<InstanceTypeInfo>,
    /// Quota of vCPUs of instances that are not terminated or stopped; None: no limit.
    pub vcpus_max: Option<u32>,
    /// Quota of volumes; None: no limit.
    pub volumes_max: Option<u32>,
    pub hosting: Hosting,
    pub timings: Timings,
}

impl Account {
    /// An account like a new one: zones a, b and c of `region`, 10.42.0.0/16 with a /24 in each, Graviton and Intel types, no
    /// images, automatic hosts.
    pub fn new(region: &str) -> Self {
        let subnet = |index: u8, letter: char| SubnetSpec {
            zone: format!("{region}{letter}"),
            cidr: Cidr { base: Ipv4Addr::new(10, 42, index, 0), prefix: 24 },
        };
        Self {
            owner_id: "123456789012".into(),
            region: region.into(),
            vpc_cidr: Cidr { base: Ipv4Addr::new(10, 42, 0, 0), prefix: 16 },
            subnets: vec![subnet(1, 'a'), subnet(2, 'b'), subnet(3, 'c')],
            network_tags: Tags::new(),
            machine_group: "machines".into(),
            instance_profiles: vec!["machine".into()],
            images: Vec::new(),
            instance_types: instance_types(),
            vcpus_max: None,
            volumes_max: None,
            hosting: Hosting::Automatic,
            timings: Timings::default(),
        }
    }
}

impl Account {
    /// The same account with its VPC elsewhere: a /24 for each zone's subnet, the first for the host's own.
    pub fn in_network(mut self, vpc_cidr: Cidr) -> Self {
        self.vpc_cidr = vpc_cidr;
        for (subnet, index) in self.subnets.iter_mut().zip(1..) {
            subnet.cidr = Cidr { base: Ipv4Addr::from(u32::from(vpc_cidr.base) + (index << 8)), prefix: 24 };
        }
        self
    }
}

/// Sizes as "Amazon EC2 instance types" lists them.
fn instance_types() -> Vec<InstanceTypeInfo> {
    let rows: [(&str, u32, u32, Architecture, u32); 10] = [
        ("t4g.micro", 2, 1_024, Architecture::Arm64, 2),
        ("t4g.small", 2, 2_048, Architecture::Arm64, 4),
        ("t4g.medium", 2, 4_096, Architecture::Arm64, 6),
        ("t3.micro", 2, 1_024, Architecture::X86_64, 2),
        ("t3.small", 2, 2_048, Architecture::X86_64, 4),
        ("t3.medium", 2, 4_096, Architecture::X86_64, 6),
        ("m7g.large", 2, 8_192, Architecture::Arm64, 10),
        ("m7g.xlarge", 4, 16_384, Architecture::Arm64, 15),
        ("m7i.large", 2, 8_192, Architecture::X86_64, 10),
        ("m7i.xlarge", 4, 16_384, Architecture::X86_64, 15),
    ];
    let info =
        |(name, vcpus, memory_mib, architecture, addresses): (&str, u32, u32, Architecture, u32)| InstanceTypeInfo {
            instance_type: name.into(),
            vcpus,
            memory_mib,
            architecture,
            ipv4_addresses_per_interface: addresses,
            burstable: name.starts_with('t'),
        };
    rows.into_iter().map(info).collect()
}

/// A range of IPv4 addresses: `10.42.1.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    pub base: Ipv4Addr,
    pub prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range like 10.42.1.0/24, /16 to /28, beginning at its own base")]
pub struct InvalidCidr(String);

impl Cidr {
    /// EC2 keeps the first four addresses and the last one of a subnet for itself ("Subnet CIDR blocks").
    pub fn usable(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.base);
        (first + 4..first + self.size() - 1).map(Ipv4Addr::from)
    }

    pub fn usable_count(self) -> u32 {
        self.size() - 5
    }

    /// False for the five addresses that EC2 keeps.
    pub fn is_usable(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.base));
        (4..self.size() - 1).contains(&offset)
    }

    fn size(self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;
    fn try_from(text: String) -> Result<Self, InvalidCidr> {
        let parsed = text.split_once('/').and_then(|(base, prefix)| Some((base.parse().ok()?, prefix.parse().ok()?)));
        match parsed {
            // The sizes EC2 allows for a VPC or subnet.
            Some((base, prefix)) if (16..=28).contains(&prefix) => {
                let cidr = Cidr { base, prefix };
                if u32::from(base) % cidr.size() == 0 { Ok(cidr) } else { Err(InvalidCidr(text)) }
            }
            _ => Err(InvalidCidr(text)),
        }
    }
}
