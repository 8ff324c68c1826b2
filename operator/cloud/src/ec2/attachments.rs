//! Which volume is attached where: one instance of the same zone at a time.

use super::{
    ApiError, AttachVolume, Attachment, AttachmentState, BlockDevice, DetachVolume, Ec2, HostEvent, Instance,
    InstanceStateName, InstanceTypeInfo, Volume, VolumeAttachment, VolumeState,
    calls::{action, sealed::Run},
    host::{Due, known},
    ids,
    volumes::wrong_state,
};

action!(AttachVolume, mutating);
action!(DetachVolume, mutating);

impl Run for AttachVolume {
    type Reply = Attachment;

    fn run(&self, ec2: &mut Ec2) -> Result<Attachment, ApiError> {
        if self.device.is_empty() {
            return Err(ApiError::missing("device"));
        }
        ids::VOLUME.check(&self.volume_id)?;
        ids::INSTANCE.check(&self.instance_id)?;
        let volume = ec2.find_volume(&self.volume_id)?;
        let found = ec2.named_instances(std::slice::from_ref(&self.instance_id))?;
        let instance = found.first().expect("a named instance that is not there is an error");
        check_attachable(volume, instance, &self.device)?;
        if let Some(info) = ec2.type_info(&instance.instance_type) {
            check_volumes_max(info, instance.block_devices.len() + 1)?;
        }
        let attachment = VolumeAttachment {
            instance_id: self.instance_id.clone(),
            device: self.device.clone(),
            state: AttachmentState::Attaching,
            attach_time: ec2.now,
            delete_on_termination: false,
            forced: false,
        };
        let device = BlockDevice { device_name: self.device.clone(), volume_id: self.volume_id.clone() };
        known(ec2.instances.get_mut(&self.instance_id)).block_devices.push(device);
        let volume = ec2.volume_mut(&self.volume_id);
        volume.state = VolumeState::InUse;
        volume.attachment = Some(attachment.clone());
        let (volume_id, instance_id, device) = (self.volume_id.clone(), self.instance_id.clone(), self.device.clone());
        let after = ec2.account.timings.attach;
        let order = HostEvent::AttachVolume { volume_id: volume_id.clone(), instance_id, device };
        ec2.order(order, after, Due::VolumeAttached(volume_id.clone()));
        Ok(Attachment { volume_id, attachment })
    }
}

impl Run for DetachVolume {
    type Reply = Attachment;

    fn run(&self, ec2: &mut Ec2) -> Result<Attachment, ApiError> {
        let volume = ec2.find_volume(&self.volume_id)?;
        let Some(at) = volume.attachment.clone() else {
            return Err(wrong_state(&self.volume_id, volume.state));
        };
        let other_instance = self.instance_id.as_ref().is_some_and(|id| *id != at.instance_id);
        let other_device = self.device.as_ref().is_some_and(|device| *device != at.device);
        if other_instance || other_device {
            let message = format!("The volume '{}' is not attached there", self.volume_id);
            return Err(ApiError::new("InvalidAttachment.NotFound", message));
        }
        let instance = ec2.instances.get(&at.instance_id);
        let state = instance.map(|it| it.state);
        if instance.is_some_and(|it| it.root_device_name == at.device) && state != Some(InstanceStateName::Stopped) {
            let message =
                format!("Unable to detach root volume '{}' from instance '{}'", self.volume_id, at.instance_id);
            return Err(ApiError::new("OperationNotPermitted", message));
        }
        let volume = ec2.volume_mut(&self.volume_id);
        let attachment = volume.attachment.as_mut().expect("the attachment was just read");
        attachment.state = AttachmentState::Detaching;
        attachment.forced |= self.force;
        let attachment = attachment.clone();
        ec2.order_detachment(&self.volume_id, &attachment, state);
        Ok(Attachment { volume_id: self.volume_id.clone(), attachment })
    }
}

/// As many volumes as the type allows.
pub(super) fn check_volumes_max(info: &InstanceTypeInfo, wanted: usize) -> Result<(), ApiError> {
    let max = info.volumes_max();
    if wanted > max {
        let message = format!("The instance type {} has room for {max} volumes", info.instance_type);
        return Err(ApiError::new("AttachmentLimitExceeded", message));
    }
    Ok(())
}

/// What an HVM machine of Linux may call a device, with `/dev/` or without ("Device names for volumes on Amazon EC2 instances"): `sd[a-z]`,
/// `xvd[a-z]`, `xvd[a-d][a-x]`, and `sda1` for a root device.
pub(super) fn is_device_name(name: &str) -> bool {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    match (name.strip_prefix("sd"), name.strip_prefix("xvd")) {
        (Some("a1"), _) => true,
        (Some(drive), _) | (None, Some(drive)) => match drive.as_bytes() {
            [b'a'..=b'z'] => true,
            [b'a'..=b'd', b'a'..=b'x'] => name.starts_with("xvd"),
            _ => false,
        },
        (None, None) => false,
    }
}

fn check_attachable(volume: &Volume, instance: &Instance, device: &str) -> Result<(), ApiError> {
    if volume.zone != instance.zone {
        let message = format!(
            "The volume '{}' is not in the same availability zone as instance '{}'",
            volume.volume_id, instance.instance_id
        );
        return Err(ApiError::new("InvalidVolume.ZoneMismatch", message));
    }
    if let Some(at) = &volume.attachment {
        let message = format!("{} is already attached to an instance: {}", volume.volume_id, at.instance_id);
        return Err(ApiError::new("VolumeInUse", message));
    }
    if volume.state != VolumeState::Available {
        return Err(ApiError::new("IncorrectState", format!("{} is not 'available'.", volume.volume_id)));
    }
    if !matches!(instance.state, InstanceStateName::Running | InstanceStateName::Stopped) {
        let message = format!("Instance '{}' is not 'running'.", instance.instance_id);
        return Err(ApiError::new("IncorrectState", message));
    }
    if !is_device_name(device) {
        return Err(ApiError::value(format!(
            "Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name."
        )));
    }
    if instance.block_devices.iter().any(|it| it.device_name == device) {
        let message = format!("Invalid value '{device}' for unixDevice. Attachment point {device} is already in use");
        return Err(ApiError::value(message));
    }
    Ok(())
}

impl Ec2 {
    pub(super) fn block_device_mappings(&self, instance: &Instance) -> Vec<(BlockDevice, VolumeAttachment)> {
        let attachment = |device: &BlockDevice| self.volumes.get(&device.volume_id)?.attachment.clone();
        instance.block_devices.iter().filter_map(|device| Some((device.clone(), attachment(device)?))).collect()
    }

    /// From a running machine a detachment ends when the host, or the account's timings, say that the device is not in use.
    fn order_detachment(&mut self, volume_id: &str, at: &VolumeAttachment, state: Option<InstanceStateName>) {
        let timings = &self.account.timings;
        let in_use = state != Some(InstanceStateName::Stopped) && !at.forced;
        let after = if in_use { timings.detach_running } else { Some(timings.attach) };
        let event = HostEvent::DetachVolume {
            volume_id: volume_id.into(),
            instance_id: at.instance_id.clone(),
            forced: at.forced,
        };
        match after {
            Some(after) => self.order(event, after, Due::VolumeDetached(volume_id.into())),
            None => self.tell(event),
        }
    }

    /// At its instance's end: deleted or available, as DeleteOnTermination says.
    pub(super) fn release_volume(&mut self, volume_id: &str) {
        let Some(volume) = self.volumes.get_mut(volume_id) else {
            return;
        };
        if volume.attachment.as_ref().is_some_and(|at| at.delete_on_termination) {
            self.begin_volume_deletion(volume_id);
        } else {
            volume.attachment = None;
            volume.state = VolumeState::Available;
        }
    }

    pub(super) fn attached(&mut self, volume_id: &str) {
        if let Some(at) = self.volumes.get_mut(volume_id).and_then(|it| it.attachment.as_mut())
            && at.state == AttachmentState::Attaching
        {
            at.state = AttachmentState::Attached;
        }
    }

    pub(super) fn detached(&mut self, volume_id: &str) {
        let Some(volume) = self.volumes.get_mut(volume_id) else {
            return;
        };
        let Some(at) = volume.attachment.take_if(|at| at.state == AttachmentState::Detaching) else {
            return;
        };
        volume.state = VolumeState::Available;
        if let Some(instance) = self.instances.get_mut(&at.instance_id) {
            instance.block_devices.retain(|device| device.volume_id != volume_id);
        }
    }
}
