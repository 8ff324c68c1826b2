//! What an account holds, in EC2's words. These records are both the model's state and what its replies carry; ids are plain
//! text because a client may send any text as an id.

use std::collections::BTreeMap;

use drover_api::Millis;
use serde::{Deserialize, Serialize};

/// Tags of one resource; EC2 keeps one value per key.
pub type Tags = BTreeMap<String, String>;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $(#[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every word, in EC2's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that EC2 uses on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// None for a word that EC2 does not know here.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// InstanceState.Name.
    InstanceStateName {
        Pending = "pending", Running = "running", ShuttingDown = "shutting-down", Terminated = "terminated",
        Stopping = "stopping", Stopped = "stopped",
    }
);
words!(VolumeState { Creating = "creating", Available = "available", InUse = "in-use", Deleting = "deleting" });
words!(
    /// State of a volume's or a network interface's attachment.
    AttachmentState { Attaching = "attaching", Attached = "attached", Detaching = "detaching" }
);
words!(
    /// InstanceInitiatedShutdownBehavior: what a power-off from inside the machine does.
    ShutdownBehavior { Stop = "stop", Terminate = "terminate" }
);
words!(HttpTokens { Optional = "optional", Required = "required" });
words!(Switch { Disabled = "disabled", Enabled = "enabled" });
words!(AutoRecovery { Default = "default", Disabled = "disabled" });
words!(CheckStatus { Ok = "ok", Impaired = "impaired", Initializing = "initializing", NotApplicable = "not-applicable" });
words!(Architecture { Arm64 = "arm64", X86_64 = "x86_64" });
words!(
    /// The kinds of resource that this model tags.
    ResourceType {
        Image = "image", Instance = "instance", NetworkInterface = "network-interface", SecurityGroup = "security-group",
        Subnet = "subnet", Volume = "volume", Vpc = "vpc",
    }
);

impl InstanceStateName {
    /// InstanceState.Code, the low byte.
    pub fn code(self) -> u16 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }
}

/// How the operating system is ended by StopInstances and TerminateInstances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerOff {
    /// A graceful shutdown; the host waits for it.
    Graceful,
    /// Force alone: a graceful shutdown first, the plug after a while.
    GracefulThenForced,
    /// SkipOsShutdown: the plug at once.
    AtOnce,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReason {
    pub code: String,
    pub message: String,
}

/// MetadataOptions of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataOptions {
    pub http_tokens: HttpTokens,
    pub http_put_response_hop_limit: u8,
    pub http_endpoint: Switch,
    pub instance_metadata_tags: Switch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceProfile {
    pub arn: String,
    pub id: String,
    pub name: String,
}

/// One entry of an instance's BlockDeviceMappings; the volume's own attachment has the details.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    pub device_name: String,
    pub volume_id: String,
}

/// An instance as the account keeps it. What Describe shows of it is [`super::DescribedInstance`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub instance_id: String,
    pub reservation_id: String,
    pub ami_launch_index: u32,
    pub image_id: String,
    pub instance_type: String,
    pub architecture: Architecture,
    pub client_token: Option<String>,
    pub state: InstanceStateName,
    pub state_reason: Option<StateReason>,
    /// StateTransitionReason: empty, or "User initiated (2026-01-31 12:00:00 GMT)".
    pub state_transition_reason: String,
    pub launch_time: Millis,
    pub zone: String,
    pub zone_id: String,
    pub subnet_id: String,
    pub vpc_id: String,
    pub private_ip_address: String,
    /// The primary interface; this model gives an instance exactly one.
    pub network_interface_id: String,
    pub block_devices: Vec<BlockDevice>,
    pub root_device_name: String,
    pub instance_profile: Option<InstanceProfile>,
    pub metadata_options: MetadataOptions,
    pub ebs_optimized: bool,
    pub monitoring: bool,
    pub auto_recovery: AutoRecovery,
    pub disable_api_termination: bool,
    pub disable_api_stop: bool,
    pub shutdown_behavior: ShutdownBehavior,
    /// Raw bytes, not base64.
    pub user_data: Option<Vec<u8>>,
    pub tags: Tags,
    /// Tags as they were before each change that tag lag may still hide, oldest first, with the time of the change.
    pub earlier_tags: Vec<(Millis, Tags)>,

    /// When RunInstances made it: what visibility lag counts from.
    pub created: Millis,
    /// When it last became running: what the status checks count from.
    pub running_since: Option<Millis>,
    /// The host under it is gone: status checks fail, the state does not change.
    pub host_lost: bool,
    /// How the operating system is being ended, while stopping or shutting-down.
    pub power_off: Option<PowerOff>,
    /// Counts state changes, so that a timer set for an earlier state does nothing.
    pub turn: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAttachment {
    pub instance_id: String,
    pub device: String,
    pub state: AttachmentState,
    pub attach_time: Millis,
    pub delete_on_termination: bool,
    /// DetachVolume was called with Force.
    pub forced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub volume_id: String,
    pub size_gib: u32,
    pub volume_type: String,
    pub iops: Option<u32>,
    pub throughput: Option<u32>,
    pub encrypted: bool,
    pub kms_key_id: Option<String>,
    /// The image a root volume was made from; EC2 names the image's snapshot instead.
    pub image_id: Option<String>,
    pub zone: String,
    pub zone_id: String,
    pub state: VolumeState,
    pub create_time: Millis,
    /// At most one: Multi-Attach is not modelled.
    pub attachment: Option<VolumeAttachment>,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAttachment {
    pub attachment_id: String,
    pub instance_id: String,
    pub device_index: u32,
    pub attach_time: Millis,
    pub delete_on_termination: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    pub network_interface_id: String,
    pub owner_id: String,
    pub subnet_id: String,
    pub vpc_id: String,
    pub zone: String,
    pub zone_id: String,
    pub description: String,
    pub mac_address: String,
    /// The first is the primary, for life; the others are secondary and can be moved.
    pub private_ip_addresses: Vec<String>,
    /// Ids of security groups, at least one.
    pub groups: Vec<String>,
    pub attachment: Option<InterfaceAttachment>,
    pub source_dest_check: bool,
    pub created: Millis,
    pub tags: Tags,
}

impl NetworkInterface {
    /// PrivateIpAddress: the primary one.
    pub fn primary_address(&self) -> &str {
        self.private_ip_addresses.first().map_or("", String::as_str)
    }
}

/// One rule of a security group: from or to address ranges and other groups. Ports are None for all protocols (`-1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPermission {
    pub ip_protocol: String,
    pub ports: Option<(u16, u16)>,
    pub cidrs: Vec<String>,
    pub groups: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub group_id: String,
    pub arn: String,
    pub group_name: String,
    pub description: String,
    pub owner_id: String,
    pub vpc_id: String,
    pub ingress: Vec<IpPermission>,
    pub egress: Vec<IpPermission>,
    pub created: Millis,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    pub vpc_id: String,
    pub owner_id: String,
    pub cidr_block: String,
    pub is_default: bool,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet_id: String,
    pub owner_id: String,
    pub vpc_id: String,
    pub zone: String,
    pub cidr_block: String,
    pub default_for_az: bool,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailabilityZone {
    pub region_name: String,
    pub zone_name: String,
    pub zone_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub image_id: String,
    pub name: String,
    pub description: String,
    pub owner_id: String,
    pub architecture: Architecture,
    pub creation_date: Millis,
    pub root_device_name: String,
    pub root_size_gib: u32,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceTypeInfo {
    pub instance_type: String,
    pub vcpus: u32,
    pub memory_mib: u32,
    pub architecture: Architecture,
    /// Private IPv4 addresses on one interface, the primary included.
    pub ipv4_addresses_per_interface: u32,
    pub burstable: bool,
}

impl Architecture {
    /// How its machines boot where the image says nothing of it ("Instance launch behavior with Amazon EC2 boot modes").
    pub fn boot_mode(self) -> &'static str {
        match self {
            Self::Arm64 => "uefi",
            Self::X86_64 => "legacy-bios",
        }
    }

    /// Those that its types support.
    pub fn boot_modes(self) -> &'static [&'static str] {
        match self {
            Self::Arm64 => &["uefi"],
            Self::X86_64 => &["legacy-bios", "uefi"],
        }
    }
}

impl InstanceTypeInfo {
    /// A thread is a vCPU: two on each of Intel's cores, one on each of Graviton's.
    pub fn threads_per_core(&self) -> u32 {
        match self.architecture {
            Architecture::Arm64 => 1,
            Architecture::X86_64 => 2,
        }
    }

    pub fn cores(&self) -> u32 {
        self.vcpus / self.threads_per_core()
    }

    /// Volumes on one machine, its one interface beside them ("Amazon EBS volume limits for Amazon EC2 instances": dedicated to
    /// volumes, or shared with the interfaces).
    pub fn volumes_max(&self) -> usize {
        if self.instance_type.starts_with("m7i.") { 32 } else { 28 - 1 }
    }
}

impl Vpc {
    /// Of its one range of addresses.
    pub fn association_id(&self) -> String {
        self.vpc_id.replacen("vpc-", "vpc-cidr-assoc-", 1)
    }
}

impl Volume {
    /// Provisioned, or the baseline of a gp2 volume: 3 IOPS per GiB, 100 at least and 16,000 at most ("General Purpose SSD volumes").
    pub fn shown_iops(&self) -> Option<u32> {
        let baseline = (self.volume_type == "gp2").then(|| (self.size_gib * 3).clamp(100, 16_000));
        self.iops.or(baseline)
    }

    /// The snapshot that it was made from; empty for one that began empty.
    pub fn snapshot_id(&self) -> String {
        self.image_id.as_deref().map(snapshot_of).unwrap_or_default()
    }
}

impl Image {
    /// ImageLocation.
    pub fn location(&self) -> String {
        format!("{}/{}", self.owner_id, self.name)
    }

    /// The snapshot of its root volume.
    pub fn snapshot_id(&self) -> String {
        snapshot_of(&self.image_id)
    }
}

/// This account has no snapshots of its own, so that behind an image is named after it.
fn snapshot_of(image_id: &str) -> String {
    image_id.replacen("ami-", "snap-", 1)
}
