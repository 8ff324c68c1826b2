//! The actions on instances that are one line in and one set out; launching and attributes have files of their own.

use drover_cloud::ec2::{
    ApiError, BlockDevice, CAPACITY_PREFERENCE, CheckStatus, DescribeInstanceStatus, DescribeInstances,
    DescribedInstance, InstanceStateChange, InstanceStateName, InstanceStatus, PLATFORM_DETAILS, Page, RebootInstances,
    Reservation, StartInstances, StopInstances, TerminateInstances, USAGE_OPERATION, VolumeAttachment,
    private_dns_name,
};

use super::{
    Reader, Wire, Xml,
    network::{write_dns_options, write_interface},
    paged, with_managed, write_done, write_groups, write_tags,
};

impl Wire for DescribeInstances {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        with_managed(form)?;
        Ok(Self { instance_ids: form.list("InstanceId")?, paged: paged(form)? })
    }

    fn write(page: &Page<Reservation>, xml: &mut Xml) {
        xml.items("reservationSet", &page.items, write_reservation);
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

impl Wire for DescribeInstanceStatus {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        with_managed(form)?;
        Ok(Self {
            instance_ids: form.list("InstanceId")?,
            include_all_instances: form.optional("IncludeAllInstances")?.unwrap_or(false),
            paged: paged(form)?,
        })
    }

    fn write(page: &Page<InstanceStatus>, xml: &mut Xml) {
        xml.items("instanceStatusSet", &page.items, |xml, status| {
            xml.text("instanceId", &status.instance_id);
            xml.text("availabilityZone", &status.zone);
            xml.text("availabilityZoneId", &status.zone_id);
            write_state(xml, "instanceState", status.state);
            write_check(xml, "instanceStatus", status.instance_status);
            write_check(xml, "systemStatus", status.system_status);
            write_check(xml, "attachedEbsStatus", status.instance_status);
            xml.items("eventsSet", [""; 0], |xml, event| xml.text("code", event));
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

impl Wire for StartInstances {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { instance_ids: form.list("InstanceId")? })
    }

    fn write(changes: &Vec<InstanceStateChange>, xml: &mut Xml) {
        write_changes(xml, changes);
    }
}

impl Wire for StopInstances {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            instance_ids: form.list("InstanceId")?,
            force: form.optional("Force")?.unwrap_or(false),
            skip_os_shutdown: form.optional("SkipOsShutdown")?.unwrap_or(false),
            hibernate: form.optional("Hibernate")?.unwrap_or(false),
        })
    }

    fn write(changes: &Vec<InstanceStateChange>, xml: &mut Xml) {
        write_changes(xml, changes);
    }
}

impl Wire for TerminateInstances {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            instance_ids: form.list("InstanceId")?,
            force: form.optional("Force")?.unwrap_or(false),
            skip_os_shutdown: form.optional("SkipOsShutdown")?.unwrap_or(false),
        })
    }

    fn write(changes: &Vec<InstanceStateChange>, xml: &mut Xml) {
        write_changes(xml, changes);
    }
}

impl Wire for RebootInstances {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { instance_ids: form.list("InstanceId")? })
    }

    fn write((): &(), xml: &mut Xml) {
        write_done(xml);
    }
}

/// What RunInstances answers, and DescribeInstances lists.
pub(super) fn write_reservation(xml: &mut Xml, reservation: &Reservation) {
    xml.text("reservationId", &reservation.reservation_id);
    xml.text("ownerId", &reservation.owner_id);
    // The groups of EC2-Classic: always empty in a VPC.
    write_groups(xml, &[]);
    xml.items("instancesSet", &reservation.instances, write_instance);
}

fn write_instance(xml: &mut Xml, described: &DescribedInstance) {
    let instance = &described.instance;
    xml.text("instanceId", &instance.instance_id);
    xml.text("imageId", &instance.image_id);
    write_state(xml, "instanceState", instance.state);
    let address = described.private_ip_address();
    xml.text("privateDnsName", address.map(|address| private_dns_name(address, &instance.zone)).unwrap_or_default());
    xml.text("dnsName", "");
    xml.text("reason", &instance.state_transition_reason);
    xml.text("amiLaunchIndex", instance.ami_launch_index);
    xml.items("productCodes", [""; 0], |xml, code| xml.text("productCode", code));
    xml.text("instanceType", &instance.instance_type);
    xml.time("launchTime", instance.launch_time);
    xml.element("placement", |xml| {
        xml.text("availabilityZone", &instance.zone);
        xml.text("availabilityZoneId", &instance.zone_id);
        xml.text("groupName", "");
        xml.text("tenancy", "default");
    });
    xml.element("monitoring", |xml| xml.text("state", if instance.monitoring { "enabled" } else { "disabled" }));
    if let Some(address) = address {
        xml.text("subnetId", &instance.subnet_id);
        xml.text("vpcId", &instance.vpc_id);
        xml.text("privateIpAddress", address);
    }
    xml.optional(
        "sourceDestCheck",
        described.network_interfaces.first().map(|first| first.interface.source_dest_check),
    );
    write_groups(xml, described.groups());
    if let Some(reason) = &instance.state_reason {
        xml.element("stateReason", |xml| {
            xml.text("code", &reason.code);
            xml.text("message", &reason.message);
        });
    }
    xml.text("architecture", instance.architecture);
    xml.text("rootDeviceType", "ebs");
    xml.text("rootDeviceName", &instance.root_device_name);
    write_block_devices(xml, &described.block_device_mappings);
    xml.text("virtualizationType", "hvm");
    xml.text("clientToken", instance.client_token.as_deref().unwrap_or_default());
    write_tags(xml, &instance.tags);
    xml.text("hypervisor", "xen");
    xml.items("networkInterfaceSet", &described.network_interfaces, write_interface);
    if let Some(profile) = &instance.instance_profile {
        xml.element("iamInstanceProfile", |xml| {
            xml.text("arn", &profile.arn);
            xml.text("id", &profile.id);
        });
    }
    xml.text("ebsOptimized", instance.ebs_optimized);
    xml.text("enaSupport", true);
    write_options(xml, described);
}

fn write_options(xml: &mut Xml, described: &DescribedInstance) {
    let instance = &described.instance;
    let metadata = &instance.metadata_options;
    xml.element("metadataOptions", |xml| {
        xml.text("state", "applied");
        xml.text("httpTokens", metadata.http_tokens);
        xml.text("httpPutResponseHopLimit", metadata.http_put_response_hop_limit);
        xml.text("httpEndpoint", metadata.http_endpoint);
        xml.text("httpProtocolIpv6", "disabled");
        xml.text("instanceMetadataTags", metadata.instance_metadata_tags);
    });
    xml.element("hibernationOptions", |xml| xml.text("configured", false));
    xml.element("enclaveOptions", |xml| xml.text("enabled", false));
    xml.element("maintenanceOptions", |xml| xml.text("autoRecovery", instance.auto_recovery));
    xml.element("capacityReservationSpecification", |xml| {
        xml.text("capacityReservationPreference", CAPACITY_PREFERENCE);
    });
    xml.text("currentInstanceBootMode", instance.architecture.boot_mode());
    write_dns_options(xml, "privateDnsNameOptions");
    xml.time("usageOperationUpdateTime", instance.launch_time);
    xml.text("platformDetails", PLATFORM_DETAILS);
    xml.text("usageOperation", USAGE_OPERATION);
}

/// `blockDeviceMapping`, of an instance and as an attribute.
pub(super) fn write_block_devices(xml: &mut Xml, devices: &[(BlockDevice, VolumeAttachment)]) {
    xml.items("blockDeviceMapping", devices, |xml, (device, attachment)| {
        xml.text("deviceName", &device.device_name);
        xml.element("ebs", |xml| {
            xml.text("volumeId", &device.volume_id);
            xml.text("status", attachment.state);
            xml.time("attachTime", attachment.attach_time);
            xml.text("deleteOnTermination", attachment.delete_on_termination);
        });
    });
}

fn write_state(xml: &mut Xml, name: &str, state: InstanceStateName) {
    xml.element(name, |xml| {
        xml.text("code", state.code());
        xml.text("name", state);
    });
}

fn write_changes(xml: &mut Xml, changes: &[InstanceStateChange]) {
    xml.items("instancesSet", changes, |xml, change| {
        xml.text("instanceId", &change.instance_id);
        write_state(xml, "currentState", change.current_state);
        write_state(xml, "previousState", change.previous_state);
    });
}

fn write_check(xml: &mut Xml, name: &str, status: CheckStatus) {
    let reachability = match status {
        CheckStatus::Ok => Some("passed"),
        CheckStatus::Impaired => Some("failed"),
        CheckStatus::Initializing => Some("initializing"),
        CheckStatus::NotApplicable => None,
    };
    xml.element(name, |xml| {
        xml.text("status", status);
        xml.items("details", reachability, |xml, reachability| {
            xml.text("name", "reachability");
            xml.text("status", reachability);
        });
    });
}
