//! What goes into the agent's mind and what comes out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    num::NonZeroU64,
};

use drover_api::{
    BuildId, Epoch, GtidSet, Incarnation, Millis, Slot, VolumeId, VoterId,
    clients::{DatabaseOrder, Mark, UserOrder},
    problems::{Problem, Reason},
    records::Register,
    wire::{Account, Credential, MysqlOrder, Orders, OrdersReply, Source, ThreadReport},
};

use crate::durable::Durable;

/// Who this machine is, for the life of the process.
#[derive(Clone, Debug)]
pub struct Me {
    pub incarnation: Incarnation,
    pub slot: Slot,
    pub build: BuildId,
    pub started: Millis,
    pub boot_id: String,
    /// What `mysqld --version` says; `None` where there is no mysqld.
    pub installed: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// About once a second.
    Tick,
    /// `to` comes back with the reply.
    Orders {
        to: u64,
        orders: Box<Orders>,
    },
    /// An operator that holds the lock under this fencing number was heard: lower ones are obeyed no more. `to` as above.
    Fence {
        to: u64,
        fence: u64,
    },
    Done(Outcome),
    Failed(Failure),
    Observed {
        ticket: u64,
        result: Result<Box<Observation>, String>,
    },
    /// The mysqld of this start ended.
    Ended {
        start: String,
        how: String,
    },
    MarkerAcknowledged {
        start: String,
        epoch: Epoch,
        n: u64,
    },
    MarkerFailed {
        start: String,
        message: String,
    },
    HeartbeatAcknowledged {
        start: String,
        at: Millis,
    },
    /// SIGTERM: the unit is stopped or restarted, and mysqld goes on.
    Stop,
    /// SIGTERM, and the whole host is going down.
    HostShutdown,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Before everything that follows it.
    Persist(Box<Durable>),
    Reply {
        to: u64,
        reply: OrdersReply,
    },
    /// Ends with exactly one [`Event::Done`] or [`Event::Failed`]; there is never a second beside it.
    Do(Task),
    /// Ends with [`Event::Observed`].
    Observe {
        ticket: u64,
    },
    /// Commit a marker. It waits as long as its acknowledgements need: a commit that waits cannot be taken back.
    Marker {
        epoch: Epoch,
        n: u64,
    },
    /// Write a heartbeat, from a connection that is not itself waiting.
    Heartbeat {
        epoch: Epoch,
    },
    /// The same from a connection of its own, however many wait: somebody who acknowledges has connected, and may have everything
    /// that waits without having acknowledged it. It acknowledges what it is sent.
    Nudge {
        epoch: Epoch,
    },
    Exit,
}

/// One change of the machine. Each may be begun again after it was cut short anywhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// What an earlier agent left: a mounted volume, a running mysqld, the volume's name.
    LookAround,
    LookAtVolume(VolumeId),
    Format(VolumeId),
    Mount(VolumeId),
    Unmount,
    /// A new data directory, made beside and renamed when whole. With the account for people: made later it would have to be
    /// acknowledged, and a statement about accounts that waits lets no connection in, those of acknowledgers included (measured).
    Initialise {
        mysql: MysqlOrder,
        server_uuid: String,
        admin: Credential,
    },
    /// A copy of the donor's data, made beside and renamed when whole.
    Seed {
        mysql: MysqlOrder,
        donor: Source,
        credential: Credential,
        server_uuid: String,
    },
    /// Start mysqld: read-only, offline, following nobody.
    Start(MysqlOrder),
    /// offline_mode, then super_read_only under a bound.
    Close,
    /// super_read_only, on a server that is not to be written.
    Seal,
    /// The accounts of ours, exactly these, unlogged; `sealed` keeps everyone but root from writing meanwhile.
    Accounts {
        accounts: Vec<Account>,
        clone: Credential,
        sealed: bool,
    },
    /// Semi-sync as a source with k, or off with 0; only ever on a closed server.
    SemiSync {
        k: u8,
    },
    ReadRegister,
    /// Writable for whoever is let in: nobody but us, under offline_mode.
    Unseal,
    /// offline_mode off on a leader.
    Admit,
    /// offline_mode off on a replica, which stays super_read_only.
    Expose,
    /// The account for people, logged; only where it changes.
    Admin(Credential),
    /// Make those that are not there, logged.
    Databases(Vec<DatabaseOrder>),
    /// Gone with all that is in it, logged; one that an agent of ours made.
    DropDatabase(String),
    /// One step about one user of an application, logged. Only while acknowledgements come: one that waits lets no connection in.
    User(UserStep),
    /// Forget the channel that a copied data directory brought along.
    Discard,
    /// The applier alone: what was received is applied, and nobody is connected to.
    Apply,
    /// Point the channel at a source. `fresh`: there is none yet. Else the applier is seen to run, and the channel is pointed
    /// elsewhere only when everything received has been executed, so that its relay log holds nothing that could be lost.
    Follow {
        source: Source,
        credential: Credential,
        fresh: bool,
    },
    /// Semi-sync as a replica, and the receiver anew so that it takes effect.
    Acknowledge(bool),
    /// Applier first, then receiver.
    Resume,
    /// SIGTERM to mysqld, after a close that returned.
    Terminate,
    /// Flush the whole volume.
    Flush,
}

/// What is done about a user, a statement or a few at a time: after each it is looked anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserStep {
    /// An account with our mark and without rights; only where nobody has that name.
    Make(UserOrder),
    /// The present password becomes the old one, which is still taken.
    Rotate(UserOrder),
    /// The ordered rights, then away with all others, then the mark.
    Grant(UserOrder),
    /// The old password is not taken any more.
    Discard { name: String },
    /// The account and its connections; one of ours.
    Drop { name: String },
}

/// How a task ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing to say: what it was for will be observed.
    Plain,
    Around {
        server: Option<Up>,
        mounted: Option<Box<Mounted>>,
        hint: Option<VolumeId>,
    },
    Volume(VolumeContent),
    Mounted(Box<Mounted>),
    Started(Up),
    /// Whether super_read_only returned: the variable itself proves nothing.
    Closed {
        returned: bool,
    },
    Register(Option<Box<Register>>),
    /// Those that an agent of ours made and that are there, and which could not be made, and why.
    Databases {
        made: BTreeSet<String>,
        failed: BTreeMap<String, String>,
    },
    /// A step about a user that did not succeed; nobody else waits for it.
    User(Problem),
    /// The same of a database.
    Kept(Problem),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub message: String,
}

/// A mysqld that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    pub start: String,
    pub pid: u32,
    pub since: Millis,
}

/// What is on a device, before anything is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeContent {
    NoDevice,
    /// No signature, nothing at its edges.
    Blank,
    /// A mkfs of ours for this very volume that did not finish: never mounted, so nothing is on it.
    HalfMade,
    /// A file system that this volume was formatted with by an agent of ours.
    Ours,
    Foreign {
        found: String,
    },
}

/// What a mounted volume of ours holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Mounted {
    pub volume: VolumeId,
    pub record: Recorded,
    /// There is a whole data directory.
    pub data: bool,
    /// The boot in which this machine last used the volume, by what the machine itself remembers; `None` where it never did.
    pub left: Option<String>,
    /// It was mounted just now, and not found mounted.
    pub anew: bool,
    pub minted: Minted,
}

/// Drawn at random for a volume that is mounted, in case it is new, or its life has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    pub voter_id: VoterId,
    pub server_uuid: String,
    pub life_step: NonZeroU64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// Nothing but what mkfs made.
    Empty,
    Record(Box<Durable>),
    /// Files, but no record, or one that this build cannot read.
    Unreadable {
        found: String,
    },
}

/// mysqld, by queries that answer also while commits wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub start: String,
    pub version: String,
    pub server_uuid: String,
    pub executed: GtidSet,
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline: bool,
    /// k, where semi-sync is on as a source in the way that loses nothing; 0 where it is off; the greatest where it is on in
    /// another way.
    pub source_k: u8,
    pub replica_semi_sync: bool,
    pub channel: Option<Channel>,
    /// Who is connected to our binary log.
    pub dumps: Vec<Dump>,
    /// The newest heartbeat in the tables.
    pub heartbeat: Option<Millis>,
    /// Accounts with our mark, by user name.
    pub users: BTreeMap<String, SeenUser>,
}

/// An account that an agent of ours made for an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenUser {
    pub mark: Mark,
    /// The password before its present one is still taken.
    pub takes_old: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub address: Option<Ipv4Addr>,
    pub receiving: ThreadReport,
    pub applying: ThreadReport,
    pub received: GtidSet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// mysqld's number of the connection.
    pub id: u64,
    pub user: String,
    pub semi_sync: bool,
}

impl Task {
    /// Makes a file system or data: long, with nothing running meanwhile, and redone when cut short.
    pub fn is_making(&self) -> bool {
        matches!(self, Task::Format(_) | Task::Initialise { .. } | Task::Seed { .. })
    }

    /// Given up, it cannot undo a close that follows: no statement of it that opens anything may still wait in mysqld.
    pub fn leaves_a_close_be(&self) -> bool {
        !matches!(self, Task::Unseal | Task::Admit | Task::Expose | Task::Accounts { .. } | Task::Flush)
    }
}
