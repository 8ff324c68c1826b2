//! What the bucket's objects say. Each is changed only by compare-and-set and carries a fresh write id, so that a writer that
//! lost the reply can tell its own write from another's (law 7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    BuildId, Claim, Epoch, GtidSet, Incarnation, InstanceId, Millis, Slot, VolumeId, VoterId, WriteId,
    launch::{LaunchRequest, VolumeRequest},
    tags::SpecHash,
    wire::MysqlOrder,
};

/// Which operator process may act: a lease and a fencing number. `lock.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub write_id: WriteId,
    /// For people: host, process id and start of the holder.
    pub holder: String,
    /// Minted by the holding process at its start: a process knows its own lock by it.
    pub process: WriteId,
    /// Grows by one with every new holder; agents refuse orders of a lower one.
    pub fence: u64,
    /// How long a challenger must see this object unchanged before it may take it.
    pub lease_seconds: u32,
    /// The holder gave it up; a challenger need not wait.
    pub released: bool,
}

/// The life of a set. `incarnation.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncarnationRecord {
    pub write_id: WriteId,
    pub incarnation: Incarnation,
    pub state: IncarnationState,
    /// Immutable as long as changing voters is not possible.
    pub members: u8,
    /// Immutable as long as an update of MySQL is not possible.
    pub version: String,
    pub created: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IncarnationState {
    Live,
    /// Every slot is being settled and ended. There is no way back.
    Deleting,
    Dead,
}

/// The write-ahead record of one slot, `slots/<slot>.json`: no launch is sent that it does not hold, and what it holds is
/// sent again byte for byte (law 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    pub write_id: WriteId,
    /// Of the machine: grows when a launch was refused for good, or its machine is gone.
    pub attempt: u32,
    /// What is or was asked for in this attempt. It stays when the machine is known: a lost record is compared with it.
    pub launch: Option<LaunchRequest>,
    /// The machine of this attempt, once known.
    pub instance: Option<InstanceId>,
    /// Of the data volume, by itself: a member's volume outlives its machines.
    pub volume_attempt: u32,
    pub volume_request: Option<VolumeRequest>,
    pub volume: Option<VolumeId>,
    /// The agent reported a voter id on this volume: from now on it is never formatted again.
    pub formatted: Option<VoterId>,
    /// The launch inputs of this attempt, and what mysqld is configured with: a later change reaches later attempts only.
    pub spec: SpecHash,
    pub mysql: MysqlOrder,
    /// A voter that came back with another life or volume, and what the leader had then: it counts again once it has that.
    pub catch_up: Option<CatchUp>,
    /// The slot is to end (scaled in, or deleted) and nothing may be launched into it again under this record.
    pub retired: bool,
    /// What the pace of further launches follows from.
    #[serde(default)]
    pub early_ends: Option<EarlyEnds>,
}

/// Machines of a slot that ended soon after their launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyEnds {
    /// In a row.
    pub count: u32,
    /// When the last was seen to have ended.
    pub seen: Millis,
    /// Why the last ended, in EC2's words.
    pub reason: String,
}

/// What a returning voter must reach before it may acknowledge again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    pub voter: Voter,
    pub target: GtidSet,
}

/// Who leads. `register.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    pub write_id: WriteId,
    /// Grows with every write: an order names the one it was made from.
    pub version: u64,
    pub epoch: Epoch,
    pub state: RegisterState,
    pub claim: Claim,
    /// While FENCING at bootstrap: who is to lead first.
    pub leader: Slot,
    pub voters: Vec<Voter>,
    /// The voters that will be, while the set of voters changes: every quorum must hold in both.
    pub joining: Option<Vec<Voter>>,
    /// When `joining` was written, or the last time that waiting for it was begun anew.
    #[serde(default)]
    pub joint_since: Option<Millis>,
    /// Who joins is being shut out again, and `voters` alone will be left. Until then both sets still count.
    #[serde(default)]
    pub withdrawing: bool,
    /// Acknowledgements per commit.
    pub k: u8,
    /// gtid_executed of the leader when it was activated; only in ACTIVE.
    pub base: Option<GtidSet>,
    /// Set before the order to open is given: while false, nobody was ever let in.
    pub opened: bool,
    /// The last marker that was acknowledged by k voters of this configuration, or the one to open with; while the voters
    /// change, the last that may have been asked for before the present step.
    pub marker: u64,
    /// What the last ACTIVE epoch was, while FENCING.
    pub last_active: Option<LastActive>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RegisterState {
    Fencing,
    Active,
}

/// A voter as the register knows it: only an answer with all of these equal counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    pub slot: Slot,
    pub voter_id: VoterId,
    /// Raised by a wipe or restore of the data itself.
    pub generation: u64,
    /// Raised by every event after which received transactions may be missing.
    pub life: u64,
    pub server_uuid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastActive {
    pub epoch: Epoch,
    pub leader: Slot,
    pub voters: Vec<Voter>,
    pub k: u8,
    pub base: GtidSet,
}

/// The set's certificate authority and the secret that passwords are derived from. `ca.json`; the operator only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRecord {
    pub write_id: WriteId,
    pub certificate_pem: String,
    pub key_pem: String,
    /// 32 bytes, hex.
    pub secret: String,
}

/// What a machine fetches with its role before it can talk to anyone. `slots/<slot>/bundle.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub write_id: WriteId,
    pub ca_pem: String,
    /// The leaf names the slot, not an address.
    pub certificate_pem: String,
    pub key_pem: String,
}

/// `bin/current`: which build new machines take, by architecture as EC2 names it (`x86_64`, `arm64`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentBuilds {
    pub builds: BTreeMap<String, BuildId>,
}

impl std::fmt::Debug for CaRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaRecord({}, key and secret hidden)", self.write_id)
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle({}, key hidden)", self.write_id)
    }
}
