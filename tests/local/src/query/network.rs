//! The actions on network interfaces, security groups, subnets and VPCs.

use drover_cloud::ec2::{
    ApiError, AssignPrivateIpAddresses, AssignedPrivateIpAddresses, CreateSecurityGroup, CreatedSecurityGroup,
    DHCP_OPTIONS_ID, DeleteSecurityGroup, DescribeNetworkInterfaces, DescribeSecurityGroups, DescribeSubnets,
    DescribeVpcs, DescribedInterface, DescribedSubnet, HOSTNAME_TYPE, InterfaceChange, IpPermission,
    ModifyNetworkInterfaceAttribute, Page, SecurityGroup, UnassignPrivateIpAddresses, Vpc, private_dns_name,
};

use super::{Reader, Wire, Xml, paged, tag_specifications, with_managed, write_done, write_groups, write_tags};

impl Wire for DescribeNetworkInterfaces {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        with_managed(form)?;
        Ok(Self { network_interface_ids: form.list("NetworkInterfaceId")?, paged: paged(form)? })
    }

    fn write(page: &Page<DescribedInterface>, xml: &mut Xml) {
        xml.items("networkInterfaceSet", &page.items, |xml, described| {
            write_interface(xml, described);
            let interface = &described.interface;
            xml.text("availabilityZone", &interface.zone);
            xml.text("availabilityZoneId", &interface.zone_id);
            xml.text("requesterManaged", false);
            write_tags(xml, &interface.tags);
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

impl Wire for ModifyNetworkInterfaceAttribute {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        let mut changes = Vec::new();
        let groups = form.list("SecurityGroupId")?;
        if !groups.is_empty() {
            changes.push(InterfaceChange::Groups(groups));
        }
        changes.extend(form.optional("Description.Value")?.map(InterfaceChange::Description));
        changes.extend(form.optional("SourceDestCheck.Value")?.map(InterfaceChange::SourceDestCheck));
        changes.extend(form.structure("Attachment", |attachment| {
            Ok(InterfaceChange::DeleteOnTermination {
                attachment_id: attachment.required("AttachmentId")?,
                delete: attachment.required("DeleteOnTermination")?,
            })
        })?);
        Ok(Self { network_interface_id: form.required("NetworkInterfaceId")?, changes })
    }

    fn write((): &(), xml: &mut Xml) {
        write_done(xml);
    }
}

impl Wire for AssignPrivateIpAddresses {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            network_interface_id: form.required("NetworkInterfaceId")?,
            private_ip_addresses: form.list("PrivateIpAddress")?,
            secondary_private_ip_address_count: form.optional("SecondaryPrivateIpAddressCount")?,
            allow_reassignment: form.optional("AllowReassignment")?.unwrap_or(false),
        })
    }

    fn write(reply: &AssignedPrivateIpAddresses, xml: &mut Xml) {
        xml.text("networkInterfaceId", &reply.network_interface_id);
        xml.items("assignedPrivateIpAddressesSet", &reply.assigned, |xml, address| {
            xml.text("privateIpAddress", address)
        });
        write_done(xml);
    }
}

impl Wire for UnassignPrivateIpAddresses {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            network_interface_id: form.required("NetworkInterfaceId")?,
            private_ip_addresses: form.list("PrivateIpAddress")?,
        })
    }

    fn write((): &(), xml: &mut Xml) {
        write_done(xml);
    }
}

impl Wire for DescribeVpcs {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { vpc_ids: form.list("VpcId")?, paged: paged(form)? })
    }

    fn write(page: &Page<Vpc>, xml: &mut Xml) {
        xml.items("vpcSet", &page.items, |xml, vpc| {
            xml.text("vpcId", &vpc.vpc_id);
            xml.text("ownerId", &vpc.owner_id);
            xml.text("state", "available");
            xml.text("cidrBlock", &vpc.cidr_block);
            xml.text("dhcpOptionsId", DHCP_OPTIONS_ID);
            xml.text("instanceTenancy", "default");
            xml.items("cidrBlockAssociationSet", [vpc], |xml, vpc| {
                xml.text("associationId", vpc.association_id());
                xml.text("cidrBlock", &vpc.cidr_block);
                xml.element("cidrBlockState", |xml| xml.text("state", "associated"));
            });
            xml.text("isDefault", vpc.is_default);
            write_tags(xml, &vpc.tags);
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

impl Wire for DescribeSubnets {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { subnet_ids: form.list("SubnetId")?, paged: paged(form)? })
    }

    fn write(page: &Page<DescribedSubnet>, xml: &mut Xml) {
        xml.items("subnetSet", &page.items, |xml, described| {
            let subnet = &described.subnet;
            xml.text("subnetId", &subnet.subnet_id);
            xml.text("subnetArn", &described.subnet_arn);
            xml.text("ownerId", &subnet.owner_id);
            xml.text("state", "available");
            xml.text("vpcId", &subnet.vpc_id);
            xml.text("cidrBlock", &subnet.cidr_block);
            xml.text("availableIpAddressCount", described.available_ip_address_count);
            xml.text("availabilityZone", &subnet.zone);
            xml.text("availabilityZoneId", &described.zone_id);
            xml.text("defaultForAz", subnet.default_for_az);
            xml.text("mapPublicIpOnLaunch", false);
            xml.text("mapCustomerOwnedIpOnLaunch", false);
            xml.text("assignIpv6AddressOnCreation", false);
            xml.text("enableDns64", false);
            xml.text("ipv6Native", false);
            xml.items("ipv6CidrBlockAssociationSet", [""; 0], |xml, range| xml.text("ipv6CidrBlock", range));
            write_dns_options(xml, "privateDnsNameOptionsOnLaunch");
            write_tags(xml, &subnet.tags);
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

impl Wire for CreateSecurityGroup {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            group_name: form.required("GroupName")?,
            description: form.required("GroupDescription")?,
            vpc_id: form.optional("VpcId")?,
            tag_specifications: tag_specifications(form)?,
        })
    }

    fn write(reply: &CreatedSecurityGroup, xml: &mut Xml) {
        xml.text("groupId", &reply.group_id);
        xml.text("securityGroupArn", &reply.arn);
        write_tags(xml, &reply.tags);
        write_done(xml);
    }
}

impl Wire for DeleteSecurityGroup {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { group_id: form.optional("GroupId")?, group_name: form.optional("GroupName")? })
    }

    fn write(group_id: &String, xml: &mut Xml) {
        write_done(xml);
        xml.text("groupId", group_id);
    }
}

impl Wire for DescribeSecurityGroups {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { group_ids: form.list("GroupId")?, group_names: form.list("GroupName")?, paged: paged(form)? })
    }

    fn write(page: &Page<SecurityGroup>, xml: &mut Xml) {
        xml.items("securityGroupInfo", &page.items, |xml, group| {
            xml.text("ownerId", &group.owner_id);
            xml.text("groupId", &group.group_id);
            xml.text("groupName", &group.group_name);
            xml.text("groupDescription", &group.description);
            xml.text("vpcId", &group.vpc_id);
            xml.text("securityGroupArn", &group.arn);
            let permission = |xml: &mut Xml, permission| write_permission(xml, &group.owner_id, permission);
            xml.items("ipPermissions", &group.ingress, permission);
            xml.items("ipPermissionsEgress", &group.egress, permission);
            write_tags(xml, &group.tags);
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

fn write_permission(xml: &mut Xml, owner_id: &str, permission: &IpPermission) {
    xml.text("ipProtocol", &permission.ip_protocol);
    xml.optional("fromPort", permission.ports.map(|(from, _)| from));
    xml.optional("toPort", permission.ports.map(|(_, to)| to));
    xml.items("groups", &permission.groups, |xml, group| {
        xml.text("userId", owner_id);
        xml.text("groupId", group);
    });
    xml.items("ipRanges", &permission.cidrs, |xml, cidr| xml.text("cidrIp", cidr));
    xml.items("ipv6Ranges", [""; 0], |xml, cidr| xml.text("cidrIpv6", cidr));
    xml.items("prefixListIds", [""; 0], |xml, id| xml.text("prefixListId", id));
}

/// How machines are called by DNS, of a subnet and of an instance.
pub(super) fn write_dns_options(xml: &mut Xml, name: &str) {
    xml.element(name, |xml| {
        xml.text("hostnameType", HOSTNAME_TYPE);
        xml.text("enableResourceNameDnsARecord", false);
        xml.text("enableResourceNameDnsAAAARecord", false);
    });
}

/// What DescribeNetworkInterfaces and DescribeInstances show alike.
pub(super) fn write_interface(xml: &mut Xml, described: &DescribedInterface) {
    let interface = &described.interface;
    xml.text("networkInterfaceId", &interface.network_interface_id);
    xml.text("subnetId", &interface.subnet_id);
    xml.text("vpcId", &interface.vpc_id);
    xml.text("description", &interface.description);
    xml.text("ownerId", &interface.owner_id);
    xml.text("status", if interface.attachment.is_some() { "in-use" } else { "available" });
    xml.text("interfaceType", "interface");
    xml.text("macAddress", &interface.mac_address);
    xml.text("privateIpAddress", interface.primary_address());
    xml.text("privateDnsName", private_dns_name(interface.primary_address(), &interface.zone));
    xml.text("sourceDestCheck", interface.source_dest_check);
    write_groups(xml, &described.groups);
    if let Some(attachment) = &interface.attachment {
        xml.element("attachment", |xml| {
            xml.text("attachmentId", &attachment.attachment_id);
            xml.text("instanceId", &attachment.instance_id);
            xml.text("instanceOwnerId", &interface.owner_id);
            xml.text("deviceIndex", attachment.device_index);
            xml.text("networkCardIndex", 0);
            xml.text("status", "attached");
            xml.time("attachTime", attachment.attach_time);
            xml.text("deleteOnTermination", attachment.delete_on_termination);
        });
    }
    xml.items("privateIpAddressesSet", interface.private_ip_addresses.iter().enumerate(), |xml, (index, address)| {
        xml.text("privateIpAddress", address);
        xml.text("privateDnsName", private_dns_name(address, &interface.zone));
        xml.text("primary", index == 0);
    });
    xml.items("ipv6AddressesSet", [""; 0], |xml, address| xml.text("ipv6Address", address));
}
