//! What a plan asks for: each action is one effect, whole, idempotent, with nothing left to choose.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::{
    BuildId, Claim, ClientToken, Epoch, Incarnation, InstanceId, ResourceKey, Slot, VolumeId, WriteId,
    launch::{LaunchRequest, VolumeRequest},
    records::{IncarnationRecord, Register, SlotRecord},
    tags::Tags,
    wire::Wanted,
};

use crate::report::SetReport;

/// What one pass decided, for the whole realm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// By set, in the order in which they are to be done. One that fails ends those of its slot in this pass; one that is the
    /// set's own ends all that follow.
    pub actions: BTreeMap<ResourceKey, Vec<Planned>>,
    pub reports: BTreeMap<ResourceKey, SetReport>,
    /// Machines and volumes with our tags that no resource claims: reported, and left alone (law 2).
    pub unclaimed: Vec<String>,
    /// What the realm as a whole waits for or warns of.
    pub waiting: Vec<Waiting>,
    /// Deletions that were asked for and of which nothing is left: seen to have ended, or never begun.
    pub ended: BTreeSet<ResourceKey>,
}

/// An action and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Whose step it is: what comes later for the same slot counts on it. `None` is the set's own.
    pub slot: Option<Slot>,
    pub action: Action,
    pub why: String,
}

/// A record's body in a `Put...` has the write id of the record it replaces (any, where there is none): the writer puts a
/// fresh one in. `expected` is the write id that must be there; `None` means that no object may be there.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    PutIncarnation {
        record: IncarnationRecord,
        expected: Option<WriteId>,
    },
    /// The CA and the set's secret, made fresh; only where there is none.
    CreateCa {
        incarnation: Incarnation,
    },
    PutRegister {
        incarnation: Incarnation,
        register: Box<Register>,
        expected: Option<WriteId>,
    },
    /// Write-once copy of an ACTIVE register.
    PutJournal {
        incarnation: Incarnation,
        register: Box<Register>,
    },
    /// The slot's leaf certificate and key; only where there is none.
    CreateBundle {
        incarnation: Incarnation,
        slot: Slot,
    },
    PutSlot {
        incarnation: Incarnation,
        slot: Slot,
        record: Box<SlotRecord>,
        expected: Option<WriteId>,
    },
    /// RunInstances, with exactly what the slot's record holds.
    Launch {
        slot: Slot,
        request: Box<LaunchRequest>,
    },
    /// DescribeInstances by client token, after an ambiguous launch.
    FindByToken {
        token: ClientToken,
    },
    /// DescribeInstances by id, for a machine that lists no longer show.
    LookUpMachine {
        instance: InstanceId,
    },
    LookUpVolume {
        volume: VolumeId,
    },
    /// CreateVolume, with exactly what the slot's record holds.
    CreateVolume {
        slot: Slot,
        request: Box<VolumeRequest>,
    },
    Attach {
        volume: VolumeId,
        instance: InstanceId,
    },
    /// Clears DeleteOnTermination: the volume outlives its machine.
    KeepVolume {
        volume: VolumeId,
        instance: InstanceId,
        device: String,
    },
    Unprotect {
        instance: InstanceId,
    },
    Terminate {
        instance: InstanceId,
    },
    DeleteVolume {
        volume: VolumeId,
    },
    Tag {
        instance: InstanceId,
        tags: Tags,
    },
    Order {
        slot: Slot,
        instance: InstanceId,
        epoch: Epoch,
        claim: Claim,
        wanted: Box<Wanted>,
    },
    /// Marks a machine as a person's (`drover:hold`).
    Hold {
        instance: InstanceId,
    },
    /// Takes that mark away.
    Release {
        instance: InstanceId,
    },
    /// Become this build, in place.
    Upgrade {
        slot: Slot,
        instance: InstanceId,
        build: BuildId,
    },
}

/// What is awaited, and why: data, not an error (law 11).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    pub slot: Option<Slot>,
    /// CamelCase, stable.
    pub reason: String,
    pub message: String,
}

impl Plan {
    /// Nothing is to be done.
    pub fn is_quiet(&self) -> bool {
        self.actions.values().all(Vec::is_empty)
    }

    /// Counts by the action's name, for logs and tests.
    pub fn count_by_kind(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for planned in self.actions.values().flatten() {
            *counts.entry(planned.action.kind()).or_default() += 1;
        }
        counts
    }
}

impl Action {
    pub fn kind(&self) -> &'static str {
        match self {
            Action::PutIncarnation { .. } => "PutIncarnation",
            Action::CreateCa { .. } => "CreateCa",
            Action::PutRegister { .. } => "PutRegister",
            Action::PutJournal { .. } => "PutJournal",
            Action::CreateBundle { .. } => "CreateBundle",
            Action::PutSlot { .. } => "PutSlot",
            Action::Launch { .. } => "Launch",
            Action::FindByToken { .. } => "FindByToken",
            Action::LookUpMachine { .. } => "LookUpMachine",
            Action::LookUpVolume { .. } => "LookUpVolume",
            Action::CreateVolume { .. } => "CreateVolume",
            Action::Attach { .. } => "Attach",
            Action::KeepVolume { .. } => "KeepVolume",
            Action::Unprotect { .. } => "Unprotect",
            Action::Terminate { .. } => "Terminate",
            Action::DeleteVolume { .. } => "DeleteVolume",
            Action::Tag { .. } => "Tag",
            Action::Order { .. } => "Order",
            Action::Hold { .. } => "Hold",
            Action::Release { .. } => "Release",
            Action::Upgrade { .. } => "Upgrade",
        }
    }

    /// A step that got on in the world: neither a look nor our own bookkeeping in the bucket.
    pub fn is_effect(&self) -> bool {
        match self {
            Action::PutIncarnation { .. }
            | Action::CreateCa { .. }
            | Action::PutRegister { .. }
            | Action::PutJournal { .. }
            | Action::CreateBundle { .. }
            | Action::PutSlot { .. } => false,
            Action::Launch { .. }
            | Action::CreateVolume { .. }
            | Action::Attach { .. }
            | Action::KeepVolume { .. }
            | Action::Unprotect { .. }
            | Action::Terminate { .. }
            | Action::DeleteVolume { .. }
            | Action::Tag { .. }
            | Action::Order { .. }
            | Action::Hold { .. }
            | Action::Release { .. }
            | Action::Upgrade { .. } => true,
            Action::FindByToken { .. } | Action::LookUpMachine { .. } | Action::LookUpVolume { .. } => false,
        }
    }

    /// Looks only: changes nothing anywhere.
    pub fn is_look_up(&self) -> bool {
        matches!(self, Action::FindByToken { .. } | Action::LookUpMachine { .. } | Action::LookUpVolume { .. })
    }
}
