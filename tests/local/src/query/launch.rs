//! RunInstances, and the attributes of an instance.

use base64::{Engine, engine::general_purpose::STANDARD};
use drover_cloud::ec2::{
    AddressSpecification, ApiError, AttributeValue, BlockDeviceMapping, DescribeInstanceAttribute, EbsBlockDevice,
    InstanceAttribute, InstanceChange, InstanceProfileSpecification, InterfaceSpecification, MetadataOptionsRequest,
    ModifyInstanceAttribute, Reservation, RunInstances,
};

use super::{
    Malformed, Reader, Value, Wire, Xml,
    instances::{write_block_devices, write_reservation},
    tag_specifications, write_done,
};

/// Bytes, in base64 as EC2 takes user data.
struct Base64(Vec<u8>);

impl Value for Base64 {
    const EXPECTED: &'static str = "Invalid BASE64 encoding of user data.";
    fn parse(text: &str) -> Option<Self> {
        // The AWS CLI folds long lines.
        let text: String = text.split_ascii_whitespace().collect();
        STANDARD.decode(text).ok().map(Base64)
    }
}

impl Wire for RunInstances {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        let profile = form.structure("IamInstanceProfile", |profile| {
            Ok(InstanceProfileSpecification { arn: profile.optional("Arn")?, name: profile.optional("Name")? })
        })?;
        let metadata = form.structure("MetadataOptions", |options| {
            options.only("HttpProtocolIpv6", "disabled")?;
            Ok(MetadataOptionsRequest {
                http_tokens: options.optional("HttpTokens")?,
                http_put_response_hop_limit: options.optional("HttpPutResponseHopLimit")?,
                http_endpoint: options.optional("HttpEndpoint")?,
                instance_metadata_tags: options.optional("InstanceMetadataTags")?,
            })
        })?;
        form.only("HibernationOptions.Configured", "false")?;
        form.only("EnclaveOptions.Enabled", "false")?;
        Ok(Self {
            image_id: form.optional("ImageId")?,
            instance_type: form.optional("InstanceType")?,
            min_count: form.required("MinCount")?,
            max_count: form.required("MaxCount")?,
            client_token: form.optional("ClientToken")?,
            subnet_id: form.optional("SubnetId")?,
            availability_zone: form.optional("Placement.AvailabilityZone")?,
            availability_zone_id: form.optional("Placement.AvailabilityZoneId")?,
            tenancy: form.optional("Placement.Tenancy")?,
            cpu_credits: form.optional("CreditSpecification.CpuCredits")?,
            key_name: form.optional("KeyName")?,
            security_group_ids: form.list("SecurityGroupId")?,
            security_groups: form.list("SecurityGroup")?,
            private_ip_address: form.optional("PrivateIpAddress")?,
            network_interfaces: form.structures("NetworkInterface", |interface| read_interface(&interface))?,
            block_device_mappings: form.structures("BlockDeviceMapping", |mapping| read_mapping(&mapping))?,
            instance_profile: profile,
            metadata_options: metadata.unwrap_or_default(),
            user_data: form.optional("UserData")?.map(|Base64(bytes)| bytes),
            tag_specifications: tag_specifications(form)?,
            disable_api_termination: form.optional("DisableApiTermination")?,
            disable_api_stop: form.optional("DisableApiStop")?,
            instance_initiated_shutdown_behavior: form.optional("InstanceInitiatedShutdownBehavior")?,
            ebs_optimized: form.optional("EbsOptimized")?,
            monitoring: form.optional("Monitoring.Enabled")?,
            auto_recovery: form.optional("MaintenanceOptions.AutoRecovery")?,
        })
    }

    fn write(reservation: &Reservation, xml: &mut Xml) {
        write_reservation(xml, reservation);
    }
}

fn read_interface(interface: &Reader<'_>) -> Result<InterfaceSpecification, Malformed> {
    interface.only("NetworkCardIndex", "0")?;
    Ok(InterfaceSpecification {
        device_index: interface.required("DeviceIndex")?,
        subnet_id: interface.optional("SubnetId")?,
        groups: interface.list("SecurityGroupId")?,
        private_ip_address: interface.optional("PrivateIpAddress")?,
        private_ip_addresses: interface.structures("PrivateIpAddresses", |address| {
            Ok(AddressSpecification {
                private_ip_address: address.required("PrivateIpAddress")?,
                primary: address.optional("Primary")?.unwrap_or(false),
            })
        })?,
        secondary_private_ip_address_count: interface.optional("SecondaryPrivateIpAddressCount")?,
        description: interface.optional("Description")?,
        delete_on_termination: interface.optional("DeleteOnTermination")?,
        associate_public_ip_address: interface.optional("AssociatePublicIpAddress")?,
    })
}

fn read_mapping(mapping: &Reader<'_>) -> Result<BlockDeviceMapping, Malformed> {
    let ebs = mapping.structure("Ebs", |ebs| {
        Ok(EbsBlockDevice {
            delete_on_termination: ebs.optional("DeleteOnTermination")?,
            iops: ebs.optional("Iops")?,
            throughput: ebs.optional("Throughput")?,
            volume_size: ebs.optional("VolumeSize")?,
            volume_type: ebs.optional("VolumeType")?,
            encrypted: ebs.optional("Encrypted")?,
            kms_key_id: ebs.optional("KmsKeyId")?,
            snapshot_id: ebs.optional("SnapshotId")?,
        })
    })?;
    Ok(BlockDeviceMapping { device_name: mapping.required("DeviceName")?, ebs: ebs.unwrap_or_default() })
}

impl Wire for ModifyInstanceAttribute {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        use InstanceChange as Change;
        let mut changes = Vec::new();
        changes.extend(form.optional("DisableApiTermination.Value")?.map(Change::DisableApiTermination));
        changes.extend(form.optional("DisableApiStop.Value")?.map(Change::DisableApiStop));
        let behavior = form.optional("InstanceInitiatedShutdownBehavior.Value")?;
        changes.extend(behavior.map(Change::InstanceInitiatedShutdownBehavior));
        changes.extend(form.optional("UserData.Value")?.map(|Base64(bytes)| Change::UserData(bytes)));
        changes.extend(form.optional("InstanceType.Value")?.map(Change::InstanceType));
        changes.extend(form.optional("EbsOptimized.Value")?.map(Change::EbsOptimized));
        changes.extend(form.optional("SourceDestCheck.Value")?.map(Change::SourceDestCheck));
        let groups = form.list("GroupId")?;
        if !groups.is_empty() {
            changes.push(Change::Groups(groups));
        }
        let deletes = form.structures("BlockDeviceMapping", |mapping| {
            Ok((mapping.required("DeviceName")?, mapping.required("Ebs.DeleteOnTermination")?))
        })?;
        if !deletes.is_empty() {
            changes.push(Change::DeleteOnTermination(deletes));
        }
        changes.extend(read_named_change(form)?);
        Ok(Self { instance_id: form.required("InstanceId")?, changes })
    }

    fn write((): &(), xml: &mut Xml) {
        write_done(xml);
    }
}

/// The other form of the same: `Attribute=disableApiStop&Value=true`.
fn read_named_change(form: &Reader<'_>) -> Result<Option<InstanceChange>, ApiError> {
    use InstanceChange as Change;
    let Some(attribute) = form.optional::<String>("Attribute")? else { return Ok(None) };
    let change = match attribute.as_str() {
        "disableApiTermination" => Change::DisableApiTermination(form.required("Value")?),
        "disableApiStop" => Change::DisableApiStop(form.required("Value")?),
        "instanceInitiatedShutdownBehavior" => Change::InstanceInitiatedShutdownBehavior(form.required("Value")?),
        "userData" => Change::UserData(form.required::<Base64>("Value")?.0),
        "instanceType" => Change::InstanceType(form.required("Value")?),
        "ebsOptimized" => Change::EbsOptimized(form.required("Value")?),
        "sourceDestCheck" => Change::SourceDestCheck(form.required("Value")?),
        // The value is in a parameter of its own, which is read above.
        "groupSet" | "blockDeviceMapping" => return Ok(None),
        _ => {
            let message = format!("Value ({attribute}) for parameter attribute is invalid. Unknown attribute.");
            return Err(ApiError::new("InvalidParameterValue", message));
        }
    };
    Ok(Some(change))
}

impl Wire for DescribeInstanceAttribute {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { instance_id: form.required("InstanceId")?, attribute: form.required("Attribute")? })
    }

    fn write(reply: &InstanceAttribute, xml: &mut Xml) {
        xml.text("instanceId", &reply.instance_id);
        let mut text = |name, value: Option<&str>| match value {
            Some(value) => xml.attribute(name, value),
            None => xml.element(name, |_| ()),
        };
        match &reply.value {
            AttributeValue::BlockDeviceMapping(devices) => write_block_devices(xml, devices),
            // Ids only, unlike everywhere else (API Reference, the example of DescribeInstanceAttribute).
            AttributeValue::GroupSet(groups) => {
                xml.items("groupSet", groups, |xml, group| xml.text("groupId", &group.group_id));
            }
            AttributeValue::DisableApiStop(on) => xml.attribute("disableApiStop", on),
            AttributeValue::DisableApiTermination(on) => xml.attribute("disableApiTermination", on),
            AttributeValue::EbsOptimized(on) => xml.attribute("ebsOptimized", on),
            AttributeValue::EnclaveOptions { enabled } => {
                xml.element("enclaveOptions", |xml| xml.text("enabled", enabled));
            }
            AttributeValue::EnaSupport(on) => xml.attribute("enaSupport", on),
            AttributeValue::SourceDestCheck(on) => xml.attribute("sourceDestCheck", on),
            AttributeValue::InstanceInitiatedShutdownBehavior(behavior) => {
                xml.attribute("instanceInitiatedShutdownBehavior", behavior);
            }
            AttributeValue::InstanceType(name) => xml.attribute("instanceType", name),
            AttributeValue::RootDeviceName(name) => xml.attribute("rootDeviceName", name),
            AttributeValue::Kernel(id) => text("kernel", id.as_deref()),
            AttributeValue::ProductCodes => {
                xml.items("productCodes", [""; 0], |xml, code| xml.text("productCode", code))
            }
            AttributeValue::SriovNetSupport(value) => text("sriovNetSupport", value.as_deref()),
            AttributeValue::Ramdisk(id) => text("ramdisk", id.as_deref()),
            AttributeValue::UserData(data) => {
                text("userData", data.as_ref().map(|data| STANDARD.encode(data)).as_deref())
            }
        }
    }
}
