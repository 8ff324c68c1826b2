//! What each Describe action can be filtered by: EC2's names beside what the model shows for them. Names of the API
//! reference that are about something this model does not have (Outposts, IPv6, Spot, ...) are not here and so are refused.

use drover_api::Millis;

use super::{
    DescribedInstance, DescribedInterface, DescribedSubnet, DescribedZone, Image, InstanceStatus, InstanceTypeInfo,
    InterfaceAttachment, SecurityGroup, TagDescription, Volume, Vpc, filters::Fields,
};

fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

fn maybe(value: Option<impl ToString>) -> Vec<String> {
    value.map(|value| value.to_string()).into_iter().collect()
}

fn interfaces(it: &DescribedInstance, show: impl Fn(&DescribedInterface) -> Vec<String>) -> Vec<String> {
    it.network_interfaces.iter().flat_map(show).collect()
}

/// EC2's times, to the second as it shows them: `2026-01-31T12:00:00.000Z`.
pub fn time(at: Millis) -> String {
    let at = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// The snapshot behind an image, and behind the volumes made from it: this account has no snapshots, so it is named after the image.
pub fn snapshot_of(image_id: &str) -> String {
    image_id.replacen("ami-", "snap-", 1)
}

/// The name that EC2's resolver gives to a private address. A zone is its region and a letter.
pub fn private_dns_name(address: &str, zone: &str) -> String {
    let region = zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
    format!("ip-{}.{region}.compute.internal", address.replace('.', "-"))
}

/// How an interface hangs on its instance.
fn attachments(it: &DescribedInstance, show: impl Fn(&InterfaceAttachment) -> String) -> Vec<String> {
    it.network_interfaces.iter().filter_map(|at| at.interface.attachment.as_ref().map(&show)).collect()
}

pub(super) const INSTANCE: Fields<DescribedInstance> = Fields {
    tags: Some(|it| &it.instance.tags),
    named: &[
        ("architecture", |it| one(it.instance.architecture)),
        ("availability-zone", |it| one(&it.instance.zone)),
        ("availability-zone-id", |it| one(&it.instance.zone_id)),
        ("block-device-mapping.attach-time", |it| {
            it.block_device_mappings.iter().map(|(_, at)| time(at.attach_time)).collect()
        }),
        ("block-device-mapping.delete-on-termination", |it| {
            it.block_device_mappings.iter().map(|(_, at)| at.delete_on_termination.to_string()).collect()
        }),
        ("block-device-mapping.device-name", |it| {
            it.block_device_mappings.iter().map(|(device, _)| device.device_name.clone()).collect()
        }),
        ("block-device-mapping.status", |it| {
            it.block_device_mappings.iter().map(|(_, at)| at.state.to_string()).collect()
        }),
        ("block-device-mapping.volume-id", |it| {
            it.block_device_mappings.iter().map(|(device, _)| device.volume_id.clone()).collect()
        }),
        ("client-token", |it| maybe(it.instance.client_token.as_ref())),
        ("ebs-optimized", |it| one(it.instance.ebs_optimized)),
        ("hypervisor", |_| one("xen")),
        ("iam-instance-profile.arn", |it| maybe(it.instance.instance_profile.as_ref().map(|profile| &profile.arn))),
        ("iam-instance-profile.id", |it| maybe(it.instance.instance_profile.as_ref().map(|profile| &profile.id))),
        ("image-id", |it| one(&it.instance.image_id)),
        ("instance-id", |it| one(&it.instance.instance_id)),
        ("instance-state-code", |it| one(it.instance.state.code())),
        ("instance-state-name", |it| one(it.instance.state)),
        ("instance-type", |it| one(&it.instance.instance_type)),
        ("instance.group-id", |it| it.groups().iter().map(|group| group.group_id.clone()).collect()),
        ("instance.group-name", |it| it.groups().iter().map(|group| group.group_name.clone()).collect()),
        ("launch-index", |it| one(it.instance.ami_launch_index)),
        ("launch-time", |it| one(time(it.instance.launch_time))),
        ("maintenance-options.auto-recovery", |it| one(it.instance.auto_recovery)),
        ("metadata-options.http-endpoint", |it| one(it.instance.metadata_options.http_endpoint)),
        ("metadata-options.http-put-response-hop-limit", |it| {
            one(it.instance.metadata_options.http_put_response_hop_limit)
        }),
        ("metadata-options.http-tokens", |it| one(it.instance.metadata_options.http_tokens)),
        ("metadata-options.instance-metadata-tags", |it| one(it.instance.metadata_options.instance_metadata_tags)),
        ("monitoring-state", |it| one(if it.instance.monitoring { "enabled" } else { "disabled" })),
        ("network-interface.addresses.primary", |it| {
            interfaces(it, |at| (0..at.interface.private_ip_addresses.len()).map(|n| (n == 0).to_string()).collect())
        }),
        ("network-interface.addresses.private-ip-address", |it| {
            interfaces(it, |at| at.interface.private_ip_addresses.clone())
        }),
        ("network-interface.addresses.private-dns-name", |it| interfaces(it, |at| at.private_dns_names())),
        ("network-interface.attachment.attach-time", |it| attachments(it, |at| time(at.attach_time))),
        ("network-interface.attachment.attachment-id", |it| attachments(it, |at| at.attachment_id.clone())),
        ("network-interface.attachment.delete-on-termination", |it| {
            attachments(it, |at| at.delete_on_termination.to_string())
        }),
        ("network-interface.attachment.device-index", |it| attachments(it, |at| at.device_index.to_string())),
        ("network-interface.attachment.instance-id", |it| attachments(it, |at| at.instance_id.clone())),
        ("network-interface.attachment.instance-owner-id", |it| attachments(it, |_| it.owner_id.clone())),
        ("network-interface.attachment.status", |it| attachments(it, |_| "attached".into())),
        ("network-interface.availability-zone", |it| interfaces(it, |at| one(&at.interface.zone))),
        ("network-interface.description", |it| interfaces(it, |at| one(&at.interface.description))),
        ("network-interface.group-id", |it| interfaces(it, |at| at.interface.groups.clone())),
        ("network-interface.group-name", |it| {
            interfaces(it, |at| at.groups.iter().map(|group| group.group_name.clone()).collect())
        }),
        ("network-interface.mac-address", |it| interfaces(it, |at| one(&at.interface.mac_address))),
        ("network-interface.network-interface-id", |it| interfaces(it, |at| one(&at.interface.network_interface_id))),
        ("network-interface.owner-id", |it| interfaces(it, |at| one(&at.interface.owner_id))),
        ("network-interface.private-dns-name", |it| {
            interfaces(it, |at| at.private_dns_names().into_iter().take(1).collect())
        }),
        ("network-interface.requester-managed", |it| interfaces(it, |_| one(false))),
        ("network-interface.source-dest-check", |it| interfaces(it, |at| one(at.interface.source_dest_check))),
        ("network-interface.status", |it| interfaces(it, |at| one(at.status()))),
        ("network-interface.tag-key", |it| interfaces(it, |at| at.interface.tags.keys().cloned().collect())),
        ("network-interface.tag-value", |it| interfaces(it, |at| at.interface.tags.values().cloned().collect())),
        ("network-interface.private-ip-address", |it| interfaces(it, |at| one(at.interface.primary_address()))),
        ("network-interface.subnet-id", |it| interfaces(it, |at| one(&at.interface.subnet_id))),
        ("network-interface.vpc-id", |it| interfaces(it, |at| one(&at.interface.vpc_id))),
        ("owner-id", |it| one(&it.owner_id)),
        ("private-dns-name", |it| {
            maybe(it.private_ip_address().map(|address| private_dns_name(address, &it.instance.zone)))
        }),
        ("private-ip-address", |it| maybe(it.private_ip_address())),
        ("reason", |it| one(&it.instance.state_transition_reason)),
        ("reservation-id", |it| one(&it.instance.reservation_id)),
        ("root-device-name", |it| one(&it.instance.root_device_name)),
        ("root-device-type", |_| one("ebs")),
        ("source-dest-check", |it| interfaces(it, |at| one(at.interface.source_dest_check))),
        ("state-reason-code", |it| maybe(it.instance.state_reason.as_ref().map(|reason| &reason.code))),
        ("state-reason-message", |it| maybe(it.instance.state_reason.as_ref().map(|reason| &reason.message))),
        ("subnet-id", |it| interfaces(it, |at| one(&at.interface.subnet_id))),
        ("tenancy", |_| one("default")),
        ("virtualization-type", |_| one("hvm")),
        ("vpc-id", |it| interfaces(it, |at| one(&at.interface.vpc_id))),
    ],
};

pub(super) const INSTANCE_STATUS: Fields<InstanceStatus> = Fields {
    tags: None,
    named: &[
        ("availability-zone", |it| one(&it.zone)),
        ("availability-zone-id", |it| one(&it.zone_id)),
        ("instance-state-code", |it| one(it.state.code())),
        ("instance-state-name", |it| one(it.state)),
        ("instance-status.reachability", |it| one(it.instance_status.reachability())),
        ("instance-status.status", |it| one(it.instance_status)),
        ("system-status.reachability", |it| one(it.system_status.reachability())),
        ("system-status.status", |it| one(it.system_status)),
        // Scheduled events are not modelled: no instance has one.
        ("event.code", |_| Vec::new()),
    ],
};

pub(super) const VOLUME: Fields<Volume> = Fields {
    tags: Some(|it| &it.tags),
    named: &[
        ("attachment.attach-time", |it| maybe(it.attachment.as_ref().map(|at| time(at.attach_time)))),
        ("attachment.delete-on-termination", |it| maybe(it.attachment.as_ref().map(|at| at.delete_on_termination))),
        ("attachment.device", |it| maybe(it.attachment.as_ref().map(|at| &at.device))),
        ("attachment.instance-id", |it| maybe(it.attachment.as_ref().map(|at| &at.instance_id))),
        ("attachment.status", |it| maybe(it.attachment.as_ref().map(|at| at.state))),
        ("availability-zone", |it| one(&it.zone)),
        ("availability-zone-id", |it| one(&it.zone_id)),
        ("create-time", |it| one(time(it.create_time))),
        ("encrypted", |it| one(it.encrypted)),
        ("fast-restored", |_| one(false)),
        ("multi-attach-enabled", |_| one(false)),
        ("size", |it| one(it.size_gib)),
        ("snapshot-id", |it| one(it.image_id.as_deref().map(snapshot_of).unwrap_or_default())),
        ("status", |it| one(it.state)),
        ("volume-id", |it| one(&it.volume_id)),
        ("volume-type", |it| one(&it.volume_type)),
    ],
};

pub(super) const INTERFACE: Fields<DescribedInterface> = Fields {
    tags: Some(|it| &it.interface.tags),
    named: &[
        ("addresses.primary", |it| {
            (0..it.interface.private_ip_addresses.len()).map(|n| (n == 0).to_string()).collect()
        }),
        ("addresses.private-ip-address", |it| it.interface.private_ip_addresses.clone()),
        ("attachment.attach-time", |it| maybe(it.interface.attachment.as_ref().map(|at| time(at.attach_time)))),
        ("attachment.attachment-id", |it| maybe(it.interface.attachment.as_ref().map(|at| &at.attachment_id))),
        ("attachment.delete-on-termination", |it| {
            maybe(it.interface.attachment.as_ref().map(|at| at.delete_on_termination))
        }),
        ("attachment.device-index", |it| maybe(it.interface.attachment.as_ref().map(|at| at.device_index))),
        ("attachment.instance-id", |it| maybe(it.interface.attachment.as_ref().map(|at| &at.instance_id))),
        ("attachment.instance-owner-id", |it| maybe(it.interface.attachment.as_ref().map(|_| &it.interface.owner_id))),
        ("attachment.status", |it| maybe(it.interface.attachment.as_ref().map(|_| "attached"))),
        ("availability-zone", |it| one(&it.interface.zone)),
        ("availability-zone-id", |it| one(&it.interface.zone_id)),
        ("description", |it| one(&it.interface.description)),
        ("group-id", |it| it.interface.groups.clone()),
        ("interface-type", |_| one("interface")),
        ("mac-address", |it| one(&it.interface.mac_address)),
        ("network-interface-id", |it| one(&it.interface.network_interface_id)),
        ("owner-id", |it| one(&it.interface.owner_id)),
        ("private-dns-name", |it| it.private_dns_names().into_iter().take(1).collect()),
        // "The private IPv4 address or addresses of the network interface."
        ("private-ip-address", |it| it.interface.private_ip_addresses.clone()),
        ("requester-managed", |_| one(false)),
        ("source-dest-check", |it| one(it.interface.source_dest_check)),
        ("status", |it| one(it.status())),
        ("subnet-id", |it| one(&it.interface.subnet_id)),
        ("vpc-id", |it| one(&it.interface.vpc_id)),
    ],
};

pub(super) const GROUP: Fields<SecurityGroup> = Fields {
    tags: Some(|it| &it.tags),
    named: &[
        ("description", |it| one(&it.description)),
        ("egress.ip-permission.cidr", |it| it.egress.iter().flat_map(|rule| rule.cidrs.clone()).collect()),
        ("egress.ip-permission.group-id", |it| it.egress.iter().flat_map(|rule| rule.groups.clone()).collect()),
        ("egress.ip-permission.protocol", |it| it.egress.iter().map(|rule| rule.ip_protocol.clone()).collect()),
        ("group-id", |it| one(&it.group_id)),
        ("group-name", |it| one(&it.group_name)),
        ("ip-permission.cidr", |it| it.ingress.iter().flat_map(|rule| rule.cidrs.clone()).collect()),
        ("ip-permission.group-id", |it| it.ingress.iter().flat_map(|rule| rule.groups.clone()).collect()),
        ("ip-permission.protocol", |it| it.ingress.iter().map(|rule| rule.ip_protocol.clone()).collect()),
        ("owner-id", |it| one(&it.owner_id)),
        ("vpc-id", |it| one(&it.vpc_id)),
    ],
};

pub(super) const VPC: Fields<Vpc> = Fields {
    tags: Some(|it| &it.tags),
    named: &[
        ("cidr", |it| one(&it.cidr_block)),
        ("cidr-block-association.cidr-block", |it| one(&it.cidr_block)),
        ("is-default", |it| one(it.is_default)),
        // The reference writes both spellings.
        ("isDefault", |it| one(it.is_default)),
        ("owner-id", |it| one(&it.owner_id)),
        ("state", |_| one("available")),
        ("vpc-id", |it| one(&it.vpc_id)),
    ],
};

pub(super) const SUBNET: Fields<DescribedSubnet> = Fields {
    tags: Some(|it| &it.subnet.tags),
    named: &[
        ("availability-zone", |it| one(&it.subnet.zone)),
        ("availabilityZone", |it| one(&it.subnet.zone)),
        ("availability-zone-id", |it| one(&it.zone_id)),
        ("availabilityZoneId", |it| one(&it.zone_id)),
        ("available-ip-address-count", |it| one(it.available_ip_address_count)),
        ("cidr-block", |it| one(&it.subnet.cidr_block)),
        ("cidrBlock", |it| one(&it.subnet.cidr_block)),
        ("cidr", |it| one(&it.subnet.cidr_block)),
        ("default-for-az", |it| one(it.subnet.default_for_az)),
        ("defaultForAz", |it| one(it.subnet.default_for_az)),
        ("map-public-ip-on-launch", |_| one(false)),
        ("owner-id", |it| one(&it.subnet.owner_id)),
        ("state", |_| one("available")),
        ("subnet-arn", |it| one(&it.subnet_arn)),
        ("subnet-id", |it| one(&it.subnet.subnet_id)),
        ("vpc-id", |it| one(&it.subnet.vpc_id)),
    ],
};

pub(super) const ZONE: Fields<DescribedZone> = Fields {
    tags: None,
    named: &[
        ("group-name", |it| one(&it.zone.region_name)),
        ("opt-in-status", |_| one("opt-in-not-required")),
        ("region-name", |it| one(&it.zone.region_name)),
        ("state", |it| one(it.state)),
        ("zone-id", |it| one(&it.zone.zone_id)),
        ("zone-name", |it| one(&it.zone.zone_name)),
        ("zone-type", |_| one("availability-zone")),
    ],
};

pub(super) const IMAGE: Fields<Image> = Fields {
    tags: Some(|it| &it.tags),
    named: &[
        ("architecture", |it| one(it.architecture)),
        ("block-device-mapping.device-name", |it| one(&it.root_device_name)),
        ("block-device-mapping.volume-size", |it| one(it.root_size_gib)),
        ("creation-date", |it| one(time(it.creation_date))),
        ("description", |it| one(&it.description)),
        ("hypervisor", |_| one("xen")),
        ("image-id", |it| one(&it.image_id)),
        ("image-type", |_| one("machine")),
        ("is-public", |_| one(false)),
        ("name", |it| one(&it.name)),
        ("owner-id", |it| one(&it.owner_id)),
        ("root-device-name", |it| one(&it.root_device_name)),
        ("root-device-type", |_| one("ebs")),
        ("state", |_| one("available")),
        ("virtualization-type", |_| one("hvm")),
    ],
};

pub(super) const INSTANCE_TYPE: Fields<InstanceTypeInfo> = Fields {
    tags: None,
    named: &[
        ("bare-metal", |_| one(false)),
        ("burstable-performance-supported", |it| one(it.burstable)),
        ("current-generation", |_| one(true)),
        ("hypervisor", |_| one("nitro")),
        ("instance-storage-supported", |_| one(false)),
        ("instance-type", |it| one(&it.instance_type)),
        ("memory-info.size-in-mib", |it| one(it.memory_mib)),
        ("processor-info.supported-architecture", |it| one(it.architecture)),
        ("supported-root-device-type", |_| one("ebs")),
        ("supported-usage-class", |_| one("on-demand")),
        ("supported-virtualization-type", |_| one("hvm")),
        ("vcpu-info.default-vcpus", |it| one(it.vcpus)),
    ],
};

pub(super) const TAG: Fields<TagDescription> = Fields {
    tags: None,
    named: &[
        ("key", |it| one(&it.key)),
        ("resource-id", |it| one(&it.resource_id)),
        ("resource-type", |it| one(it.resource_type)),
        ("value", |it| one(&it.value)),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_ec2_writes_them() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.000Z"),
            (1_767_225_600_001, "2026-01-01T00:00:00.000Z"),
        ];
        for (millis, text) in table {
            assert_eq!(time(Millis(millis)), text);
        }
    }
}
