//! What the operator and an agent say to each other, `/v1`. Unknown fields are tolerated on both sides, so that builds of
//! different ages understand each other.
//!
//! The agent serves, over mTLS with the leaf of its bundle: `GET /v1/report?after=<seq>&fence=<n>` answers at once when the
//! report's `seq` is greater than `after`, else as soon as it changes or after [`POLL_MAX`], and from then on refuses what comes
//! with a lower fence than `n`, also after a restart; `PUT /v1/orders` with [`Orders`]
//! answers [`OrdersReply`]; `PUT /v1/build` with [`BuildOrder`] has it fetch and become another build: it is answered at
//! once, and the report tells what came of it.

mod steady;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    BuildId, Claim, Epoch, GtidSet, Incarnation, Millis, Slot, VolumeId, VoterId,
    clients::{Clients, ClientsReport},
    problems::Problem,
    set::Durability,
};

/// Where agents listen for the operator.
pub const AGENT_PORT: u16 = 7070;
/// Where agents answer load balancers, without authentication: `/primary` and `/replica?lag=2s`. A lag is measured between the
/// clocks of two machines: one that is catching up counts as fresher by as much as the primary's clock is ahead of its own.
pub const HEALTH_PORT: u16 = 7071;
pub const MYSQL_PORT: u16 = 3306;
/// A long poll is answered within this time even when nothing changed.
pub const POLL_MAX: Duration = Duration::from_secs(20);
/// How long an order may be done that asks for something once; whoever still wants it by then sends it again.
pub const ASKED_FOR: Duration = Duration::from_secs(30);
/// The host name in an agent's leaf: `<slot>.<incarnation>.drover.internal`. It names a slot, not an address.
pub fn leaf_name(slot: Slot, incarnation: &Incarnation) -> String {
    format!("{slot}.{incarnation}.drover.internal")
}
/// The common name of the operator's client certificate.
pub const OPERATOR_NAME: &str = "operator.drover.internal";

/// A machine's whole wanted state. Agents keep the highest seen by (fence, epoch, seq) and refuse lower.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    pub incarnation: Incarnation,
    pub slot: Slot,
    /// The operator lock's fencing number.
    pub fence: u64,
    pub epoch: Epoch,
    pub claim: Claim,
    /// Grows with every order of one fence and epoch.
    pub seq: u64,
    /// SHA-256 over [`Orders::wanted`], hex: equal digests mean that nothing new is asked, whoever asks.
    pub digest: String,
    pub wanted: Wanted,
}

/// What is wanted, apart from who asks and when.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub epoch: Epoch,
    pub claim: Claim,
    pub volume: VolumeOrder,
    pub mysql: MysqlOrder,
    pub role: RoleOrder,
    /// The token of a restart: mysqld is to end in order and begin anew, once. Left out where none is asked for, so that orders
    /// without one are what they were before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOrder {
    pub id: VolumeId,
    /// Nothing of ours was ever on it: it may be formatted, unless something foreign is found there.
    pub new: bool,
    /// What the register or the slot's record says must be on it. A volume that answers differently is not opened.
    pub expected: Option<VoterId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MysqlOrder {
    /// `9.7` accepts any 9.7.x; mysqld of another version is not started.
    pub version: String,
    pub settings: BTreeMap<String, String>,
    pub durability: Durability,
}

/// What mysqld on this machine is to be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum RoleOrder {
    /// Mount and report; mysqld is not started. One that runs goes on, closed.
    Closed,
    /// Lead the epoch of the order.
    Leader(LeaderOrder),
    /// Follow a source.
    Replica(ReplicaOrder),
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderOrder {
    /// Make a new data directory where there is none. Only in epoch 1, before ACTIVE.
    pub initialise: bool,
    /// Acknowledgements per commit; 0 is semi-sync off, for a set of one.
    pub k: u8,
    /// The accounts that may replicate from here, exactly these: any other of ours is dropped and its connection killed.
    pub accounts: Vec<Account>,
    /// Open to clients, once the marker of this epoch is acknowledged and the register still names this node.
    pub open: bool,
    /// For `drover mysql`.
    pub admin: Credential,
    /// Lets others copy data from here; it is copied along, so every seeded node is a donor by the same account.
    pub clone: Credential,
    /// Write another marker when it differs from the last acknowledged one: proves the quorum after a change of voters.
    pub marker: u64,
    /// For applications, once it is open. Left out where there are none, so that orders without them are what they were
    /// before there were any.
    #[serde(default, skip_serializing_if = "Clients::is_empty")]
    pub clients: Clients,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaOrder {
    pub source: Source,
    /// Where to copy from when this machine has no data: a donor that is not the primary where there is one.
    pub donor: Option<Source>,
    /// The donor's clone account.
    pub clone: Credential,
    pub credential: Credential,
    /// A voter that acknowledges (semi-sync on), or a learner.
    pub acknowledges: bool,
    /// The life that may acknowledge: one that began since was not admitted, whatever it was ordered before.
    #[serde(default)]
    pub life: u64,
}

/// A replication account and what it is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub slot: Slot,
    pub credential: Credential,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    pub slot: Slot,
    pub address: Ipv4Addr,
}

/// A MySQL user and its password. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub user: String,
    pub password: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum OrdersReply {
    /// Durable on the data volume (or, before there is one, in memory), and being worked on.
    Accepted,
    /// The agent has seen a higher one.
    Stale { fence: u64, epoch: Epoch, seq: u64 },
    /// Not for this machine, or contradicting what it durably knows.
    Refused { reason: String },
}

/// Become another build: fetch `bin/<build>/drover`, check its hash, flip the link, re-execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOrder {
    pub fence: u64,
    pub build: BuildId,
}

/// What an agent knows, whole. `seq` grows with every change; it begins anew with the process (`started`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub seq: u64,
    /// When this agent process began, by the machine's clock.
    pub started: Millis,
    pub build: BuildId,
    pub incarnation: Incarnation,
    pub slot: Slot,
    pub boot_id: String,
    /// The machine's clock when the report was made, for a warning about skew.
    pub clock: Millis,
    /// The highest accepted order.
    pub accepted: Option<Accepted>,
    pub promised: Option<Promise>,
    pub volume: VolumeReport,
    pub mysql: MysqlReport,
    /// The build that was last ordered and is not the running one.
    #[serde(default)]
    pub ordered_build: Option<BuildReport>,
    /// What is in the way, most important first.
    pub problems: Vec<Problem>,
}

/// How far another build has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum BuildReport {
    Fetching {
        build: BuildId,
    },
    /// It could not be fetched, or does not start here; an order of it is tried again after a while.
    Failed {
        build: BuildId,
        why: String,
    },
    /// It ran here and did not find its way; it is never tried again.
    SentBack {
        build: BuildId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub fence: u64,
    pub epoch: Epoch,
    pub seq: u64,
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    pub epoch: Epoch,
    pub claim: Claim,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum VolumeReport {
    /// No order names one yet, or its device is not there yet.
    Waiting,
    Formatting,
    /// Holds something that is not ours, or not what was expected. It is not touched.
    Foreign {
        found: String,
    },
    Mounted(Voting),
}

/// Who votes here: what the data volume durably says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voting {
    pub voter_id: VoterId,
    pub generation: u64,
    pub life: u64,
    /// Minted with the voter id and written to auto.cnf, so that it is known before mysqld first starts.
    pub server_uuid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MysqlReport {
    pub data: DataReport,
    pub server: ServerReport,
    /// `mysqld --version`, such as `9.7.4`; `None` where there is no mysqld.
    pub installed: Option<String>,
    /// The token of the restart after which mysqld has begun, or is to begin.
    #[serde(default)]
    pub restarted: Option<String>,
    /// The token of a restart that was given up, for mysqld could not be closed: what waits then must not be told to end.
    #[serde(default)]
    pub restart_failed: Option<String>,
    /// What the accepted order asks for once may still be done: it is within its time, or under way.
    #[serde(default)]
    pub asked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum DataReport {
    /// Not looked yet: the volume is not mounted.
    Unknown,
    Absent,
    Initialising,
    Seeding {
        donor: Slot,
        started: Millis,
    },
    Present,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ServerReport {
    /// Not running and not wanted to, never having led since its last clean end.
    Stopped,
    Starting,
    Running(Running),
    /// Its mysqld ended while it led, or the machine went down under it: it stays closed until an order of a later epoch.
    /// `executed` is what its data is known to hold, where that could be read.
    Died {
        epoch: Epoch,
        how: String,
        executed: Option<GtidSet>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    pub started: Millis,
    pub version: String,
    pub server_uuid: String,
    pub executed: GtidSet,
    pub role: RunningRole,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "camelCase")]
pub enum RunningRole {
    /// super_read_only and offline_mode on; follows nobody.
    Closed,
    Leader {
        epoch: Epoch,
        phase: LeaderPhase,
        /// Slots whose receivers are connected and acknowledge, as mysqld sees them; may lag behind the truth for seconds.
        acknowledgers: Vec<Slot>,
        /// The ordered accounts are made: every other of ours was dropped before, its connections killed and seen gone.
        #[serde(default)]
        accounts_made: bool,
        /// The last marker that k voters acknowledged.
        marker: Option<u64>,
        /// When a heartbeat was last acknowledged.
        heartbeat: Option<Millis>,
        #[serde(default)]
        clients: ClientsReport,
    },
    Replica {
        source: Option<Slot>,
        receiving: ThreadReport,
        applying: ThreadReport,
        received: GtidSet,
        acknowledges: bool,
        /// Age of the newest applied heartbeat of the leader, in milliseconds; `None` before the first.
        lag_ms: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeaderPhase {
    /// Semi-sync is on with k; clients are kept out.
    Closed,
    /// The marker waits for its acknowledgements.
    Marking,
    Open,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ThreadReport {
    Stopped,
    Connecting { error: Option<String> },
    Running,
    Failed { error: String },
}

// === impl Wanted, Orders ===

impl Wanted {
    /// It asks for something that is done once: a restart, or that something is dropped. Such an order is good for
    /// [`ASKED_FOR`] after it was taken, so that nothing of it is done when nobody wants it any more and nobody can say so.
    pub fn asks(&self) -> bool {
        let drops = matches!(&self.role, RoleOrder::Leader(leader) if leader.clients.drops());
        self.restart.is_some() || drops
    }

    /// SHA-256 of the canonical JSON, hex: field order is the declaration's, maps are sorted.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).expect("orders have string keys only, so they always serialise");
        crate::digest::sha256_hex(&json)
    }
}

impl Orders {
    /// What decides which of two orders is newer.
    pub fn rank(&self) -> (u64, Epoch, u64) {
        (self.fence, self.epoch, self.seq)
    }
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Orders({} f{} {:?} s{} {:?})", self.slot, self.fence, self.epoch, self.seq, self.wanted)
    }
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.role {
            RoleOrder::Closed => write!(f, "closed"),
            RoleOrder::Leader(leader) => {
                let accounts: Vec<Slot> = leader.accounts.iter().map(|account| account.slot).collect();
                write!(f, "leader k={} open={} accounts={accounts:?}", leader.k, leader.open)
            }
            RoleOrder::Replica(replica) => {
                let kind = if replica.acknowledges { "voter" } else { "learner" };
                write!(f, "{kind} of {}, donor {:?}", replica.source.slot, replica.donor)
            }
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.slot, self.address)
    }
}

impl std::fmt::Debug for RoleOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RoleOrder::Closed => "Closed",
            RoleOrder::Leader(_) => "Leader",
            RoleOrder::Replica(_) => "Replica",
        })
    }
}

impl std::fmt::Debug for LeaderOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { k, open, accounts, clients, .. } = self;
        write!(f, "LeaderOrder(k={k} open={open} accounts={accounts:?} {clients:?})")
    }
}

impl std::fmt::Debug for ReplicaOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplicaOrder(of {:?}, donor {:?}, acknowledges={})", self.source, self.donor, self.acknowledges)
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({} {})", self.slot, self.credential.user)
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({}, password hidden)", self.user)
    }
}
