//! One set, gathered: what the rooms of a decision look at, and what they leave behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{
    Incarnation, InstanceId, Millis, ResourceKey, Slot, VolumeId, Zone,
    defaults::ResolvedSet,
    records::{IncarnationRecord, Register, SlotRecord, Voter},
    requests::Request,
    status::Handled,
    tags::{Identity, SpecHash},
    wire::{Report, Running, ServerReport, VolumeReport, Voting},
};

use crate::{
    actions::{Action, Planned, Waiting},
    observed::{Absence, Machine, Observed, Phase, SetRecords, Volume, VolumePhase},
};

/// Complete lists without a machine before its absence may mean anything, and for how long (law 4). EC2 may not show a
/// fresh or troubled instance for minutes (EC2 documentation, "Eventual consistency").
pub const ABSENT_LISTS: u32 = 3;
pub const ABSENT_FOR: Duration = Duration::from_secs(300);

/// A LIVE or DELETING set whose records are known.
pub struct View<'a> {
    pub observed: &'a Observed,
    pub key: &'a ResourceKey,
    /// `None` while the set is being deleted: then nothing of it is wanted.
    pub set: Option<&'a ResolvedSet>,
    /// What people ask for once.
    pub requests: &'a [Request],
    pub records: &'a SetRecords,
    pub life: &'a IncarnationRecord,
    /// Of this incarnation, in any state, by slot.
    pub machines: BTreeMap<Slot, Vec<&'a Machine>>,
    pub volumes: BTreeMap<Slot, Vec<&'a Volume>>,
}

/// What a set's decisions left behind.
#[derive(Default)]
pub struct Out {
    pub actions: Vec<Planned>,
    pub waiting: Vec<Waiting>,
    /// The first is the one that a person has to act on.
    pub stalled: Vec<Waiting>,
    /// Zones that this pass has chosen for slots whose records do not say so yet.
    pub placed: BTreeMap<Slot, Zone>,
    /// Requests that are over, by verb, with their answers.
    pub handled: Vec<(String, Handled)>,
    /// Machines that may still be launched in this pass; `None` for any number.
    pub room: Option<usize>,
    /// Slots whose record this pass replaces: a second write would be built on a record that is no more.
    pub written: BTreeSet<Slot>,
}

/// How surely a machine or volume that a record names is there.
pub enum Standing<'a, T> {
    Listed(&'a T),
    /// Seen as ended, or absent long and surely enough.
    Gone,
    /// Absent long enough; only the look-up by id is missing.
    AskById,
    Unknown,
}

impl Out {
    /// `slot` is whose step it is; `None` is the set's own.
    pub fn act(&mut self, slot: impl Into<Option<Slot>>, action: Action, why: impl Into<String>) {
        self.actions.push(Planned { slot: slot.into(), action, why: why.into() });
    }

    pub fn wait(&mut self, slot: impl Into<Option<Slot>>, reason: &str, message: impl Into<String>) {
        self.waiting.push(Waiting { slot: slot.into(), reason: reason.into(), message: message.into() });
    }

    /// Nothing but a person's act helps; the message begins with what to do.
    pub fn stall(&mut self, slot: impl Into<Option<Slot>>, reason: &str, message: impl Into<String>) {
        self.stalled.push(Waiting { slot: slot.into(), reason: reason.into(), message: message.into() });
    }
}

impl<'a> View<'a> {
    pub fn new(
        observed: &'a Observed,
        key: &'a ResourceKey,
        set: Option<&'a ResolvedSet>,
        records: &'a SetRecords,
        life: &'a IncarnationRecord,
    ) -> Self {
        let mut machines: BTreeMap<Slot, Vec<&Machine>> = BTreeMap::new();
        for machine in observed.fleet.machines.values() {
            if machine.key == *key && machine.incarnation == life.incarnation {
                machines.entry(machine.slot).or_default().push(machine);
            }
        }
        let mut volumes: BTreeMap<Slot, Vec<&Volume>> = BTreeMap::new();
        for volume in observed.fleet.volumes.values() {
            if volume.key == *key && volume.incarnation == life.incarnation {
                volumes.entry(volume.slot).or_default().push(volume);
            }
        }
        let requests = observed.intents.get(key).map(|intent| intent.requests.as_slice()).unwrap_or_default();
        Self { observed, key, set, requests, records, life, machines, volumes }
    }

    pub fn now(&self) -> Millis {
        self.observed.now
    }

    pub fn incarnation(&self) -> &'a Incarnation {
        &self.life.incarnation
    }

    pub fn identity(&self, slot: Slot) -> Identity {
        Identity {
            realm: self.observed.realm.clone(),
            key: self.key.clone(),
            incarnation: self.incarnation().clone(),
            slot,
        }
    }

    pub fn register(&self) -> Option<&'a Register> {
        self.records.register.as_ref()
    }

    pub fn record(&self, slot: Slot) -> Option<&'a SlotRecord> {
        self.records.slots.get(&slot)
    }

    /// The slots that are to be filled, members first.
    pub fn wanted_slots(&self) -> Vec<Slot> {
        let Some(set) = self.set else { return Vec::new() };
        let members = (0..self.life.members).map(Slot::Member);
        members.chain((0..set.read_replicas).map(Slot::Reader)).collect()
    }

    /// The wanted slots that are not just being ended: one that is wanted again ends first.
    pub fn serving_slots(&self) -> Vec<Slot> {
        let is_ending = |slot: &Slot| self.record(*slot).is_some_and(|record| record.retired);
        self.wanted_slots().into_iter().filter(|slot| !is_ending(slot)).collect()
    }

    pub fn member_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.life.members).map(Slot::Member)
    }

    /// The slots that a record, a machine or a volume of this incarnation names.
    pub fn known_slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.records.slots.keys().copied().collect();
        slots.extend(self.machines.keys().chain(self.volumes.keys()));
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    pub fn machine(&self, id: &InstanceId) -> Standing<'a, Machine> {
        let fleet = &self.observed.fleet;
        match fleet.machines.get(id) {
            Some(machine) if machine.phase == Phase::Terminated => Standing::Gone,
            Some(machine) => Standing::Listed(machine),
            None => absent(fleet.absent.get(id), self.now()),
        }
    }

    pub fn volume(&self, id: &VolumeId) -> Standing<'a, Volume> {
        let fleet = &self.observed.fleet;
        match fleet.volumes.get(id) {
            Some(volume) if volume.phase == VolumePhase::Deleted => Standing::Gone,
            Some(volume) => Standing::Listed(volume),
            None => absent(fleet.absent_volumes.get(id), self.now()),
        }
    }

    /// The machine that fills a slot now, by its record.
    pub fn filling(&self, slot: Slot) -> Option<&'a Machine> {
        let id = self.record(slot)?.instance.as_ref()?;
        match self.machine(id) {
            Standing::Listed(machine) => Some(machine),
            Standing::Gone | Standing::AskById | Standing::Unknown => None,
        }
    }

    /// What the agent in a slot says, while it answers.
    pub fn report(&self, slot: Slot) -> Option<&'a Report> {
        let machine = self.filling(slot)?;
        self.observed.agents.get(&machine.id)?.live()
    }

    pub fn running(&self, slot: Slot) -> Option<&'a Running> {
        match &self.report(slot)?.mysql.server {
            ServerReport::Running(running) => Some(running),
            ServerReport::Stopped | ServerReport::Starting | ServerReport::Died { .. } => None,
        }
    }

    /// Who votes in a slot, by its volume's own word.
    pub fn voting(&self, slot: Slot) -> Option<&'a Voting> {
        match &self.report(slot)?.volume {
            VolumeReport::Mounted(voting) => Some(voting),
            VolumeReport::Waiting | VolumeReport::Formatting | VolumeReport::Foreign { .. } => None,
        }
    }

    /// Where a slot stands or is bound to stand: its volume decides, else its machine, else what was asked for.
    pub fn zone_of(&self, slot: Slot) -> Option<Zone> {
        let record = self.record(slot)?;
        let by_volume =
            record.volume.as_ref().and_then(|id| self.observed.fleet.volumes.get(id)).map(|volume| volume.zone.clone());
        by_volume
            .or_else(|| record.volume_request.as_ref().map(|request| request.zone.clone()))
            .or_else(|| self.filling(slot).map(|machine| machine.zone.clone()))
            .or_else(|| record.launch.as_ref().map(|request| request.zone.clone()))
    }
}

/// A voter as its volume describes itself.
pub fn voter(slot: Slot, voting: &Voting) -> Voter {
    Voter {
        slot,
        voter_id: voting.voter_id.clone(),
        generation: voting.generation,
        life: voting.life,
        server_uuid: voting.server_uuid.clone(),
    }
}

/// Equal hash versions and unequal hashes: the launch inputs have changed (law 3).
pub fn differs(a: &SpecHash, b: &SpecHash) -> bool {
    let version = |hash: &SpecHash| hash.0.split_once('-').map(|(version, _)| version.to_owned());
    version(a) == version(b) && a != b
}

fn absent<'a, T>(absence: Option<&Absence>, now: Millis) -> Standing<'a, T> {
    match absence {
        Some(absence) if absence.lists >= ABSENT_LISTS && now.since(absence.since) > ABSENT_FOR => {
            if absence.not_found_by_id { Standing::Gone } else { Standing::AskById }
        }
        Some(_) | None => Standing::Unknown,
    }
}
