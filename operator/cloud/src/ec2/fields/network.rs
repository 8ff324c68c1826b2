//! Filters of the Describe actions about the network.

use super::{
    super::{DescribedInterface, DescribedSubnet, IpPermission, SecurityGroup, Vpc, filters::Fields},
    DHCP_OPTIONS_ID, HOSTNAME_TYPE, maybe, one, time,
};

/// A rule for all protocols has no ports.
fn ports(rules: &[IpPermission], which: impl Fn((u16, u16)) -> u16) -> Vec<String> {
    rules.iter().filter_map(|rule| rule.ports).map(|ports| which(ports).to_string()).collect()
}

/// What a group that rules name is called or owned by, once for each: rules here name no group but their own.
fn named(rules: &[IpPermission], group: &SecurityGroup, told: &str) -> Vec<String> {
    rules.iter().flat_map(|rule| &rule.groups).filter(|id| **id == group.group_id).map(|_| told.to_owned()).collect()
}

pub(in crate::ec2) const INTERFACE: Fields<DescribedInterface> = Fields {
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
        ("operator.managed", |_| one(false)),
    ],
    absent: &[
        "association.allocation-id",
        "association.association-id",
        "addresses.association.owner-id",
        "addresses.association.public-ip",
        "association.ip-owner-id",
        "association.public-ip",
        "association.public-dns-name",
        "ipv6-addresses.ipv6-address",
        "operator.principal",
        "requester-id",
    ],
};

pub(in crate::ec2) const GROUP: Fields<SecurityGroup> = Fields {
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
        ("ip-permission.from-port", |it| ports(&it.ingress, |(from, _)| from)),
        ("ip-permission.group-name", |it| named(&it.ingress, it, &it.group_name)),
        ("ip-permission.to-port", |it| ports(&it.ingress, |(_, to)| to)),
        ("ip-permission.user-id", |it| named(&it.ingress, it, &it.owner_id)),
        ("egress.ip-permission.from-port", |it| ports(&it.egress, |(from, _)| from)),
        ("egress.ip-permission.group-name", |it| named(&it.egress, it, &it.group_name)),
        ("egress.ip-permission.to-port", |it| ports(&it.egress, |(_, to)| to)),
        ("egress.ip-permission.user-id", |it| named(&it.egress, it, &it.owner_id)),
    ],
    absent: &[
        "ip-permission.ipv6-cidr",
        "ip-permission.prefix-list-id",
        "egress.ip-permission.ipv6-cidr",
        "egress.ip-permission.prefix-list-id",
    ],
};

pub(in crate::ec2) const VPC: Fields<Vpc> = Fields {
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
        ("cidr-block-association.association-id", |it| one(it.association_id())),
        ("cidr-block-association.state", |_| one("associated")),
        ("dhcp-options-id", |_| one(DHCP_OPTIONS_ID)),
    ],
    absent: &[
        "ipv6-cidr-block-association.ipv6-cidr-block",
        "ipv6-cidr-block-association.ipv6-pool",
        "ipv6-cidr-block-association.association-id",
        "ipv6-cidr-block-association.state",
    ],
};

pub(in crate::ec2) const SUBNET: Fields<DescribedSubnet> = Fields {
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
        ("enable-dns64", |_| one(false)),
        ("ipv6-native", |_| one(false)),
        ("map-customer-owned-ip-on-launch", |_| one(false)),
        ("private-dns-name-options-on-launch.enable-resource-name-dns-a-record", |_| one(false)),
        ("private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record", |_| one(false)),
        ("private-dns-name-options-on-launch.hostname-type", |_| one(HOSTNAME_TYPE)),
    ],
    absent: &[
        "customer-owned-ipv4-pool",
        "enable-lni-at-device-index",
        "ipv6-cidr-block-association.ipv6-cidr-block",
        "ipv6-cidr-block-association.association-id",
        "ipv6-cidr-block-association.state",
        "outpost-arn",
    ],
};
