//! A model of mysqld: what a data directory durably holds, and a running server over it. Only what the protocol speaks of:
//! transactions in order, semi-sync, a channel with its relay log, accounts, read-only and offline.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use drover_agent::state::{Channel, Dump, Observation, SeenUser, Up, UserStep};
use drover_api::{
    Epoch, GtidSet, Millis,
    clients::{Mark, UserOrder},
    wire::{Account, Credential, Source, ThreadReport},
};

/// One transaction. Nobody leaves gaps here, so a server's GTIDs are counted by its uuid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub uuid: Arc<str>,
    pub n: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Schema,
    Marker(Epoch, u64),
    Heartbeat(Millis),
    Admin,
    Database(Arc<str>),
    /// It is dropped.
    NoDatabase(Arc<str>),
    User(Arc<UserChange>),
    /// A client's row, by its number in the whole simulation.
    Row(u64),
}

/// An account of an application, before and after; `None` where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserChange {
    pub name: String,
    pub before: Option<SeenUser>,
    pub after: Option<SeenUser>,
}

/// How far each server's transactions are there: 1 to n, by uuid.
pub type Position = BTreeMap<Arc<str>, u64>;

/// A data directory. It lies on a volume and survives everything but mkfs.
#[derive(Clone, Debug)]
pub struct Data {
    pub uuid: Arc<str>,
    /// Everything in the binary log, a tail that nobody acknowledged included.
    pub binlog: Vec<Transaction>,
    pub position: Position,
    pub rows: BTreeSet<u64>,
    pub accounts: BTreeMap<String, String>,
    pub databases: BTreeSet<Arc<str>>,
    /// Accounts of applications that carry our mark.
    pub users: BTreeMap<String, SeenUser>,
    pub heartbeat: Option<Millis>,
    pub channel: Option<Following>,
}

/// A channel and its relay log.
#[derive(Clone, Debug)]
pub struct Following {
    pub source: Ipv4Addr,
    pub credential: Credential,
    pub received: Position,
    pub relay: Vec<Transaction>,
}

/// A mysqld that runs.
#[derive(Clone, Debug)]
pub struct Mysqld {
    pub up: Up,
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline: bool,
    /// 0: semi-sync is off as a source.
    pub source_k: u8,
    pub replica_semi_sync: bool,
    pub receiving: bool,
    pub applying: bool,
    pub link: Option<Link>,
    pub refused: Option<String>,
    /// In the binary log, and waiting for acknowledgements, oldest first.
    pub waiting: Vec<Waiting>,
}

/// The connection of a receiver, as it began.
#[derive(Clone, Debug)]
pub struct Link {
    pub id: u64,
    /// The source's.
    pub start: String,
    /// Whether it acknowledges.
    pub semi_sync: bool,
}

/// A commit that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub n: u64,
    pub what: What,
    /// Users whose receivers acknowledged it.
    pub acknowledged: BTreeSet<String>,
}

// === impl Data ===

impl Data {
    /// What `mysqld --initialize` and our schema make.
    pub fn initialised(uuid: &str) -> Self {
        let mut data = Self {
            uuid: uuid.into(),
            binlog: Vec::new(),
            position: Position::new(),
            rows: BTreeSet::new(),
            accounts: BTreeMap::new(),
            databases: BTreeSet::new(),
            users: BTreeMap::new(),
            heartbeat: None,
            channel: None,
        };
        for _ in 0..4 {
            data.write(What::Schema);
        }
        data
    }

    /// What CLONE copies: everything, the donor's channel included, but not its relay log.
    pub fn cloned(&self, uuid: &str, waiting: usize) -> Self {
        let mut copy = self.clone();
        // A commit that waits for acknowledgements is not in the tables yet.
        let kept = copy.binlog.len() - waiting;
        for transaction in copy.binlog.split_off(kept).into_iter().rev() {
            copy.position.insert(transaction.uuid, transaction.n - 1);
            match transaction.what {
                What::Row(row) => drop(copy.rows.remove(&row)),
                What::User(change) => copy.set_user(&change.name, change.before.as_ref()),
                What::Database(name) => drop(copy.databases.remove(&name)),
                What::NoDatabase(name) => drop(copy.databases.insert(name)),
                What::Schema | What::Marker(..) | What::Heartbeat(_) | What::Admin => {}
            }
        }
        copy.uuid = uuid.into();
        if let Some(channel) = &mut copy.channel {
            channel.relay.clear();
            channel.received.clear();
        }
        copy
    }

    /// Writes a transaction of its own; answers its number.
    pub fn write(&mut self, what: What) -> u64 {
        let n = self.position.get(&self.uuid).copied().unwrap_or(0) + 1;
        self.apply(Transaction { uuid: Arc::clone(&self.uuid), n, what });
        n
    }

    pub fn apply(&mut self, transaction: Transaction) {
        let before = self.position.insert(Arc::clone(&transaction.uuid), transaction.n).unwrap_or(0);
        assert_eq!(transaction.n, before + 1, "a replica applied {transaction:?} with a gap");
        match &transaction.what {
            What::Heartbeat(at) => self.heartbeat = Some(*at),
            What::Row(row) => drop(self.rows.insert(*row)),
            What::Database(name) => drop(self.databases.insert(Arc::clone(name))),
            What::NoDatabase(name) => drop(self.databases.remove(name)),
            What::User(change) => self.set_user(&change.name, change.after.as_ref()),
            What::Schema | What::Marker(..) | What::Admin => {}
        }
        self.binlog.push(transaction);
    }

    fn set_user(&mut self, name: &str, user: Option<&SeenUser>) {
        match user {
            Some(user) => drop(self.users.insert(name.to_owned(), user.clone())),
            None => drop(self.users.remove(name)),
        }
    }

    /// A user as it is after a step of the agent's.
    pub fn stepped(&self, step: &UserStep, now: Millis) -> UserChange {
        let (UserStep::Make(UserOrder { name, .. })
        | UserStep::Rotate(UserOrder { name, .. })
        | UserStep::Grant(UserOrder { name, .. })
        | UserStep::Discard { name }
        | UserStep::Drop { name }) = step;
        let before = self.users.get(name).cloned();
        if matches!(step, UserStep::Drop { .. }) {
            return UserChange { name: name.clone(), before, after: None };
        }
        let mut after = before.clone().unwrap_or(SeenUser { mark: Mark::default(), takes_old: false });
        match step {
            UserStep::Make(order) | UserStep::Rotate(order) => {
                (after.mark.version, after.mark.changed) = (order.version.clone(), now);
                after.takes_old = before.is_some();
            }
            UserStep::Grant(order) => after.mark.grants = Some(order.grants.clone()),
            UserStep::Discard { .. } | UserStep::Drop { .. } => after.takes_old = false,
        }
        UserChange { name: name.clone(), before, after: Some(after) }
    }

    pub fn set_accounts(&mut self, accounts: &[Account], clone: &Credential) {
        let all = accounts.iter().map(|account| &account.credential).chain([clone]);
        self.accounts = all.map(|credential| (credential.user.clone(), credential.password.clone())).collect();
    }

    pub fn lets_in(&self, credential: &Credential) -> bool {
        self.accounts.get(&credential.user) == Some(&credential.password)
    }

    /// Applies the whole relay log.
    pub fn apply_relay(&mut self) {
        let Some(channel) = &mut self.channel else { return };
        for transaction in std::mem::take(&mut channel.relay) {
            self.apply(transaction);
        }
    }
}

// === impl Following ===

impl Following {
    pub fn to(source: &Source, credential: &Credential) -> Self {
        let (source, credential) = (source.address, credential.clone());
        Self { source, credential, received: Position::new(), relay: Vec::new() }
    }
}

// === impl Mysqld ===

impl Mysqld {
    /// As our configuration starts it: closed, following nobody.
    pub fn start(up: Up) -> Self {
        Self {
            up,
            read_only: true,
            super_read_only: true,
            offline: true,
            source_k: 0,
            replica_semi_sync: false,
            receiving: false,
            applying: false,
            link: None,
            refused: None,
            waiting: Vec::new(),
        }
    }

    pub fn is_open(&self) -> bool {
        !self.read_only && !self.offline
    }

    /// Commits; with semi-sync on it waits. Answers what ended at once.
    pub fn commit(&mut self, data: &mut Data, what: What) -> Option<What> {
        assert!(!self.super_read_only, "{what:?} is written to a read-only server");
        let n = data.write(what.clone());
        if self.source_k == 0 && self.waiting.is_empty() {
            return Some(what);
        }
        self.waiting.push(Waiting { n, what, acknowledged: BTreeSet::new() });
        None
    }

    /// A receiver acknowledges everything up to `n`. Answers the commits that end by it, oldest first.
    pub fn acknowledged(&mut self, user: &str, n: u64) -> Vec<What> {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.n <= n) {
            waiting.acknowledged.insert(user.to_owned());
        }
        let enough = |waiting: &&Waiting| waiting.acknowledged.len() >= usize::from(self.source_k);
        let ended = self.waiting.iter().take_while(enough).count();
        self.waiting.drain(..ended).map(|waiting| waiting.what).collect()
    }

    pub fn observe(&self, data: &Data, dumps: Vec<Dump>) -> Observation {
        Observation {
            start: self.up.start.clone(),
            version: "9.7.4".into(),
            server_uuid: data.uuid.to_string(),
            executed: self.executed(data),
            read_only: self.read_only,
            super_read_only: self.super_read_only,
            offline: self.offline,
            source_k: self.source_k,
            replica_semi_sync: self.replica_semi_sync,
            channel: data.channel.as_ref().map(|channel| self.observe_channel(channel)),
            dumps,
            heartbeat: data.heartbeat,
            users: data.users.clone(),
        }
    }

    fn observe_channel(&self, channel: &Following) -> Channel {
        let receiving = match (self.receiving, &self.link) {
            (false, _) => ThreadReport::Stopped,
            (true, Some(_)) => ThreadReport::Running,
            (true, None) => ThreadReport::Connecting { error: self.refused.clone() },
        };
        Channel {
            address: Some(channel.source),
            receiving,
            applying: if self.applying { ThreadReport::Running } else { ThreadReport::Stopped },
            received: gtids(&channel.received),
        }
    }

    /// gtid_executed: what waits is not in it.
    fn executed(&self, data: &Data) -> GtidSet {
        let mut position = data.position.clone();
        if let Some(first) = self.waiting.first() {
            position.insert(Arc::clone(&data.uuid), first.n - 1);
        }
        gtids(&position)
    }
}

fn gtids(position: &Position) -> GtidSet {
    let parts = position.iter().filter(|(_, n)| **n > 0).map(|(uuid, n)| format!("{uuid}:1-{n}"));
    parts.collect::<Vec<_>>().join(",").parse().expect("uuids and counts are a GTID set")
}
