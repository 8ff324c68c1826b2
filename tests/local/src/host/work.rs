//! What each order comes to, and what is reported of it.

use std::time::Duration;

use drover_api::{InstanceId, VolumeId};
use drover_cloud::ec2::{
    AttachmentState, Ec2, HostEvent as Order, InstanceStateName, PowerOff, StateReason, VolumeState, private_dns_name,
};

use super::{Host, HostError};
use crate::machine::{self, Detach, Hypervisor, MachineSpec, Stop, Subnet};

/// How often a detachment is tried again while the volume is mounted.
const DETACH_RETRY: Duration = Duration::from_secs(1);

impl Host {
    pub(super) async fn perform(&self, order: &Order) -> Result<(), HostError> {
        let hypervisor = self.hypervisor.as_ref().ok_or(HostError::NoMachines)?;
        match order {
            Order::Boot { instance_id } => self.boot(hypervisor, instance_id).await,
            Order::Reboot { instance_id } => self.reboot(hypervisor, &InstanceId::new(instance_id)?).await,
            Order::Stop { instance_id, power_off } => {
                self.power_off(hypervisor, instance_id, *power_off).await?;
                Ok(self.cloud.change(|ec2, now| ec2.instance_powered_off(now, instance_id))?)
            }
            Order::Terminate { instance_id, power_off } => {
                self.power_off(hypervisor, instance_id, *power_off).await?;
                hypervisor.terminate(&InstanceId::new(instance_id)?).await?;
                Ok(self.cloud.change(|ec2, now| ec2.instance_powered_off(now, instance_id))?)
            }
            Order::CreateVolume { volume_id } => {
                self.create_volume(hypervisor, volume_id)?;
                Ok(self.cloud.change(|ec2, now| ec2.volume_created(now, volume_id))?)
            }
            Order::DeleteVolume { volume_id } => {
                match hypervisor.delete_volume(&VolumeId::new(volume_id)?) {
                    // A root volume is the machine's own directory, which went with it.
                    Ok(()) | Err(machine::Error::NoSuchVolume(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(self.cloud.change(|ec2, now| ec2.volume_deleted(now, volume_id))?)
            }
            Order::AttachVolume { volume_id, instance_id, .. } => {
                match hypervisor.attach(&VolumeId::new(volume_id)?, &InstanceId::new(instance_id)?).await {
                    // A machine that is off finds the volume when it boots.
                    Ok(()) | Err(machine::Error::NoSuchMachine(_) | machine::Error::NotRunning(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(self.cloud.change(|ec2, now| ec2.volume_attached(now, volume_id))?)
            }
            Order::AddressMoved { address, from, to } => {
                self.move_address(hypervisor, address, from.as_deref(), to.as_deref()).await
            }
            Order::DetachVolume { .. } | Order::GroupsReplaced { .. } | Order::StateChanged { .. } => Ok(()),
        }
    }

    /// Puts the account's security groups in force between its machines.
    pub(super) async fn keep_apart(&self) {
        let Some(hypervisor) = &self.hypervisor else { return };
        let ids = |(from, to): (String, String)| Some((InstanceId::new(from).ok()?, InstanceId::new(to).ok()?));
        let pairs = self.cloud.look(|ec2, _| ec2.kept_apart().into_iter().filter_map(ids).collect());
        if let Err(error) = hypervisor.keep_apart(pairs).await {
            tracing::error!(%error, "security groups are not in force");
        }
    }

    /// Whether the model still waits for what this order is to bring about.
    pub(super) fn awaits(&self, order: &Order) -> bool {
        self.cloud.look(|ec2, _| {
            let is = |id: &str, state| ec2.instance(id).is_some_and(|it| it.state == state);
            let volume_is = |id: &str, state| ec2.volume(id).is_some_and(|it| it.state == state);
            match order {
                Order::Boot { instance_id } => is(instance_id, InstanceStateName::Pending),
                Order::Reboot { instance_id } => is(instance_id, InstanceStateName::Running),
                Order::Stop { instance_id, .. } => is(instance_id, InstanceStateName::Stopping),
                Order::Terminate { instance_id, .. } => is(instance_id, InstanceStateName::ShuttingDown),
                Order::CreateVolume { volume_id } => volume_is(volume_id, VolumeState::Creating),
                Order::DeleteVolume { volume_id } => volume_is(volume_id, VolumeState::Deleting),
                Order::AttachVolume { volume_id, instance_id, .. } => {
                    is_attachment(ec2, volume_id, instance_id, AttachmentState::Attaching)
                }
                Order::DetachVolume { volume_id, instance_id, .. } => {
                    is_attachment(ec2, volume_id, instance_id, AttachmentState::Detaching)
                }
                // Who has an address always matters, and it is the present holder that an attempt gives it to.
                Order::AddressMoved { .. } => true,
                Order::GroupsReplaced { .. } | Order::StateChanged { .. } => false,
            }
        })
    }

    /// A machine that was ended and did not come back is a lost host; one that has not ended yet is asked again.
    async fn reboot(&self, hypervisor: &Hypervisor, id: &InstanceId) -> Result<(), HostError> {
        match hypervisor.reboot(id).await {
            Ok(()) | Err(machine::Error::NotRunning(_) | machine::Error::NoSuchMachine(_)) => Ok(()),
            Err(error) if hypervisor.pid(id).is_err() => {
                tracing::error!(instance = %id, %error, "a machine did not come back from a reboot");
                Ok(self.cloud.change(|ec2, now| ec2.host_lost(now, id.as_str()))?)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn boot(&self, hypervisor: &Hypervisor, instance_id: &str) -> Result<(), HostError> {
        let Some((spec, is_first)) = self.cloud.look(|ec2, _| self.spec(ec2, instance_id)) else {
            return self.fail_boot(instance_id, "Server.InternalError", "the image cannot be started", Launch::First);
        };
        for volume in &spec.volumes {
            self.create_volume(hypervisor, volume.as_str())?;
        }
        match hypervisor.boot(&spec).await {
            Ok(()) | Err(machine::Error::AlreadyRunning(_)) => {
                Ok(self.cloud.change(|ec2, now| ec2.instance_booted(now, instance_id))?)
            }
            Err(error) => {
                tracing::error!(instance = instance_id, %error, "a machine did not boot");
                let code = match error {
                    machine::Error::Capacity(_) => "Server.InsufficientInstanceCapacity",
                    _ => "Server.InternalError",
                };
                self.fail_boot(instance_id, code, &error.to_string(), is_first)
            }
        }
    }

    /// A launch that fails ends terminated, a start that fails ends stopped (EC2 User Guide, "Instance terminates
    /// immediately" and "Troubleshoot launch issues").
    fn fail_boot(&self, instance_id: &str, code: &str, why: &str, launch: Launch) -> Result<(), HostError> {
        let reason = StateReason { code: code.into(), message: format!("{code}: {why}") };
        Ok(self.cloud.change(|ec2, now| match launch {
            Launch::First => ec2.instance_failed(now, instance_id, reason),
            Launch::Again => ec2.instance_powered_off(now, instance_id),
        })?)
    }

    async fn power_off(&self, hypervisor: &Hypervisor, instance_id: &str, how: PowerOff) -> Result<(), HostError> {
        let how = match how {
            PowerOff::AtOnce => Stop::Forced,
            // The hypervisor pulls the plug when a graceful stop takes too long, so the two are one.
            PowerOff::Graceful | PowerOff::GracefulThenForced => Stop::Graceful,
        };
        match hypervisor.stop(&InstanceId::new(instance_id)?, how).await {
            Ok(()) | Err(machine::Error::NoSuchMachine(_) | machine::Error::NotRunning(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn create_volume(&self, hypervisor: &Hypervisor, volume_id: &str) -> Result<(), HostError> {
        let volume = self.cloud.look(|ec2, _| ec2.volume(volume_id).map(|it| (it.size_gib, it.image_id.is_some())));
        match volume {
            Some((size_gib, false)) => {
                Ok(hypervisor.create_volume(&VolumeId::new(volume_id)?, u64::from(size_gib) << 30)?)
            }
            // A root volume is the machine's own directory.
            Some((_, true)) | None => Ok(()),
        }
    }

    /// Tries until the device is free, the machine is off, or nobody wants it any more.
    pub(super) async fn detach(&self, order: &Order) {
        let Order::DetachVolume { volume_id, instance_id, forced } = order else { return };
        let how = if *forced { Detach::Forced } else { Detach::WhenFree };
        let Some(hypervisor) = &self.hypervisor else { return };
        let (Ok(volume), Ok(instance)) = (VolumeId::new(volume_id), InstanceId::new(instance_id)) else { return };
        let mut pause = tokio::time::interval(DETACH_RETRY);
        while self.awaits(order) {
            pause.tick().await;
            match hypervisor.detach(&volume, &instance, how).await {
                Err(machine::Error::VolumeInUse { .. }) => continue,
                Ok(()) | Err(machine::Error::NotAttached { .. } | machine::Error::NoSuchMachine(_)) => {}
                Err(error) => {
                    tracing::error!(%volume, %error, "a volume could not be detached; it is tried again");
                    continue;
                }
            }
            match self.cloud.change(|ec2, now| ec2.volume_detached(now, volume_id)) {
                Ok(()) => return,
                Err(error) => tracing::error!(%volume, %error, "a detachment is not on disk"),
            }
        }
    }

    /// What the hypervisor is asked for, and whether it is the machine's first boot. `None`: there is no such image.
    fn spec(&self, ec2: &Ec2, instance_id: &str) -> Option<(MachineSpec, Launch)> {
        let instance = ec2.instance(instance_id)?;
        let interface = ec2.interface(&instance.network_interface_id)?;
        let subnet = ec2.account().subnets.iter().find(|subnet| subnet.zone == instance.zone)?;
        let kind = ec2.account().instance_types.iter().find(|info| info.instance_type == instance.instance_type)?;
        let data = instance.block_devices.iter().filter(|device| device.device_name != instance.root_device_name);
        let spec = MachineSpec {
            id: InstanceId::new(instance_id).ok()?,
            image: self.images.find(ec2.image(&instance.image_id)?)?,
            private_ip: interface.primary_address().parse().ok()?,
            subnet: Subnet { address: subnet.cidr.base, prefix: subnet.cidr.prefix },
            mac: interface.mac_address.clone(),
            hostname: private_dns_name(interface.primary_address(), &instance.zone),
            memory_max: Some(u64::from(kind.memory_mib) << 20),
            metadata_hop_limit: instance.metadata_options.http_put_response_hop_limit,
            volumes: data.filter_map(|device| VolumeId::new(&device.volume_id).ok()).collect(),
        };
        let launch = if instance.launch_time == instance.created { Launch::First } else { Launch::Again };
        Some((spec, launch))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Launch {
    First,
    Again,
}

fn is_attachment(ec2: &Ec2, volume_id: &str, instance_id: &str, state: AttachmentState) -> bool {
    let attachment = ec2.volume(volume_id).and_then(|volume| volume.attachment.as_ref());
    attachment.is_some_and(|at| at.instance_id == instance_id && at.state == state)
}
