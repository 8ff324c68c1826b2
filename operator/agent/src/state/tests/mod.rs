//! Tables: a world, what happens, and what the agent does.

mod clients;
mod disks;
mod ends;
mod leading;
mod ordered;
mod replicas;
mod told;

use drover_api::{
    BuildId, Claim, Epoch, GtidSet, Incarnation, Slot, VolumeId, VoterId,
    clients::{Clients, Mark},
    records::{RegisterState, Voter},
    set::Durability,
    wire::*,
};

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
};

use super::*;
use crate::durable::Died;

pub(super) const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
pub(super) const VOTER: &str = "voter-00000001";

pub(crate) fn me() -> Me {
    Me {
        incarnation: Incarnation::new("k3j9x2m4").expect("valid"),
        slot: Slot::Member(0),
        build: BuildId::new("a".repeat(64)).expect("valid"),
        started: Millis(1),
        boot_id: "boot-1".into(),
        installed: Some("9.7.4".into()),
    }
}

pub(super) fn volume() -> VolumeId {
    VolumeId::new("vol-0a1").expect("valid")
}

fn voter() -> VoterId {
    VoterId::new(VOTER).expect("valid")
}

fn credential(user: &str) -> Credential {
    Credential { user: user.into(), password: format!("{user}-secret") }
}

pub(super) fn leader(k: u8, open: bool) -> LeaderOrder {
    let account = Account { slot: Slot::Member(1), credential: credential("drover_voter_m1") };
    LeaderOrder {
        initialise: true,
        k,
        accounts: vec![account],
        open,
        admin: credential("drover_admin"),
        clone: credential("drover_clone"),
        marker: 1,
        clients: Clients::default(),
    }
}

pub(super) fn source(slot: u8) -> Source {
    Source { slot: Slot::Member(slot), address: [10, 0, 0, slot].into() }
}

pub(super) fn replica() -> ReplicaOrder {
    ReplicaOrder {
        source: source(1),
        donor: Some(source(2)),
        clone: credential("drover_clone"),
        credential: credential("drover_voter_m0"),
        acknowledges: true,
        life: 1,
    }
}

pub(super) fn claim(text: &str) -> Claim {
    Claim::new(text).expect("valid")
}

pub(super) fn orders(epoch: u64, seq: u64, role: RoleOrder) -> Orders {
    let mysql = MysqlOrder { version: "9.7".into(), settings: Default::default(), durability: Durability::Standard };
    let volume = VolumeOrder { id: volume(), new: true, expected: None };
    let wanted = Wanted { epoch: Epoch(epoch), claim: claim("c"), volume, mysql, role, restart: None };
    let digest = wanted.digest();
    let incarnation = me().incarnation;
    Orders { incarnation, slot: me().slot, fence: 1, epoch: Epoch(epoch), claim: claim("c"), seq, digest, wanted }
}

pub(super) fn register(epoch: u64, leader: Slot) -> Register {
    let me = Voter { slot: me().slot, voter_id: voter(), generation: 1, life: 1, server_uuid: UUID.into() };
    Register {
        write_id: drover_api::WriteId::new("write-0001").expect("valid"),
        version: 1,
        epoch: Epoch(epoch),
        state: RegisterState::Active,
        claim: claim("c"),
        leader,
        voters: vec![me],
        joining: None,
        joint_since: None,
        withdrawing: false,
        k: 1,
        base: None,
        opened: false,
        marker: 1,
        last_active: None,
    }
}

/// A machine in miniature: it performs each effect at once, in order, and counts what was persisted.
struct World {
    state: State,
    now: Millis,
    content: VolumeContent,
    recorded: Recorded,
    data: bool,
    /// What the machine itself remembers of its volume.
    left: Option<String>,
    life_step: u64,
    seen: Observation,
    up: Option<Up>,
    register: Option<Register>,
    /// Commits wait while false.
    acknowledged: bool,
    close_returns: bool,
    /// So many closes do not get through to mysqld.
    failing_closes: u32,
    /// mysqld ends as soon as it is told to.
    ends_at_once: bool,
    done: Vec<String>,
    persisted: Option<Durable>,
    replies: Vec<OrdersReply>,
    exited: bool,
    starts: u32,
    databases: BTreeSet<String>,
    failing_databases: BTreeMap<String, String>,
    failing_users: BTreeMap<String, Problem>,
}

pub(super) fn minted(life_step: u64) -> Minted {
    let life_step = NonZeroU64::new(life_step).expect("not zero");
    Minted { voter_id: voter(), server_uuid: UUID.into(), life_step }
}

pub(super) fn closed(start: &str) -> Observation {
    Observation {
        start: start.into(),
        version: "9.7.4".into(),
        server_uuid: UUID.into(),
        executed: GtidSet::default(),
        read_only: true,
        super_read_only: true,
        offline: true,
        source_k: 0,
        replica_semi_sync: false,
        channel: None,
        dumps: vec![],
        heartbeat: None,
        users: BTreeMap::new(),
    }
}

impl World {
    fn new() -> Self {
        Self {
            state: State::new(me()),
            now: Millis(1_000_000),
            content: VolumeContent::Blank,
            recorded: Recorded::Empty,
            data: false,
            left: None,
            life_step: 1,
            seen: closed(""),
            up: None,
            register: Some(register(1, me().slot)),
            acknowledged: true,
            close_returns: true,
            failing_closes: 0,
            ends_at_once: true,
            done: vec![],
            persisted: None,
            replies: vec![],
            exited: false,
            starts: 0,
            databases: BTreeSet::new(),
            failing_databases: BTreeMap::new(),
            failing_users: BTreeMap::new(),
        }
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        let mut events = std::collections::VecDeque::from([event]);
        for _ in 0..200 {
            let Some(event) = events.pop_front() else { return self };
            for effect in self.state.step(self.now, event) {
                events.extend(self.perform(effect));
            }
        }
        panic!("the agent never rests: {:?}", self.done);
    }

    fn order(&mut self, orders: Orders) -> &mut Self {
        if self.state.report().is_err() {
            self.tell(Event::Tick);
        }
        self.tell(Event::Orders { to: 0, orders: Box::new(orders) })
    }

    /// Ticks until what was asked for later has been done too.
    fn wait(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            self.tell(Event::Tick);
        }
        self
    }

    /// The agent is killed and starts again; `boot` is the host's boot it finds itself in.
    fn restart_agent(&mut self, boot: &str) -> &mut Self {
        self.state = State::new(Me { boot_id: boot.into(), ..me() });
        self.exited = false;
        self.tell(Event::Tick)
    }

    fn perform(&mut self, effect: Effect) -> Vec<Event> {
        match effect {
            Effect::Persist(record) => {
                self.left = Some(record.boot_id.clone());
                self.persisted = Some(*record);
            }
            Effect::Reply { reply, .. } => self.replies.push(reply),
            Effect::Do(task) => return self.carry_out(task),
            Effect::Observe { ticket } => {
                if let Some(up) = &self.up {
                    let mut seen = self.seen.clone();
                    seen.start.clone_from(&up.start);
                    return vec![Event::Observed { ticket, result: Ok(Box::new(seen)) }];
                }
            }
            Effect::Marker { epoch, n } => {
                self.done.push(format!("Marker {n}"));
                if let (true, Some(up)) = (self.acknowledged, &self.up) {
                    return vec![Event::MarkerAcknowledged { start: up.start.clone(), epoch, n }];
                }
            }
            Effect::Nudge { .. } => self.done.push("Nudge".into()),
            Effect::Heartbeat { .. } => {
                if let (true, Some(up)) = (self.acknowledged, &self.up) {
                    return vec![Event::HeartbeatAcknowledged { start: up.start.clone(), at: self.now }];
                }
            }
            Effect::Exit => self.exited = true,
        }
        vec![]
    }

    fn carry_out(&mut self, task: Task) -> Vec<Event> {
        let name = format!("{task:?}");
        let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        self.done.push(match &task {
            Task::User(step) => format!("{} {}", word(step), step.name()),
            _ => name,
        });
        let mounted = |world: &World, anew| Mounted {
            volume: volume(),
            record: world.persisted.clone().map_or(world.recorded.clone(), |record| Recorded::Record(Box::new(record))),
            data: world.data,
            left: world.left.clone(),
            anew,
            minted: minted(world.life_step),
        };
        let outcome = match task {
            Task::LookAround => Outcome::Around {
                server: self.up.clone(),
                mounted: self.persisted.is_some().then(|| Box::new(mounted(self, false))),
                hint: None,
            },
            Task::LookAtVolume(_) => Outcome::Volume(self.content.clone()),
            Task::Mount(_) => Outcome::Mounted(Box::new(mounted(self, true))),
            Task::Initialise { .. } | Task::Seed { .. } => {
                self.data = true;
                Outcome::Plain
            }
            Task::Start(_) => {
                self.starts += 1;
                let up = Up { start: format!("start-{}", self.starts), pid: 100 + self.starts, since: self.now };
                let channel = self.seen.channel.take().map(|channel| Channel {
                    receiving: ThreadReport::Stopped,
                    applying: ThreadReport::Stopped,
                    ..channel
                });
                let users = std::mem::take(&mut self.seen.users);
                self.seen = Observation { channel, users, ..closed(&up.start) };
                self.up = Some(up.clone());
                Outcome::Started(up)
            }
            Task::Close if self.failing_closes > 0 => {
                self.failing_closes -= 1;
                return vec![Event::Failed(no_answer())];
            }
            Task::Close => {
                self.seen.offline = true;
                (self.seen.super_read_only, self.seen.read_only) = (self.close_returns, self.close_returns);
                Outcome::Closed { returned: self.close_returns }
            }
            Task::Databases(ordered) => {
                let mut failed = self.failing_databases.clone();
                failed.retain(|name, _| ordered.iter().any(|order| order.name == *name));
                let made = ordered.into_iter().map(|order| order.name).filter(|name| !failed.contains_key(name));
                self.databases.extend(made);
                Outcome::Databases { made: self.databases.clone(), failed }
            }
            Task::DropDatabase(name) => match self.failing_databases.get(&name) {
                Some(message) => Outcome::Kept(Problem { reason: Reason::DatabaseFailed, message: message.clone() }),
                None => {
                    assert!(self.databases.remove(&name), "{name} is not there");
                    Outcome::Plain
                }
            },
            Task::User(step) => self.step_user(&step),
            Task::ReadRegister => Outcome::Register(self.register.clone().map(Box::new)),
            Task::Terminate if !self.ends_at_once => Outcome::Plain,
            Task::Terminate => {
                let start = self.up.take().expect("something runs").start;
                return vec![Event::Done(Outcome::Plain), Event::Ended { start, how: "exited".into() }];
            }
            other => {
                self.change(other);
                Outcome::Plain
            }
        };
        vec![Event::Done(outcome)]
    }

    fn step_user(&mut self, step: &UserStep) -> Outcome {
        if let Some(problem) = self.failing_users.get(step.name()) {
            return Outcome::User(problem.clone());
        }
        let users = &mut self.seen.users;
        match step {
            UserStep::Make(order) => {
                let mark = Mark { version: order.version.clone(), changed: self.now, grants: None };
                assert!(users.insert(order.name.clone(), SeenUser { mark, takes_old: false }).is_none());
            }
            UserStep::Rotate(order) => {
                let user = users.get_mut(&order.name).expect("who is changed is there");
                (user.mark.version, user.mark.changed, user.takes_old) = (order.version.clone(), self.now, true);
            }
            UserStep::Grant(order) => {
                users.get_mut(&order.name).expect("who is changed is there").mark.grants = Some(order.grants.clone());
            }
            UserStep::Discard { name } => users.get_mut(name).expect("who is changed is there").takes_old = false,
            UserStep::Drop { name } => assert!(users.remove(name).is_some(), "{name} is not there"),
        }
        Outcome::Plain
    }

    fn change(&mut self, task: Task) {
        match task {
            Task::SemiSync { k } => self.seen.source_k = k,
            Task::Unseal => (self.seen.super_read_only, self.seen.read_only) = (false, false),
            Task::Admit | Task::Expose => self.seen.offline = false,
            Task::Seal => (self.seen.super_read_only, self.seen.read_only) = (true, true),
            Task::Follow { source, .. } => {
                self.seen.channel = Some(Channel {
                    address: Some(source.address),
                    receiving: ThreadReport::Running,
                    applying: ThreadReport::Running,
                    received: GtidSet::default(),
                });
            }
            // An applier that failed fails again.
            Task::Apply | Task::Resume => {
                let channel = self.seen.channel.as_mut().expect("what is started is there");
                if channel.applying == ThreadReport::Stopped {
                    channel.applying = ThreadReport::Running;
                }
                if matches!(task, Task::Resume) {
                    channel.receiving = ThreadReport::Running;
                }
            }
            Task::Acknowledge(on) => self.seen.replica_semi_sync = on,
            _ => {}
        }
    }

    fn kill_mysqld(&mut self) -> &mut Self {
        let start = self.up.take().expect("something runs").start;
        self.tell(Event::Ended { start, how: "killed by signal 9".into() })
    }

    fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    fn report(&self) -> &Report {
        self.state.report().expect("it has looked around")
    }

    fn server(&self) -> &ServerReport {
        &self.report().mysql.server
    }

    fn phase(&self) -> Option<LeaderPhase> {
        match self.server() {
            ServerReport::Running(Running { role: RunningRole::Leader { phase, .. }, .. }) => Some(*phase),
            _ => None,
        }
    }

    fn problems(&self) -> Vec<Reason> {
        self.report().problems.iter().map(|problem| problem.reason.clone()).collect()
    }
}

fn no_answer() -> Failure {
    Failure { reason: Reason::MysqldSilent, message: "no answer".into() }
}

fn word(step: &UserStep) -> &'static str {
    match step {
        UserStep::Make(_) => "Make",
        UserStep::Rotate(_) => "Rotate",
        UserStep::Grant(_) => "Grant",
        UserStep::Discard { .. } => "Discard",
        UserStep::Drop { .. } => "Drop",
    }
}

fn opened() -> World {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(3);
    assert_eq!(world.phase(), Some(LeaderPhase::Open), "{:?}", world.done);
    world.take_done();
    world
}

fn following() -> World {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Replica(replica()))).wait(2);
    world.take_done();
    world
}

const TO_CLOSED: &[&str] =
    &["LookAround", "LookAtVolume", "Format", "Mount", "Initialise", "Start", "SemiSync", "Accounts"];
