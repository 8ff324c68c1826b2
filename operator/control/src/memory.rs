//! What an operator process remembers between passes. Small structures without I/O, each losable: a new process begins with
//! none of it and comes to the same decisions, some of them later.

pub mod absence;
pub mod backoff;
pub mod catalogs;
pub mod fresh;
pub mod sends;

use std::{collections::BTreeMap, time::Duration};

use drover_api::{Incarnation, InstanceId, Millis, ResourceKey, VolumeId};
use drover_cloud::{
    capacity::CapacityMemory,
    machines::{Machine, MachineState},
    volumes::{AttachmentState, Volume, VolumeState},
};

use crate::{act::Learned, fleet::Listing, observe::Bucket, store::StoredSet};

pub use absence::Absences;
pub use backoff::Backoff;
pub use catalogs::Catalogs;
pub use fresh::Fresh;
pub use sends::Sends;

/// Everything that is kept between passes; a new process begins with none of it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The fence that the records were read under.
    pub(crate) fence: Option<u64>,
    pub(crate) sets: BTreeMap<ResourceKey, Result<StoredSet, String>>,
    pub(crate) bucket: Bucket,
    pub(crate) machines: Listing<InstanceId, Machine>,
    pub(crate) volumes: Listing<VolumeId, Volume>,
    pub(crate) fresh: Fresh,
    pub(crate) absent_machines: Absences<InstanceId>,
    pub(crate) absent_volumes: Absences<VolumeId>,
    pub(crate) sends: Sends,
    pub(crate) capacity: CapacityMemory,
    pub(crate) catalogs: Catalogs,
    pub(crate) minted: BTreeMap<ResourceKey, Incarnation>,
    pub(crate) backoff: Backoff,
}

// === impl Memory ===

impl Memory {
    /// A machine is on its way from one state to another: worth looking sooner.
    pub(crate) fn in_transition(&self) -> bool {
        let settled = |machine: &Machine| {
            matches!(machine.state, MachineState::Running | MachineState::Stopped | MachineState::Terminated)
        };
        !self.machines.shown.values().all(settled)
    }

    pub(crate) fn volumes_in_transition(&self) -> bool {
        let attached = |volume: &Volume| {
            volume.attachment.as_ref().is_none_or(|attachment| attachment.state == AttachmentState::Attached)
        };
        let settled = |volume: &Volume| {
            attached(volume) && !matches!(volume.state, VolumeState::Creating | VolumeState::Deleting)
        };
        !self.volumes.shown.values().all(settled)
    }

    /// Takes in what an effect taught.
    pub(crate) fn learn(&mut self, learned: Learned, at: Duration, now: Millis) {
        match learned {
            Learned::Minted(token) => self.sends.minted(&token),
            Learned::Launched(request, result) => {
                self.sends.sent(&request.token, result.as_ref().map(|_| ()), now);
                match result {
                    Ok(machine) => self.fresh.machine(*machine, at),
                    Err(error) => self.capacity.note(&request, &error, now),
                }
            }
            Learned::VolumeCreated(token, result) => {
                self.sends.sent(&token, result.as_ref().map(|_| ()), now);
                if let Ok(volume) = result {
                    self.fresh.volume(*volume, at);
                }
            }
            Learned::FoundByToken(token, found) => {
                self.sends.looked_up(&token, found.len(), now);
                for machine in found {
                    self.fresh.machine(machine, at);
                }
            }
            Learned::Machine(id, None) => self.absent_machines.not_found(&id),
            Learned::Machine(id, Some(machine)) => {
                self.absent_machines.found(&id);
                self.fresh.machine(*machine, at);
            }
            Learned::Volume(id, None) => self.absent_volumes.not_found(&id),
            Learned::Volume(id, Some(volume)) => {
                self.absent_volumes.found(&id);
                self.fresh.volume(*volume, at);
            }
            Learned::Ended(id) => self.fresh.ended(&id, at),
            Learned::Tagged(id, tags) => self.fresh.tagged(&id, &tags, at),
            Learned::Untagged(id, key) => self.fresh.untagged(&id, key, at),
            Learned::Attached(volume, instance) => self.fresh.attached(&volume, &instance, at),
            Learned::Kept(volume) => self.fresh.kept(&volume, at),
            Learned::VolumeDeleted(id) => {
                if let Some(volume) = self.fresh.over_volumes(&self.volumes.shown).remove(&id) {
                    self.fresh.deleted(volume, at);
                }
            }
        }
    }
}
