//! What the actions answer. A described resource is the record joined with what hangs on it.

use super::types::{
    AvailabilityZone, BlockDevice, CheckStatus, Instance, InstanceStateName, NetworkInterface, ResourceType,
    ShutdownBehavior, Subnet, Tags, VolumeAttachment,
};

/// One page of a Describe action. `next_token` is None on the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_token: Option<String>,
}

/// GroupIdentifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupIdentifier {
    pub group_id: String,
    pub group_name: String,
}

/// A network interface with the names of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedInterface {
    pub interface: NetworkInterface,
    pub groups: Vec<GroupIdentifier>,
}

/// What Describe shows of an instance. A terminated one has no interface, no volumes and, after a while, no tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedInstance {
    pub instance: Instance,
    pub owner_id: String,
    pub network_interfaces: Vec<DescribedInterface>,
    pub block_device_mappings: Vec<(BlockDevice, VolumeAttachment)>,
}

impl DescribedInstance {
    /// SecurityGroups of the instance: those of its primary interface.
    pub fn groups(&self) -> &[GroupIdentifier] {
        self.network_interfaces.first().map_or(&[], |interface| &interface.groups)
    }

    /// None for a terminated instance.
    pub fn private_ip_address(&self) -> Option<&str> {
        self.network_interfaces.first().map(|described| described.interface.primary_address())
    }
}

/// What RunInstances answers, and what DescribeInstances groups by. A page may end inside a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub reservation_id: String,
    pub owner_id: String,
    pub instances: Vec<DescribedInstance>,
}

/// InstanceStateChange: of Start, Stop and Terminate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStateChange {
    pub instance_id: String,
    pub previous_state: InstanceStateName,
    pub current_state: InstanceStateName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStatus {
    pub instance_id: String,
    pub zone: String,
    pub zone_id: String,
    pub state: InstanceStateName,
    /// InstanceStatus.Status; its one detail, reachability, follows from it.
    pub instance_status: CheckStatus,
    pub system_status: CheckStatus,
}

/// The one attribute that DescribeInstanceAttribute was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    BlockDeviceMapping(Vec<(BlockDevice, VolumeAttachment)>),
    DisableApiStop(bool),
    DisableApiTermination(bool),
    EbsOptimized(bool),
    EnaSupport(bool),
    EnclaveOptions {
        enabled: bool,
    },
    GroupSet(Vec<GroupIdentifier>),
    InstanceInitiatedShutdownBehavior(ShutdownBehavior),
    InstanceType(String),
    /// None: EC2 answers with the empty element.
    Kernel(Option<String>),
    /// No image here has any.
    ProductCodes,
    Ramdisk(Option<String>),
    RootDeviceName(String),
    SourceDestCheck(bool),
    SriovNetSupport(Option<String>),
    /// Raw bytes; None where none was given at launch.
    UserData(Option<Vec<u8>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceAttribute {
    pub instance_id: String,
    pub value: AttributeValue,
}

/// TagDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagDescription {
    pub resource_id: String,
    pub resource_type: ResourceType,
    pub key: String,
    pub value: String,
}

/// What AttachVolume and DetachVolume answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub volume_id: String,
    pub attachment: VolumeAttachment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedPrivateIpAddresses {
    pub network_interface_id: String,
    pub assigned: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedSubnet {
    pub subnet: Subnet,
    pub subnet_arn: String,
    pub zone_id: String,
    pub available_ip_address_count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedZone {
    pub zone: AvailabilityZone,
    /// `available`, or `impaired` during a zone outage.
    pub state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSecurityGroup {
    pub group_id: String,
    pub arn: String,
    pub tags: Tags,
}
