//! One struct per action, with the parameters of EC2's API reference that this model implements. A parameter that is not
//! here is for the wire to refuse (`ApiError::unknown_parameter`); a value that is not allowed is refused by the model.

use serde::{Deserialize, Serialize};

use super::types::{AutoRecovery, HttpTokens, ShutdownBehavior, Switch};

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type),* }
        )*
    };
}

/// The DryRun parameter of every action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Run,
    /// Checks the permission, and for RunInstances what the request names: DryRunOperation where the call would be allowed.
    DryRun,
}

requests! {
    /// All filters of a request AND, also two of one name; the values of one filter OR. `*` and `?` are wildcards, `\` escapes.
    Filter { name: String, values: Vec<String> }

    /// Filters and pagination, the same in every Describe action.
    Paged { filters: Vec<Filter>, max_results: Option<i64>, next_token: Option<String> }

    Tag { key: String, value: String }

    /// `resource_type` is one of EC2's words, for example `instance`.
    TagSpecification { resource_type: String, tags: Vec<Tag> }

    /// The Ebs part of a BlockDeviceMapping.
    EbsBlockDevice {
        delete_on_termination: Option<bool>,
        iops: Option<u32>,
        throughput: Option<u32>,
        volume_size: Option<u32>,
        volume_type: Option<String>,
        encrypted: Option<bool>,
        kms_key_id: Option<String>,
        snapshot_id: Option<String>,
    }

    BlockDeviceMapping { device_name: String, ebs: EbsBlockDevice }

    /// The one interface a launch may describe: DeviceIndex 0, made by the launch.
    InterfaceSpecification {
        device_index: u32,
        subnet_id: Option<String>,
        groups: Vec<String>,
        private_ip_address: Option<String>,
        /// PrivateIpAddresses.N: the primary address by its flag, and secondary ones.
        private_ip_addresses: Vec<AddressSpecification>,
        /// So many secondary addresses, whichever are free; not beside those above.
        secondary_private_ip_address_count: Option<u32>,
        description: Option<String>,
        delete_on_termination: Option<bool>,
        associate_public_ip_address: Option<bool>,
    }

    AddressSpecification { private_ip_address: String, primary: bool }

    MetadataOptionsRequest {
        http_tokens: Option<HttpTokens>,
        http_put_response_hop_limit: Option<i64>,
        http_endpoint: Option<Switch>,
        instance_metadata_tags: Option<Switch>,
    }

    /// By ARN or by name, not both.
    InstanceProfileSpecification { arn: Option<String>, name: Option<String> }

    RunInstances {
        image_id: Option<String>,
        instance_type: Option<String>,
        min_count: u32,
        max_count: u32,
        client_token: Option<String>,
        subnet_id: Option<String>,
        /// Placement.AvailabilityZone.
        availability_zone: Option<String>,
        /// Placement.AvailabilityZoneId.
        availability_zone_id: Option<String>,
        /// Placement.Tenancy: `default` is all there is here.
        tenancy: Option<String>,
        /// CreditSpecification.CpuCredits.
        cpu_credits: Option<String>,
        /// This account has no key pairs, so every name is unknown.
        key_name: Option<String>,
        security_group_ids: Vec<String>,
        /// SecurityGroup.N: names, in the default VPC.
        security_groups: Vec<String>,
        private_ip_address: Option<String>,
        network_interfaces: Vec<InterfaceSpecification>,
        block_device_mappings: Vec<BlockDeviceMapping>,
        instance_profile: Option<InstanceProfileSpecification>,
        metadata_options: MetadataOptionsRequest,
        /// Decoded: raw bytes, at most 16,384.
        user_data: Option<Vec<u8>>,
        tag_specifications: Vec<TagSpecification>,
        disable_api_termination: Option<bool>,
        disable_api_stop: Option<bool>,
        instance_initiated_shutdown_behavior: Option<ShutdownBehavior>,
        ebs_optimized: Option<bool>,
        /// Monitoring.Enabled.
        monitoring: Option<bool>,
        /// MaintenanceOptions.AutoRecovery.
        auto_recovery: Option<AutoRecovery>,
    }

    DescribeInstances { instance_ids: Vec<String>, paged: Paged }
    DescribeInstanceStatus { instance_ids: Vec<String>, include_all_instances: bool, paged: Paged }
    StartInstances { instance_ids: Vec<String> }
    StopInstances { instance_ids: Vec<String>, force: bool, skip_os_shutdown: bool, hibernate: bool }
    RebootInstances { instance_ids: Vec<String> }
    TerminateInstances { instance_ids: Vec<String>, force: bool, skip_os_shutdown: bool }

    /// `attribute` is one of EC2's words, for example `disableApiTermination`.
    DescribeInstanceAttribute { instance_id: String, attribute: String }

    /// Exactly one change per call, as EC2 asks.
    ModifyInstanceAttribute { instance_id: String, changes: Vec<InstanceChange> }

    CreateTags { resources: Vec<String>, tags: Vec<Tag> }

    /// A tag without a value is deleted whatever its value; no tags at all means every tag that a user set.
    DeleteTags { resources: Vec<String>, tags: Vec<TagToDelete> }
    TagToDelete { key: String, value: Option<String> }
    DescribeTags { paged: Paged }

    /// The zone by its name or by its id, not both.
    CreateVolume {
        availability_zone: Option<String>,
        availability_zone_id: Option<String>,
        size: Option<u32>,
        volume_type: Option<String>,
        iops: Option<u32>,
        throughput: Option<u32>,
        encrypted: Option<bool>,
        kms_key_id: Option<String>,
        snapshot_id: Option<String>,
        multi_attach_enabled: Option<bool>,
        client_token: Option<String>,
        tag_specifications: Vec<TagSpecification>,
    }
    DeleteVolume { volume_id: String }
    AttachVolume { volume_id: String, instance_id: String, device: String }
    DetachVolume { volume_id: String, instance_id: Option<String>, device: Option<String>, force: bool }
    DescribeVolumes { volume_ids: Vec<String>, paged: Paged }

    DescribeNetworkInterfaces { network_interface_ids: Vec<String>, paged: Paged }

    /// Exactly one change per call, as EC2 asks.
    ModifyNetworkInterfaceAttribute { network_interface_id: String, changes: Vec<InterfaceChange> }

    /// Addresses or a count, not both.
    AssignPrivateIpAddresses {
        network_interface_id: String,
        private_ip_addresses: Vec<String>,
        secondary_private_ip_address_count: Option<u32>,
        allow_reassignment: bool,
    }
    UnassignPrivateIpAddresses { network_interface_id: String, private_ip_addresses: Vec<String> }

    DescribeVpcs { vpc_ids: Vec<String>, paged: Paged }
    DescribeSubnets { subnet_ids: Vec<String>, paged: Paged }
    DescribeAvailabilityZones { zone_names: Vec<String>, zone_ids: Vec<String>, filters: Vec<Filter> }

    /// `description` is EC2's GroupDescription.
    CreateSecurityGroup {
        group_name: String,
        description: String,
        vpc_id: Option<String>,
        tag_specifications: Vec<TagSpecification>,
    }
    DeleteSecurityGroup { group_id: Option<String>, group_name: Option<String> }
    DescribeSecurityGroups { group_ids: Vec<String>, group_names: Vec<String>, paged: Paged }

    /// `owners`: `self`, account ids, or the aliases `amazon` and `aws-marketplace`, which own nothing here.
    DescribeImages { image_ids: Vec<String>, owners: Vec<String>, executable_by: Vec<String>, paged: Paged }
    DescribeInstanceTypes { instance_types: Vec<String>, paged: Paged }
}

/// One attribute of ModifyInstanceAttribute; the wire maps both of EC2's forms (`DisableApiStop.Value` and
/// `Attribute`+`Value`) to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceChange {
    DisableApiTermination(bool),
    DisableApiStop(bool),
    InstanceInitiatedShutdownBehavior(ShutdownBehavior),
    /// Decoded: raw bytes. Only while stopped.
    UserData(Vec<u8>),
    /// Only while stopped.
    InstanceType(String),
    /// Only while stopped.
    EbsOptimized(bool),
    SourceDestCheck(bool),
    /// Replaces the groups of the primary interface.
    Groups(Vec<String>),
    /// BlockDeviceMapping.N: device name and Ebs.DeleteOnTermination.
    DeleteOnTermination(Vec<(String, bool)>),
}

/// One attribute of ModifyNetworkInterfaceAttribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceChange {
    Groups(Vec<String>),
    Description(String),
    SourceDestCheck(bool),
    /// Attachment: AttachmentId and DeleteOnTermination.
    DeleteOnTermination {
        attachment_id: String,
        delete: bool,
    },
}
