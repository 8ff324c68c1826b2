//! DescribeInstanceAttribute and ModifyInstanceAttribute.

use super::{
    ApiError, AttributeValue, DescribeInstanceAttribute, Ec2, InstanceAttribute, InstanceChange, InstanceStateName,
    ModifyInstanceAttribute,
    admission::check_user_data,
    calls::{action, sealed::Run},
    host::known,
};

action!(DescribeInstanceAttribute, describing);
action!(ModifyInstanceAttribute, mutating);

impl Run for DescribeInstanceAttribute {
    type Reply = InstanceAttribute;

    fn run(&self, ec2: &mut Ec2) -> Result<InstanceAttribute, ApiError> {
        let it = ec2.find_instance(&self.instance_id)?;
        let interface = ec2.interfaces.get(&it.network_interface_id);
        let value = match self.attribute.as_str() {
            "blockDeviceMapping" => AttributeValue::BlockDeviceMapping(ec2.block_device_mappings(it)),
            "disableApiStop" => AttributeValue::DisableApiStop(it.disable_api_stop),
            "disableApiTermination" => AttributeValue::DisableApiTermination(it.disable_api_termination),
            "ebsOptimized" => AttributeValue::EbsOptimized(it.ebs_optimized),
            "enclaveOptions" => AttributeValue::EnclaveOptions { enabled: false },
            "enaSupport" => AttributeValue::EnaSupport(true),
            "groupSet" => {
                let groups = interface.map(|it| ec2.group_identifiers(&it.groups));
                AttributeValue::GroupSet(groups.unwrap_or_default())
            }
            "instanceInitiatedShutdownBehavior" => {
                AttributeValue::InstanceInitiatedShutdownBehavior(it.shutdown_behavior)
            }
            "instanceType" => AttributeValue::InstanceType(it.instance_type.clone()),
            "kernel" => AttributeValue::Kernel(None),
            // What the Marketplace sells.
            "productCodes" => AttributeValue::ProductCodes,
            "ramdisk" => AttributeValue::Ramdisk(None),
            "rootDeviceName" => AttributeValue::RootDeviceName(it.root_device_name.clone()),
            "sourceDestCheck" => AttributeValue::SourceDestCheck(interface.is_none_or(|it| it.source_dest_check)),
            // Of machines before ENA.
            "sriovNetSupport" => AttributeValue::SriovNetSupport(None),
            "userData" => AttributeValue::UserData(it.user_data.clone()),
            "" => return Err(ApiError::missing("Attribute")),
            other => {
                let message = format!("Value ({other}) for parameter attribute is invalid. Unknown attribute.");
                return Err(ApiError::value(message));
            }
        };
        Ok(InstanceAttribute { instance_id: self.instance_id.clone(), value })
    }
}

impl Run for ModifyInstanceAttribute {
    type Reply = ();

    fn run(&self, ec2: &mut Ec2) -> Result<(), ApiError> {
        let it = ec2.find_instance(&self.instance_id)?;
        let change = match self.changes.as_slice() {
            [change] => change,
            [] => return Err(ApiError::combination("No attributes specified.")),
            _ => return Err(ApiError::combination("Fields for multiple attribute types specified.")),
        };
        if it.state == InstanceStateName::Terminated {
            let message = format!("The instance '{}' is terminated", self.instance_id);
            return Err(ApiError::new("IncorrectInstanceState", message));
        }
        if needs_stopped(change) && it.state != InstanceStateName::Stopped {
            let message = format!("The instance '{}' is not in the 'stopped' state.", self.instance_id);
            return Err(ApiError::new("IncorrectInstanceState", message));
        }
        ec2.modify(&self.instance_id, change)
    }
}

fn needs_stopped(change: &InstanceChange) -> bool {
    matches!(change, InstanceChange::UserData(_) | InstanceChange::InstanceType(_) | InstanceChange::EbsOptimized(_))
}

impl Ec2 {
    fn modify(&mut self, instance_id: &str, change: &InstanceChange) -> Result<(), ApiError> {
        let it = known(self.instances.get_mut(instance_id));
        let interface_id = it.network_interface_id.clone();
        match change {
            InstanceChange::DisableApiTermination(on) => it.disable_api_termination = *on,
            InstanceChange::DisableApiStop(on) => it.disable_api_stop = *on,
            InstanceChange::InstanceInitiatedShutdownBehavior(behavior) => it.shutdown_behavior = *behavior,
            InstanceChange::EbsOptimized(on) => it.ebs_optimized = *on,
            InstanceChange::UserData(bytes) => {
                check_user_data(Some(bytes))?;
                it.user_data = Some(bytes.clone());
            }
            InstanceChange::InstanceType(name) => {
                let architecture = it.architecture;
                self.find_type(Some(name), architecture)?;
                known(self.instances.get_mut(instance_id)).instance_type.clone_from(name);
            }
            InstanceChange::SourceDestCheck(on) => self.interface_mut(&interface_id).source_dest_check = *on,
            InstanceChange::Groups(groups) => self.replace_groups(&interface_id, groups)?,
            InstanceChange::DeleteOnTermination(devices) => self.keep_or_delete(instance_id, devices)?,
        }
        Ok(())
    }

    /// Sets DeleteOnTermination of the devices named; one that the instance does not have stops all.
    fn keep_or_delete(&mut self, instance_id: &str, devices: &[(String, bool)]) -> Result<(), ApiError> {
        let has = known(self.instances.get_mut(instance_id)).block_devices.clone();
        let mut found = Vec::new();
        for (name, delete) in devices {
            let Some(device) = has.iter().find(|it| it.device_name == *name) else {
                let message = format!("No device is currently mapped at {name}");
                return Err(ApiError::new("InvalidInstanceAttributeValue", message));
            };
            found.push((device.volume_id.clone(), *delete));
        }
        for (volume_id, delete) in found {
            if let Some(at) = self.volumes.get_mut(&volume_id).and_then(|it| it.attachment.as_mut()) {
                at.delete_on_termination = delete;
            }
        }
        Ok(())
    }
}
