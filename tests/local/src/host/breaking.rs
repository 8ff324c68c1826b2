//! Machines broken on demand, and mended.

use std::{collections::BTreeSet, sync::PoisonError};

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

/// What a fault was before it was set or cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Set,
    Unset,
}

impl Host {
    /// The faults of machines that are in force: a freeze and a stall end with the boot of their machine, every fault with what it
    /// is a fault of.
    pub async fn faults(&self) -> Vec<MachineFault> {
        let mut lasting = Vec::new();
        for fault in self.noted() {
            if self.lasts(&fault).await {
                lasting.push(fault);
            } else {
                self.forget(&fault);
            }
        }
        lasting
    }

    async fn lasts(&self, fault: &MachineFault) -> bool {
        let Some(hypervisor) = &self.hypervisor else { return false };
        match fault {
            MachineFault::Kill { .. } => false,
            MachineFault::Freeze { instance } => InstanceId::new(instance).is_ok_and(|id| hypervisor.is_frozen(&id)),
            MachineFault::StallDisk { volume } => match VolumeId::new(volume) {
                Ok(volume) => hypervisor.is_stalled(&volume).await,
                Err(_) => false,
            },
            MachineFault::Cut { instance, .. } => self
                .cloud
                .look(|ec2, _| ec2.instance(instance).is_some_and(|it| it.state != InstanceStateName::Terminated)),
            MachineFault::FillDisk { volume } => self.cloud.look(|ec2, _| ec2.volume(volume).is_some()),
        }
    }

    fn noted(&self) -> Vec<MachineFault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets a fault of a machine.
    pub async fn set(&self, fault: &MachineFault) -> Result<(), HostError> {
        if let MachineFault::Kill { instance } = fault {
            return self.kill(instance).await;
        }
        if self.note(fault) == Before::Set {
            return self.apply(fault, Switch::On).await;
        }
        let applied = self.apply(fault, Switch::On).await;
        if applied.is_err() {
            self.forget(fault);
        }
        applied
    }

    /// Undoes a fault of a machine.
    pub async fn clear(&self, fault: &MachineFault) -> Result<(), HostError> {
        let before = self.forget(fault);
        match self.apply(fault, Switch::Off).await {
            // What is gone took its fault with it.
            Ok(()) | Err(HostError::Machine(machine::Error::NoSuchMachine(_) | machine::Error::NotRunning(_))) => {
                Ok(())
            }
            Err(error) => {
                if before == Before::Set {
                    self.note(fault);
                }
                Err(error)
            }
        }
    }

    /// Cuts off what is to be cut off now: what machines' own faults say, and every machine of a zone that is out.
    pub async fn isolate(&self) -> Result<(), HostError> {
        let Some(hypervisor) = &self.hypervisor else { return Ok(()) };
        let lost = self.cloud.change(|ec2, _| {
            let zones = ec2.faults().zone_outages.clone();
            ec2.instances().filter(|it| zones.contains(&it.zone)).map(|it| it.instance_id.clone()).collect::<Vec<_>>()
        })?;
        Ok(hypervisor.cut(|| cuts(&self.noted(), &lost)).await?)
    }

    fn note(&self, fault: &MachineFault) -> Before {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.contains(fault) {
            return Before::Set;
        }
        faults.push(fault.clone());
        Before::Unset
    }

    fn forget(&self, fault: &MachineFault) -> Before {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let count = faults.len();
        faults.retain(|set| set != fault);
        if faults.len() < count { Before::Set } else { Before::Unset }
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
            (MachineFault::Cut { instance, way, peer }, _) => {
                cut(instance, *way, peer.as_deref())?;
                self.isolate().await?;
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

/// What the faults of machines and the machines of zones that are out come to.
fn cuts(faults: &[MachineFault], lost: &[String]) -> BTreeSet<Cut> {
    let own = faults.iter().filter_map(|fault| match fault {
        // A name that is none was refused when the fault was set.
        MachineFault::Cut { instance, way, peer } => cut(instance, *way, peer.as_deref()).ok(),
        _ => None,
    });
    own.chain(lost.iter().filter_map(|instance| cut(instance, Way::Both, None).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_s_outage_and_a_machine_s_own_cut_do_not_undo_each_other() {
        let own = MachineFault::Cut { instance: "i-1".into(), way: Way::Both, peer: None };
        let frozen = MachineFault::Freeze { instance: "i-3".into() };
        let whole = |id: &str| cut(id, Way::Both, None).unwrap();
        let lost = ["i-1".to_owned(), "i-2".to_owned()];
        assert_eq!(cuts(&[own.clone(), frozen.clone()], &lost), BTreeSet::from([whole("i-1"), whole("i-2")]));
        assert_eq!(cuts(&[own], &[]), BTreeSet::from([whole("i-1")]), "the zone is back");
        assert_eq!(cuts(&[frozen], &lost), BTreeSet::from([whole("i-1"), whole("i-2")]), "the cut is healed");
    }

    #[test]
    fn a_way_is_seen_from_the_machine() {
        let direction = |way| cut("i-1", way, None).unwrap().direction;
        assert_eq!(direction(Way::In), Direction::Receive);
        assert_eq!(direction(Way::Out), Direction::Send);
        assert_eq!(direction(Way::Both), Direction::Both);
    }
}
