//! EC2's words into ours.

use std::collections::BTreeMap;

use drover_api::{ClientToken, ImageId, InstanceId, SecurityGroupId, SubnetId, VolumeId, Zone};

use crate::{
    ec2::{
        self, ApiError, DescribedInstance, DescribedSubnet, Filter, InstanceStateName, InstanceTypeInfo, Paged, Tag,
    },
    error::{Class, CloudError},
    machines::{Image, InstanceType, Machine, MachineState, StateReason, Subnet},
    volumes::{Attachment, AttachmentState, Volume, VolumeState},
};

/// The classes that the real adapter gives to the same codes; only codes that the model answers are here.
pub(super) fn error(call: &'static str, error: ApiError) -> CloudError {
    let class = match error.code.as_str() {
        "RequestLimitExceeded" => Class::Throttled,
        "Unavailable" | "InternalError" => Class::Transient,
        "IncorrectInstanceState" | "IncorrectState" | "VolumeInUse" | "DependencyViolation" => Class::WrongState,
        "InsufficientInstanceCapacity" | "InsufficientFreeAddressesInSubnet" => Class::Capacity,
        "IdempotentParameterMismatch" => Class::TokenMismatch,
        "IdempotentInstanceTerminated" => Class::TokenSpent,
        "OperationNotPermitted" if call == "TerminateInstances" => Class::Protected,
        "UnauthorizedOperation" | "AuthFailure" => Class::Denied,
        "InvalidAMIID.NotFound" | "InvalidZone.NotFound" | "FilterLimitExceeded" => Class::Invalid,
        "InvalidParameterValue" if error.message.contains("Invalid IAM Instance Profile") => Class::NotVisibleYet,
        code if code.starts_with("Invalid") && code.ends_with(".NotFound") => Class::NotFound,
        code if code.ends_with("LimitExceeded") => Class::Quota,
        _ => Class::Invalid,
    };
    CloudError::new(class, call, error.code, error.message)
}

pub(super) fn machine(it: &DescribedInstance) -> Machine {
    let interface = it.network_interfaces.first().map(|described| &described.interface);
    let instance = &it.instance;
    Machine {
        id: InstanceId::new(&instance.instance_id).expect("the model mints valid ids"),
        state: match instance.state {
            InstanceStateName::Pending => MachineState::Pending,
            InstanceStateName::Running => MachineState::Running,
            InstanceStateName::Stopping => MachineState::Stopping,
            InstanceStateName::Stopped => MachineState::Stopped,
            InstanceStateName::ShuttingDown => MachineState::ShuttingDown,
            InstanceStateName::Terminated => MachineState::Terminated,
        },
        state_reason: instance
            .state_reason
            .as_ref()
            .map(|it| StateReason { code: it.code.clone(), message: it.message.clone() }),
        zone: zone(&instance.zone),
        subnet: interface.map(|it| SubnetId::new(&it.subnet_id).expect("the model mints valid ids")),
        private_ip: it.private_ip_address().and_then(|address| address.parse().ok()),
        instance_type: instance.instance_type.clone(),
        image: ImageId::new(&instance.image_id).expect("the model mints valid ids"),
        token: instance.client_token.clone().and_then(|token| ClientToken::new(token).ok()),
        launched: instance.launch_time,
        tags: instance.tags.clone(),
        volumes: it.block_device_mappings.iter().map(|(device, _)| volume_id(&device.volume_id)).collect(),
    }
}

pub(super) fn volume(it: &ec2::Volume) -> Volume {
    Volume {
        id: volume_id(&it.volume_id),
        state: match it.state {
            ec2::VolumeState::Creating => VolumeState::Creating,
            ec2::VolumeState::Available => VolumeState::Available,
            ec2::VolumeState::InUse => VolumeState::InUse,
            ec2::VolumeState::Deleting => VolumeState::Deleting,
        },
        zone: zone(&it.zone),
        size_gib: it.size_gib,
        volume_type: it.volume_type.clone(),
        iops: it.iops,
        throughput_mibps: it.throughput,
        created: it.create_time,
        tags: it.tags.clone(),
        attachment: it.attachment.as_ref().map(|at| Attachment {
            instance: InstanceId::new(&at.instance_id).expect("the model mints valid ids"),
            state: match at.state {
                ec2::AttachmentState::Attaching => AttachmentState::Attaching,
                ec2::AttachmentState::Attached => AttachmentState::Attached,
                ec2::AttachmentState::Detaching => AttachmentState::Detaching,
            },
            device: at.device.clone(),
            delete_on_termination: Some(at.delete_on_termination),
        }),
    }
}

pub(super) fn image(it: &ec2::Image) -> Image {
    Image {
        id: ImageId::new(&it.image_id).expect("the model mints valid ids"),
        name: it.name.clone(),
        architecture: it.architecture.to_string(),
        created: ec2::time(it.creation_date),
        available: true,
        tags: it.tags.clone(),
    }
}

pub(super) fn subnet(it: &DescribedSubnet) -> Subnet {
    Subnet {
        id: SubnetId::new(&it.subnet.subnet_id).expect("the model mints valid ids"),
        zone: zone(&it.subnet.zone),
        vpc: it.subnet.vpc_id.clone(),
        free_addresses: it.available_ip_address_count,
    }
}

pub(super) fn security_group(id: &str) -> SecurityGroupId {
    SecurityGroupId::new(id).expect("the model mints valid ids")
}

pub(super) fn instance_type(it: &InstanceTypeInfo) -> InstanceType {
    InstanceType {
        name: it.instance_type.clone(),
        architecture: it.architecture.to_string(),
        vcpus: it.vcpus,
        memory_mib: it.memory_mib,
    }
}

pub(super) fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect()
}

/// Filters that ask for exactly these texts: `*`, `?` and `\` lose their meaning.
pub(super) fn filters(pairs: &[(&str, &str)]) -> Paged {
    let filter = |(name, value): &(&str, &str)| Filter { name: (*name).into(), values: vec![exact(value)] };
    Paged { filters: pairs.iter().map(filter).collect(), ..Paged::default() }
}

/// A filter that lets any of these through.
pub(super) fn filter(name: &str, values: &[String]) -> Paged {
    let filter = Filter { name: name.into(), values: values.iter().map(|value| exact(value)).collect() };
    Paged { filters: vec![filter], ..Paged::default() }
}

fn exact(text: &str) -> String {
    text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?")
}

pub(super) fn tag_filters(tags: &BTreeMap<String, String>) -> Paged {
    let named: Vec<(String, &String)> = tags.iter().map(|(key, value)| (format!("tag:{key}"), value)).collect();
    let pairs: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    filters(&pairs)
}

fn zone(name: &str) -> Zone {
    Zone::new(name).expect("the zones of an account are valid names")
}

fn volume_id(id: &str) -> VolumeId {
    VolumeId::new(id).expect("the model mints valid ids")
}
