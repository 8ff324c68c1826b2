//! Everything a decision may depend on, frozen. Unknown is a value of its own everywhere (law 4): `None` in a field says
//! "there is none", never "not looked".

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use drover_api::{
    BuildId, ClientToken, Epoch, ImageId, Incarnation, InstanceId, Millis, Realm, ResourceKey, SecurityGroupId, Slot,
    SubnetId, VolumeId, Zone,
    clients::{Password, SecretRef},
    defaults::{ResolvedSet, Unresolved},
    records::{IncarnationRecord, Register, SlotRecord},
    requests::Request,
    secrets::SetSecret,
    tags::{Role, SpecHash},
    wire::Report,
};

/// The world as one pass sees it.
#[derive(Clone, Debug)]
pub struct Observed {
    pub now: Millis,
    pub realm: Realm,
    pub operator: Operator,
    /// Sets that a source declares.
    pub intents: BTreeMap<ResourceKey, Intent>,
    pub sources: Sources,
    /// `drover delete`, or a deletionTimestamp under policy Delete. The durable form is the incarnation's DELETING.
    pub deletions: BTreeSet<ResourceKey>,
    pub fleet: Fleet,
    /// Every set that an intent, a deletion, a tag or the bucket names.
    pub records: BTreeMap<ResourceKey, Seen<SetRecords>>,
    pub agents: BTreeMap<InstanceId, Agent>,
    /// What this process knows of requests that carry a client token.
    pub sends: BTreeMap<ClientToken, Send>,
    /// (instance type, zone) pairs that were refused for capacity less than three minutes ago.
    pub refused: BTreeSet<(String, Zone)>,
    /// Subnets that had no free address less than three minutes ago.
    pub full_subnets: BTreeSet<SubnetId>,
    /// Passwords that somebody chose, by where they are kept: those that declared users name.
    pub passwords: BTreeMap<SecretRef, Seen<Password>>,
    /// What the selectors of each intent resolve to.
    pub catalogs: BTreeMap<ResourceKey, Seen<Catalog>>,
}

/// What the running operator brings.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The agent build that machines of an architecture are to run.
    pub builds: BTreeMap<String, BuildId>,
    /// Constant per realm.
    pub user_data: String,
    /// Machines of the realm beyond which none is launched; `None` for as many as are wanted.
    pub machines_max: Option<u32>,
    /// A fresh incarnation for a set that has none, were one minted in this pass.
    pub minted: BTreeMap<ResourceKey, Incarnation>,
}

/// A value, or why it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    Known(T),
    /// Not looked yet, or the look failed. Nothing may be concluded from it.
    Unknown {
        why: String,
    },
}

/// Whether anybody was asked what is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// A set without an intent is declared by nobody.
    Read,
    /// A set without an intent may well be declared.
    NotAsked,
}

/// What is wanted of one set.
#[derive(Clone, Debug)]
pub struct Intent {
    pub set: Result<ResolvedSet, Unresolved>,
    /// Counts changes of the manifest.
    pub generation: i64,
    /// What people asked for that is not answered yet.
    pub requests: Vec<Request>,
}

/// The realm's machines and volumes by the last complete lists, overlaid with our own writes that no list shows yet.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// A complete machine list was made; when, and why later ones failed if they did.
    pub machines_listed: Option<Millis>,
    pub volumes_listed: Option<Millis>,
    pub failing: Option<String>,
    pub machines: BTreeMap<InstanceId, Machine>,
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Things that carry the realm's tag and are not understood.
    pub hands_off: Vec<HandsOff>,
    /// For ids that records name and no list shows.
    pub absent: BTreeMap<InstanceId, Absence>,
    pub absent_volumes: BTreeMap<VolumeId, Absence>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandsOff {
    pub id: String,
    pub reason: String,
}

/// How long and how surely something is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absence {
    /// Complete lists without it, in a row.
    pub lists: u32,
    pub since: Millis,
    /// Asked for by id after that, and NotFound.
    pub not_found_by_id: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub id: InstanceId,
    pub key: ResourceKey,
    pub incarnation: Incarnation,
    pub slot: Slot,
    pub attempt: u32,
    pub token: Option<ClientToken>,
    pub phase: Phase,
    /// Why it is in this phase, where EC2 says so.
    pub state_reason: Option<StateReason>,
    pub zone: Zone,
    pub address: Option<Ipv4Addr>,
    pub architecture: Option<String>,
    pub spec: Option<SpecHash>,
    pub role: Option<(Role, Epoch)>,
    /// `drover:hold` is set: hands off.
    pub held: bool,
    pub launched: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

/// EC2's own words, such as `Client.VolumeLimitExceeded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReason {
    pub code: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: VolumeId,
    pub key: ResourceKey,
    pub incarnation: Incarnation,
    pub slot: Slot,
    pub attempt: u32,
    pub zone: Zone,
    pub shape: VolumeShape,
    pub phase: VolumePhase,
    pub attached_to: Option<InstanceId>,
    /// The device name under which EC2 would delete it together with its instance; `None` while it stays.
    pub deleted_with: Option<String>,
}

/// What kind of volume it is, as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeShape {
    pub size_gib: u32,
    pub volume_type: String,
    /// `None` where the type has none of its own.
    pub iops: Option<u32>,
    pub throughput_mibps: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumePhase {
    Creating,
    Available,
    Attaching,
    Attached,
    Detaching,
    Deleting,
    Deleted,
    /// The hardware under it failed, or it could not be made: what was on it cannot be read (EBS documentation, "EBS volume
    /// state").
    Error,
}

/// What the bucket says of one set. A record that is `None` was looked for and is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetRecords {
    pub incarnation: Option<IncarnationRecord>,
    /// Of the incarnation that the record names.
    pub secret: Option<SetSecret>,
    pub register: Option<Register>,
    pub slots: BTreeMap<Slot, SlotRecord>,
    pub bundles: BTreeSet<Slot>,
    /// Epochs whose journal is written.
    pub journal: BTreeSet<Epoch>,
}

/// What an agent last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The last report, however old.
    pub report: Option<Report>,
    /// When it came.
    pub heard: Option<Millis>,
    /// Why the agent cannot be asked now; `None` while it answers.
    pub unreachable: Option<String>,
}

/// What this process did with a client token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The record that holds the request was written by this very process, so no other can have sent it before.
    pub minted_here: bool,
    /// How often it was sent from here.
    pub count: u32,
    /// At least one send ended without a definite answer.
    pub ambiguous: bool,
    /// The last failure; `None` when never sent, or when it succeeded.
    pub failure: Option<Failure>,
    /// Since when every answer was a failure of this kind.
    pub failing_since: Option<Millis>,
    /// Look-ups by token have found nothing since then, without a gap.
    pub looked_up_empty_since: Option<Millis>,
    pub last_lookup: Option<Millis>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub at: Millis,
    pub kind: FailureKind,
    /// `code: message` of the cloud, for people.
    pub message: String,
}

/// The cloud's error classes as far as a decision depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// Back off and send the same again: throttled, transient, wrong state.
    Retry,
    /// The instance profile is not there. A new one is seen after seconds to minutes, one that is misspelt never.
    NotVisibleYet,
    Capacity,
    Quota,
    TokenMismatch,
    TokenSpent,
    Denied,
    Invalid,
}

/// What selectors resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    pub image: Result<CatalogImage, String>,
    /// In the order of the zones' names, in each zone that with the most free addresses first; empty with a reason.
    pub subnets: Result<Vec<CatalogSubnet>, String>,
    pub security_groups: Result<Vec<SecurityGroupId>, String>,
    /// Instance types of the manifest that fit the image's architecture, in order of preference.
    pub instance_types: Result<Vec<String>, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogImage {
    pub id: ImageId,
    pub architecture: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatalogSubnet {
    pub zone: Zone,
    pub id: SubnetId,
}

impl fmt::Display for Phase {
    /// EC2's own word (EC2 API reference, "InstanceState").
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Pending => "pending",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::ShuttingDown => "shutting-down",
            Phase::Terminated => "terminated",
        })
    }
}

impl fmt::Display for VolumePhase {
    /// In words of ours: EC2 tells of a volume's state and of its attachment's apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VolumePhase::Creating => "being made",
            VolumePhase::Available => "available",
            VolumePhase::Attaching => "being attached",
            VolumePhase::Attached => "attached",
            VolumePhase::Detaching => "being detached",
            VolumePhase::Deleting => "being deleted",
            VolumePhase::Deleted => "deleted",
            VolumePhase::Error => "in error",
        })
    }
}

impl VolumePhase {
    /// It is there, whatever its state, and nobody has asked for its end.
    pub fn stays(self) -> bool {
        !matches!(self, VolumePhase::Deleting | VolumePhase::Deleted)
    }
}

impl<T> Seen<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known(value) => Some(value),
            Seen::Unknown { .. } => None,
        }
    }
}

impl Agent {
    /// The last report, while the agent answers.
    pub fn live(&self) -> Option<&Report> {
        if self.unreachable.is_some() { None } else { self.report.as_ref() }
    }
}
