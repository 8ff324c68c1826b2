//! From lists to a fleet: what the cloud describes, read by its tags. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{
    InstanceId, Millis, Realm, VolumeId,
    tags::{self, SpecHash, TagVerdict, Tags},
};
use drover_cloud::{
    CloudError, machines,
    machines::MachineState,
    volumes,
    volumes::{AttachmentState, VolumeState},
};
use drover_plan::observed::{HandsOff, Machine, Phase, StateReason, Volume, VolumePhase, VolumeShape};

use crate::store::StoredSet;

/// The last complete list of one kind of thing, and how the latest try went.
#[derive(Clone, Debug)]
pub struct Listing<Id, T> {
    pub shown: BTreeMap<Id, T>,
    /// When the last complete list ended.
    pub listed: Option<Millis>,
    /// When the last try began, monotonic.
    pub tried: Option<Duration>,
    /// Why later tries failed, if they did.
    pub failing: Option<String>,
}

/// Things with our tags, and things whose tags nobody here understands.
#[derive(Debug)]
pub struct Read<Id, T> {
    pub ours: BTreeMap<Id, T>,
    pub hands_off: Vec<HandsOff>,
}

// === impl Listing ===

impl<Id: Ord, T> Listing<Id, T> {
    /// A list is due `every` so often.
    pub fn is_due(&self, now: Duration, every: Duration) -> bool {
        self.tried.is_none_or(|tried| now.saturating_sub(tried) >= every)
    }

    /// Takes in how a try ended that began at `began`. A failed one changes nothing but the reason: unknown is not gone.
    pub fn learn(&mut self, result: Result<BTreeMap<Id, T>, CloudError>, began: Duration, now: Millis) -> bool {
        self.tried = Some(began);
        match result {
            Ok(shown) => {
                self.shown = shown;
                self.listed = Some(now);
                self.failing = None;
                true
            }
            Err(error) => {
                self.failing = Some(error.to_string());
                false
            }
        }
    }
}

impl<Id, T> Default for Listing<Id, T> {
    fn default() -> Self {
        Self { shown: BTreeMap::new(), listed: None, tried: None, failing: None }
    }
}

/// Machines by their tags. `architecture` tells that of an instance type, where it is known.
pub fn read_machines(
    realm: &Realm,
    shown: &BTreeMap<InstanceId, machines::Machine>,
    launched_tags: &BTreeMap<&InstanceId, &Tags>,
    architecture: impl Fn(&str) -> Option<String>,
) -> Read<InstanceId, Machine> {
    let mut read = Read { ours: BTreeMap::new(), hands_off: Vec::new() };
    for (id, machine) in shown {
        // A terminated machine loses its tags before its id (EC2 documentation, "Terminate instances"): what it was launched
        // with still says whose it was.
        let tags = match launched_tags.get(id) {
            Some(tags) if machine.state == MachineState::Terminated && !machine.tags.contains_key(tags::REALM) => *tags,
            _ => &machine.tags,
        };
        match tags::read(realm, tags) {
            TagVerdict::Ours { identity, attempt } => {
                let ours = Machine {
                    id: id.clone(),
                    key: identity.key,
                    incarnation: identity.incarnation,
                    slot: identity.slot,
                    attempt,
                    token: machine.token.clone(),
                    phase: phase(machine.state),
                    state_reason: machine.state_reason.as_ref().map(state_reason),
                    zone: machine.zone.clone(),
                    address: machine.private_ip,
                    architecture: architecture(&machine.instance_type),
                    spec: tags.get(tags::SPEC).cloned().map(SpecHash),
                    role: tags::read_role(tags),
                    held: tags.contains_key(tags::HOLD),
                    launched: machine.launched,
                };
                read.ours.insert(id.clone(), ours);
            }
            // What has ended needs no hands.
            TagVerdict::HandsOff { .. } if machine.state == MachineState::Terminated => {}
            TagVerdict::HandsOff { reason } => read.hands_off.push(HandsOff { id: id.to_string(), reason }),
        }
    }
    read
}

pub fn read_volumes(realm: &Realm, shown: &BTreeMap<VolumeId, volumes::Volume>) -> Read<VolumeId, Volume> {
    let mut read = Read { ours: BTreeMap::new(), hands_off: Vec::new() };
    for (id, volume) in shown {
        match tags::read(realm, &volume.tags) {
            TagVerdict::Ours { identity, attempt } => {
                let ours = Volume {
                    id: id.clone(),
                    key: identity.key,
                    incarnation: identity.incarnation,
                    slot: identity.slot,
                    attempt,
                    zone: volume.zone.clone(),
                    shape: VolumeShape {
                        size_gib: volume.size_gib,
                        volume_type: volume.volume_type.clone(),
                        iops: volume.iops,
                        throughput_mibps: volume.throughput_mibps,
                    },
                    phase: volume_phase(volume),
                    attached_to: volume.attachment.as_ref().map(|attachment| attachment.instance.clone()),
                    deleted_with: volume.attachment.as_ref().and_then(deleted_with),
                };
                read.ours.insert(id.clone(), ours);
            }
            TagVerdict::HandsOff { reason } => read.hands_off.push(HandsOff { id: id.to_string(), reason }),
        }
    }
    read
}

/// The machines and volumes that records name.
pub fn named<'a>(sets: impl IntoIterator<Item = &'a StoredSet>) -> (BTreeSet<InstanceId>, BTreeSet<VolumeId>) {
    let mut named = (BTreeSet::new(), BTreeSet::new());
    for slot in sets.into_iter().flat_map(|set| set.slots.values()) {
        named.0.extend(slot.record.instance.clone());
        named.1.extend(slot.record.volume.clone());
    }
    named
}

/// The tags that records say machines were launched with.
pub fn launched_tags<'a>(sets: impl IntoIterator<Item = &'a StoredSet>) -> BTreeMap<&'a InstanceId, &'a Tags> {
    sets.into_iter()
        .flat_map(|set| set.slots.values())
        .filter_map(|slot| Some((slot.record.instance.as_ref()?, &slot.record.launch.as_ref()?.tags)))
        .collect()
}

fn phase(state: MachineState) -> Phase {
    match state {
        MachineState::Pending => Phase::Pending,
        MachineState::Running => Phase::Running,
        MachineState::Stopping => Phase::Stopping,
        MachineState::Stopped => Phase::Stopped,
        MachineState::ShuttingDown => Phase::ShuttingDown,
        MachineState::Terminated => Phase::Terminated,
    }
}

fn state_reason(reason: &machines::StateReason) -> StateReason {
    StateReason { code: reason.code.clone(), message: reason.message.clone() }
}

fn deleted_with(attachment: &volumes::Attachment) -> Option<String> {
    (attachment.delete_on_termination == Some(true)).then(|| attachment.device.clone())
}

fn volume_phase(volume: &volumes::Volume) -> VolumePhase {
    let attachment = volume.attachment.as_ref().map(|attachment| attachment.state);
    match (volume.state, attachment) {
        (VolumeState::Creating, _) => VolumePhase::Creating,
        (VolumeState::Deleting, _) => VolumePhase::Deleting,
        (VolumeState::Deleted, _) => VolumePhase::Deleted,
        (VolumeState::Error, _) => VolumePhase::Error,
        (VolumeState::Available | VolumeState::InUse, Some(AttachmentState::Attaching)) => VolumePhase::Attaching,
        (VolumeState::Available | VolumeState::InUse, Some(AttachmentState::Attached)) => VolumePhase::Attached,
        // Busy: the detach waits for a device that is in use (EC2 documentation, "Detach an EBS volume").
        (VolumeState::Available | VolumeState::InUse, Some(AttachmentState::Detaching | AttachmentState::Busy)) => {
            VolumePhase::Detaching
        }
        (VolumeState::Available, None) => VolumePhase::Available,
        // In use by nothing that is shown: a list caught it in between.
        (VolumeState::InUse, None) => VolumePhase::Detaching,
    }
}
