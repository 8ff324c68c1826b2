//! Machines broken on demand, and mended.

use std::sync::PoisonError;

use drover_api::{InstanceId, InvalidName, VolumeId};
use drover_cloud::ec2::InstanceStateName;

use super::{Host, HostError};
use crate::{
    fault::{MachineFault, Way},
    machine::{self, Cut, Direction, Stop},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

impl Host {
    /// The faults of machines that are set.
    pub fn faults(&self) -> Vec<MachineFault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets a fault of a machine.
    pub async fn set(&self, fault: &MachineFault) -> Result<(), HostError> {
        if let MachineFault::Kill { instance } = fault {
            return self.kill(instance).await;
        }
        self.apply(fault, Switch::On).await?;
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if !faults.contains(fault) {
            faults.push(fault.clone());
        }
        Ok(())
    }

    /// Undoes a fault of a machine.
    pub async fn clear(&self, fault: &MachineFault) -> Result<(), HostError> {
        match self.apply(fault, Switch::Off).await {
            // What is gone took its fault with it.
            Ok(()) | Err(HostError::Machine(machine::Error::NoSuchMachine(_) | machine::Error::NotRunning(_))) => {}
            Err(error) => return Err(error),
        }
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).retain(|set| set != fault);
        Ok(())
    }

    async fn kill(&self, instance: &str) -> Result<(), HostError> {
        let is_running =
            self.cloud.look(|ec2, _| ec2.instance(instance).is_some_and(|it| it.state == InstanceStateName::Running));
        if !is_running {
            return Err(HostError::NoSuchInstance(instance.into()));
        }
        if let Some(hypervisor) = &self.hypervisor {
            hypervisor.stop(&InstanceId::new(instance)?, Stop::Forced).await?;
        }
        Ok(self.cloud.change(|ec2, now| ec2.host_lost(now, instance))?)
    }

    async fn apply(&self, fault: &MachineFault, switch: Switch) -> Result<(), HostError> {
        let hypervisor = self.hypervisor.as_ref().ok_or(HostError::NoMachines)?;
        match (fault, switch) {
            (MachineFault::Kill { .. }, Switch::On) => {}
            (MachineFault::Kill { .. }, Switch::Off) => return Err(HostError::DeadHost),
            (MachineFault::Freeze { instance }, Switch::On) => hypervisor.freeze(&InstanceId::new(instance)?)?,
            (MachineFault::Freeze { instance }, Switch::Off) => hypervisor.thaw(&InstanceId::new(instance)?)?,
            (MachineFault::Cut { instance, way, peer }, Switch::On) => {
                hypervisor.cut(cut(instance, *way, peer.as_deref())?).await?;
            }
            (MachineFault::Cut { instance, way, peer }, Switch::Off) => {
                hypervisor.heal(&cut(instance, *way, peer.as_deref())?).await?;
            }
            (MachineFault::FillDisk { volume }, Switch::On) => hypervisor.fill_volume(&VolumeId::new(volume)?).await?,
            (MachineFault::FillDisk { volume }, Switch::Off) => {
                hypervisor.empty_volume(&VolumeId::new(volume)?).await?
            }
            (MachineFault::StallDisk { volume }, Switch::On) => {
                hypervisor.stall_volume(&VolumeId::new(volume)?).await?
            }
            (MachineFault::StallDisk { volume }, Switch::Off) => {
                hypervisor.resume_volume(&VolumeId::new(volume)?).await?
            }
        }
        Ok(())
    }
}

fn cut(instance: &str, way: Way, peer: Option<&str>) -> Result<Cut, InvalidName> {
    Ok(Cut {
        machine: InstanceId::new(instance)?,
        direction: match way {
            Way::In => Direction::Receive,
            Way::Out => Direction::Send,
            Way::Both => Direction::Both,
        },
        peer: peer.map(InstanceId::new).transpose()?,
    })
}
