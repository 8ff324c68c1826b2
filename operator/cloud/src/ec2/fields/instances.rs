//! Filters of DescribeInstances and DescribeInstanceStatus.

use super::{
    super::{DescribedInstance, DescribedInterface, InstanceStatus, InterfaceAttachment, filters::Fields},
    CAPACITY_PREFERENCE, HOSTNAME_TYPE, PLATFORM_DETAILS, USAGE_OPERATION, maybe, one, private_dns_name, time,
};

fn interfaces(it: &DescribedInstance, show: impl Fn(&DescribedInterface) -> Vec<String>) -> Vec<String> {
    it.network_interfaces.iter().flat_map(show).collect()
}

/// How an interface hangs on its instance.
fn attachments(it: &DescribedInstance, show: impl Fn(&InterfaceAttachment) -> String) -> Vec<String> {
    it.network_interfaces.iter().filter_map(|at| at.interface.attachment.as_ref().map(&show)).collect()
}

pub(in crate::ec2) const INSTANCE: Fields<DescribedInstance> = Fields {
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
        ("dns-name", |_| one("")),
        ("ebs-optimized", |it| one(it.instance.ebs_optimized)),
        ("hibernation-options.configured", |_| one(false)),
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
        ("platform-details", |_| one(PLATFORM_DETAILS)),
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
        ("usage-operation", |_| one(USAGE_OPERATION)),
        ("virtualization-type", |_| one("hvm")),
        ("vpc-id", |it| interfaces(it, |at| one(&at.interface.vpc_id))),
        ("capacity-reservation-specification.capacity-reservation-preference", |_| one(CAPACITY_PREFERENCE)),
        ("current-instance-boot-mode", |it| one(it.instance.architecture.boot_mode())),
        ("ena-support", |_| one(true)),
        ("enclave-options.enabled", |_| one(false)),
        ("metadata-options.http-protocol-ipv4", |it| one(it.instance.metadata_options.http_endpoint)),
        ("metadata-options.http-protocol-ipv6", |_| one("disabled")),
        ("metadata-options.state", |_| one("applied")),
        ("network-interface.attachment.network-card-index", |it| attachments(it, |_| "0".into())),
        ("network-interface.ipv6-native", |it| interfaces(it, |_| one(false))),
        ("network-interface.operator.managed", |it| interfaces(it, |_| one(false))),
        ("network-performance-options.bandwidth-weighting", |_| one("default")),
        ("operator.managed", |_| one(false)),
        ("private-dns-name-options.enable-resource-name-dns-a-record", |_| one(false)),
        ("private-dns-name-options.enable-resource-name-dns-aaaa-record", |_| one(false)),
        ("private-dns-name-options.hostname-type", |_| one(HOSTNAME_TYPE)),
        ("usage-operation-update-time", |it| one(time(it.instance.launch_time))),
    ],
    absent: &[
        "affinity",
        "boot-mode",
        "capacity-reservation-id",
        "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
        "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
        "host-id",
        "instance-lifecycle",
        "ip-address",
        "ipv6-address",
        "kernel-id",
        "key-name",
        "network-interface.addresses.association.allocation-id",
        "network-interface.addresses.association.association-id",
        "network-interface.addresses.association.carrier-ip",
        "network-interface.addresses.association.customer-owned-ip",
        "network-interface.addresses.association.ip-owner-id",
        "network-interface.addresses.association.public-dns-name",
        "network-interface.addresses.association.public-ip",
        "network-interface.association.allocation-id",
        "network-interface.association.association-id",
        "network-interface.association.carrier-ip",
        "network-interface.association.customer-owned-ip",
        "network-interface.association.ip-owner-id",
        "network-interface.association.public-dns-name",
        "network-interface.association.public-ip",
        "network-interface.deny-all-igw-traffic",
        "network-interface.ipv4-prefixes.ipv4-prefix",
        "network-interface.ipv6-address",
        "network-interface.ipv6-addresses.ipv6-address",
        "network-interface.ipv6-addresses.is-primary-ipv6",
        "network-interface.ipv6-prefixes.ipv6-prefix",
        "network-interface.operator.principal",
        "network-interface.outpost-arn",
        "network-interface.public-dns-name",
        "network-interface.requester-id",
        "operator.principal",
        "outpost-arn",
        "placement-group-name",
        "placement-partition-number",
        "platform",
        "product-code",
        "product-code.type",
        "ramdisk-id",
        "requester-id",
        "spot-instance-request-id",
        "tpm-support",
    ],
};

pub(in crate::ec2) const INSTANCE_STATUS: Fields<InstanceStatus> = Fields {
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
        ("attached-ebs-status.status", |it| one(it.instance_status)),
        ("application-status.status", |_| one("not-applicable")),
        ("operator.managed", |_| one(false)),
    ],
    absent: &[
        "event.code",
        "event.description",
        "event.instance-event-id",
        "event.not-after",
        "event.not-before",
        "event.not-before-deadline",
        "operator.principal",
    ],
};
