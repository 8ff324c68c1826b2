//! Tables: a world, what happens, and what the agent does.

use drover_api::{
    BuildId, Claim, Epoch, GtidSet, Incarnation, Slot, VolumeId, VoterId,
    records::{RegisterState, Voter},
    set::Durability,
    wire::*,
};

use std::num::NonZeroU64;

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
    let wanted = Wanted { epoch: Epoch(epoch), claim: claim("c"), volume, mysql, role };
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
    done: Vec<String>,
    persisted: Option<Durable>,
    replies: Vec<OrdersReply>,
    exited: bool,
    starts: u32,
}

pub(super) fn minted(life_step: u64) -> Minted {
    let life_step = NonZeroU64::new(life_step).expect("not zero");
    Minted { voter_id: voter(), server_uuid: UUID.into(), life_step }
}

fn closed(start: &str) -> Observation {
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
            done: vec![],
            persisted: None,
            replies: vec![],
            exited: false,
            starts: 0,
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
            Effect::Heartbeat { .. } => {}
            Effect::Exit => self.exited = true,
        }
        vec![]
    }

    fn carry_out(&mut self, task: Task) -> Vec<Event> {
        let name = format!("{task:?}");
        let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        self.done.push(name);
        let mounted = |world: &World| Mounted {
            volume: volume(),
            record: world.persisted.clone().map_or(world.recorded.clone(), |record| Recorded::Record(Box::new(record))),
            data: world.data,
            left: world.left.clone(),
            minted: minted(world.life_step),
        };
        let outcome = match task {
            Task::LookAround => Outcome::Around {
                server: self.up.clone(),
                mounted: self.persisted.is_some().then(|| Box::new(mounted(self))),
                hint: None,
            },
            Task::LookAtVolume(_) => Outcome::Volume(self.content.clone()),
            Task::Mount(_) => Outcome::Mounted(Box::new(mounted(self))),
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
                self.seen = Observation { channel, ..closed(&up.start) };
                self.up = Some(up.clone());
                Outcome::Started(up)
            }
            Task::Close => {
                self.seen.offline = true;
                (self.seen.super_read_only, self.seen.read_only) = (self.close_returns, self.close_returns);
                Outcome::Closed { returned: self.close_returns }
            }
            Task::ReadRegister => Outcome::Register(self.register.clone().map(Box::new)),
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

#[test]
fn a_first_leader_is_made_closed_and_opened_only_after_register_and_marker() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, false)))).wait(3);
    assert_eq!(world.take_done(), TO_CLOSED);
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
    assert!(world.seen.super_read_only && world.seen.offline);

    world.order(orders(1, 2, RoleOrder::Leader(leader(1, true)))).wait(3);
    assert_eq!(world.take_done(), ["ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"]);
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
    assert_eq!(world.persisted.as_ref().map(|record| record.dirty), Some(Some(Epoch(1))));
}

#[test]
fn a_set_of_one_runs_without_semi_sync() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(leader(0, true)))).wait(3);
    assert!(!world.done.contains(&"SemiSync".to_owned()));
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn nobody_is_let_in_before_the_marker_is_acknowledged() {
    let mut world = World::new();
    world.acknowledged = false;
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(30);
    assert_eq!(world.phase(), Some(LeaderPhase::Marking));
    assert!(world.seen.offline);
    assert!(world.problems().contains(&Reason::MarkerWaits));
    assert_eq!(world.done.iter().filter(|done| *done == "Marker 1").count(), 1);
    let start = world.up.clone().expect("runs").start;
    world.tell(Event::MarkerAcknowledged { start, epoch: Epoch(1), n: 1 });
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn a_register_that_does_not_name_this_very_data_keeps_it_closed() {
    let other_voter =
        |register: &mut Register| register.voters[0].voter_id = VoterId::new("voter-00000002").expect("valid");
    type Change = fn(&mut Register);
    let cases: [(&str, Change); 8] = [
        ("fencing", |register| register.state = RegisterState::Fencing),
        ("another epoch", |register| register.epoch = Epoch(2)),
        ("another claim", |register| register.claim = claim("d")),
        ("another leader", |register| register.leader = Slot::Member(1)),
        ("another voter", other_voter),
        ("data that is older", |register| register.base = Some(format!("{UUID}:1-3").parse().expect("valid"))),
        ("another generation", |register| register.voters[0].generation = 2),
        ("another life", |register| register.voters[0].life = 2),
    ];
    for (case, change) in cases {
        let mut world = World::new();
        change(world.register.as_mut().expect("there is one"));
        world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(10);
        assert_eq!(world.phase(), Some(LeaderPhase::Closed), "{case}");
        assert!(world.problems().contains(&Reason::RegisterObjects), "{case}: {:?}", world.problems());
        assert!(!world.done.contains(&"Unseal".to_owned()), "{case}");
        assert_eq!(world.persisted.as_ref().and_then(|record| record.dirty), None, "{case}");
    }
    let mut world = World::new();
    world.register = None;
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(10);
    assert!(world.problems().contains(&Reason::RegisterMissing));
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
}

#[test]
fn a_new_replica_copies_then_forgets_then_follows_and_only_then_serves() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Replica(replica()))).wait(2);
    let begin = ["LookAround", "LookAtVolume", "Format", "Mount"];
    let then = ["Seed", "Start", "Discard", "Follow", "Acknowledge", "Expose"];
    assert_eq!(world.take_done(), [&begin[..], &then[..]].concat());
    assert!(world.seen.super_read_only);
}

#[test]
fn a_replica_without_data_waits_for_a_donor() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Replica(ReplicaOrder { donor: None, ..replica() }))).wait(5);
    assert!(world.problems().contains(&Reason::NoDonor));
    assert_eq!(world.report().mysql.data, DataReport::Absent);
}

#[test]
fn a_crashed_replica_resumes_by_itself_and_throws_nothing_away() {
    let mut world = following();
    world.kill_mysqld().wait(5);
    assert_eq!(world.take_done(), ["Start", "Acknowledge", "Resume", "Expose"]);
}

#[test]
fn a_life_that_was_not_admitted_does_not_acknowledge() {
    let mut world = following();
    world.kill_mysqld().restart_agent("boot-2").wait(10);
    let done = world.take_done();
    assert!(done.contains(&"Start".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");

    let admitted = ReplicaOrder { life: 2, ..replica() };
    world.order(orders(1, 9, RoleOrder::Replica(admitted))).wait(2);
    assert_eq!(world.take_done(), ["Acknowledge"]);
}

#[test]
fn a_voter_stops_acknowledging_before_it_connects_as_a_learner() {
    let mut world = following();
    let credential = credential("drover_learner_m0");
    let learner = ReplicaOrder { acknowledges: false, credential, ..replica() };
    world.order(orders(1, 9, RoleOrder::Replica(learner))).wait(2);
    assert_eq!(world.take_done(), ["Acknowledge", "Follow"]);
}

#[test]
fn a_replica_is_pointed_elsewhere_with_its_relay_log_kept() {
    let mut world = following();
    let elsewhere = ReplicaOrder { source: source(2), ..replica() };
    world.order(orders(2, 1, RoleOrder::Replica(elsewhere))).wait(2);
    assert_eq!(world.take_done(), ["Follow"]);
    assert_eq!(world.seen.channel.as_ref().and_then(|channel| channel.address), Some([10, 0, 0, 2].into()));
}

#[test]
fn a_replica_whose_applier_stands_is_not_pointed_elsewhere() {
    let elsewhere = || RoleOrder::Replica(ReplicaOrder { source: source(2), ..replica() });
    let mut world = following();
    let failed = ThreadReport::Failed { error: "1062".into() };
    world.seen.channel.as_mut().expect("it follows").applying = failed;
    world.wait(2).order(orders(2, 1, elsewhere())).wait(12);
    let done = world.take_done();
    assert!(!done.contains(&"Follow".into()) && done.last().is_some_and(|done| done == "Apply"), "{done:?}");
    assert!(world.problems().contains(&Reason::ApplierFailed));

    // After a restart it only has to be started, without connecting to whom it followed before.
    world.seen.channel.as_mut().expect("it follows").applying = ThreadReport::Stopped;
    world.wait(6);
    assert_eq!(world.take_done(), ["Apply", "Follow"]);
}

#[test]
fn a_dead_leader_stays_closed_until_a_later_epoch() {
    let mut world = opened();
    world.kill_mysqld().wait(30);
    assert!(world.take_done().is_empty());
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));
    world.order(orders(1, 9, RoleOrder::Leader(leader(1, true)))).wait(30);
    world.restart_agent("boot-1").wait(5);
    assert_eq!(world.take_done(), ["LookAround"]);
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));

    let again = LeaderOrder { initialise: false, ..leader(0, false) };
    world.order(orders(2, 1, RoleOrder::Leader(again.clone()))).wait(2);
    // Its accounts are as they were.
    assert_eq!(world.take_done(), ["Start"]);
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
    world.register = Some(register(2, me().slot));
    world.order(orders(2, 2, RoleOrder::Leader(LeaderOrder { open: true, ..again }))).wait(2);
    assert_eq!(world.take_done(), ["ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"]);
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn a_mysqld_that_someone_else_started_after_the_leaders_ended_does_not_hide_its_death() {
    let mut world = opened();
    world.up = Some(Up { start: "by-hand".into(), pid: 7, since: world.now });
    world.seen = Observation { offline: false, ..closed("by-hand") };
    world.restart_agent("boot-1").wait(3);
    assert_eq!(world.take_done(), ["LookAround", "Close"]);
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));

    world.register = Some(register(2, me().slot));
    let again = LeaderOrder { initialise: false, ..leader(1, true) };
    world.order(orders(2, 1, RoleOrder::Leader(again))).wait(3);
    assert_eq!(world.phase(), Some(LeaderPhase::Open), "{:?}", world.done);
    assert_eq!(world.starts, 1);
}

#[test]
fn who_led_is_never_simply_wired_as_a_replica() {
    let mut world = opened();
    world.kill_mysqld();
    world.order(orders(2, 1, RoleOrder::Replica(replica()))).wait(5);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })));
    assert!(world.take_done().is_empty());
}

#[test]
fn a_host_that_went_down_under_a_leader_is_a_death_and_another_life() {
    let mut world = opened();
    world.up = None;
    world.restart_agent("boot-2").wait(5);
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));
    let VolumeReport::Mounted(voting) = &world.report().volume else { panic!("not mounted") };
    assert_eq!((voting.life, voting.generation), (2, 1));
}

#[test]
fn before_it_has_looked_around_it_tells_nothing_and_takes_no_order() {
    let mut world = following();
    let mounted = Mounted {
        volume: volume(),
        record: Recorded::Record(Box::new(world.persisted.clone().expect("it follows"))),
        data: true,
        left: world.left.clone(),
        minted: minted(7),
    };
    let server = world.up.clone();
    world.state = State::new(me());
    let begun = world.state.step(world.now, Event::Tick);
    assert!(matches!(&begun[..], [Effect::Do(Task::LookAround)]), "{begun:?}");
    let told = world.state.report().expect_err("it has not looked yet");
    assert!(told.contains("not looked around"), "{told}");
    assert_eq!(world.state.health(world.now).replica(world.now, Duration::from_secs(5)), Err("looking around"));
    // What an operator would send to a machine without a volume.
    let closed = Event::Orders { to: 1, orders: Box::new(orders(1, 9, RoleOrder::Closed)) };
    let answered = world.state.step(world.now, closed);
    assert!(
        matches!(&answered[..], [Effect::Reply { reply: OrdersReply::Refused { reason }, .. }] if reason.contains("not looked")),
        "{answered:?}"
    );
    // A look that fails says so.
    let failed = Failure { reason: Reason::LookAroundFailed, message: "systemd does not answer".into() };
    world.state.step(world.now, Event::Failed(failed));
    let told = world.state.report().expect_err("it has not looked yet");
    assert!(told.contains("systemd does not answer"), "{told}");

    world.now = world.now.plus(Duration::from_secs(2));
    world.state.step(world.now, Event::Tick);
    let around = Outcome::Around { server, mounted: Some(Box::new(mounted)), hint: Some(volume()) };
    world.tell(Event::Done(around)).wait(3);
    assert!(matches!(world.report().volume, VolumeReport::Mounted(_)));
    assert!(matches!(world.server(), ServerReport::Running(_)), "{:?}", world.server());
    assert!(world.take_done().is_empty(), "a healthy replica was touched");
}

#[test]
fn an_agent_that_is_killed_or_stopped_changes_nothing() {
    for event in [None, Some(Event::Stop)] {
        let mut world = opened();
        if let Some(event) = event {
            world.tell(event);
            assert!(world.exited);
        }
        let pid = world.up.clone().expect("runs").pid;
        world.restart_agent("boot-1").wait(3);
        assert_eq!(world.take_done(), ["LookAround"]);
        assert_eq!(world.phase(), Some(LeaderPhase::Open));
        assert!(matches!(world.server(), ServerReport::Running(running) if running.pid == pid));
    }
}

#[test]
fn a_host_shutdown_closes_before_it_ends_mysqld_and_the_leader_resumes_with_a_new_marker() {
    let mut world = opened();
    world.tell(Event::HostShutdown);
    assert_eq!(world.take_done(), ["Close", "Terminate", "Flush"]);
    let record = world.persisted.clone().expect("persisted");
    assert!(world.exited && record.clean && record.dirty.is_none() && record.died.is_none());

    world.restart_agent("boot-2").wait(5);
    let resumed = ["LookAround", "Start", "SemiSync", "ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"];
    assert_eq!(world.take_done(), resumed);
    assert_eq!(world.persisted.map(|record| record.voting.life), Some(1));
}

#[test]
fn a_shutdown_with_a_waiting_commit_ends_nothing_by_sigterm() {
    let mut world = opened();
    world.close_returns = false;
    world.tell(Event::HostShutdown);
    assert_eq!(world.take_done(), ["Close"]);
    let record = world.persisted.clone().expect("persisted");
    assert!(world.exited && !record.clean && record.dirty == Some(Epoch(1)));
    world.up = None;
    world.restart_agent("boot-2").wait(5);
    assert!(matches!(world.server(), ServerReport::Died { .. }));
}

#[test]
fn lost_acknowledgers_switch_nothing_off() {
    let mut world = opened();
    world.acknowledged = false;
    let before = world.seen.clone();
    world.wait(600);
    assert!(world.take_done().is_empty());
    assert_eq!(world.seen, before);
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn a_higher_epoch_closes_an_open_leader_before_it_opens_again() {
    let mut world = opened();
    world.register = Some(register(2, me().slot));
    world.order(orders(2, 1, RoleOrder::Leader(LeaderOrder { initialise: false, ..leader(2, true) }))).wait(3);
    let expected = ["Close", "SemiSync", "ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"];
    assert_eq!(world.take_done(), expected);
}

#[test]
fn a_leader_whose_semi_sync_was_changed_by_someone_is_closed_before_that_is_put_right() {
    for k in [0, 2, u8::MAX] {
        let mut world = opened();
        world.seen.source_k = k;
        world.wait(3);
        let expected = ["Close", "SemiSync", "ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"];
        assert_eq!(world.take_done(), expected, "{k}");
        assert_eq!(world.phase(), Some(LeaderPhase::Open));
    }
}

#[test]
fn accounts_are_told_when_they_are_made_and_not_when_they_are_ordered() {
    let made = |world: &World| match world.server() {
        ServerReport::Running(Running { role: RunningRole::Leader { accounts_made, .. }, .. }) => *accounts_made,
        other => panic!("{other:?}"),
    };
    let mut world = opened();
    assert!(made(&world));
    let without = Event::Orders {
        to: 0,
        orders: Box::new(orders(1, 2, RoleOrder::Leader(LeaderOrder { accounts: vec![], ..leader(1, true) }))),
    };
    let effects = world.state.step(world.now, without);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Do(Task::Accounts { .. }))), "{effects:?}");
    assert!(!made(&world));
    world.tell(Event::Done(Outcome::Plain));
    assert!(made(&world));
}

#[test]
fn k_is_never_changed_while_open() {
    let mut world = opened();
    world.order(orders(1, 2, RoleOrder::Leader(leader(2, true)))).wait(3);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })));
    assert!(world.take_done().is_empty());
}

#[test]
fn orders_are_taken_by_rank_and_only_where_they_contradict_nothing() {
    type Change = fn(&mut Orders);
    let cases: [(&str, Change, &str); 13] = [
        ("the same again", |_| {}, "Accepted"),
        ("a higher seq", |orders| orders.seq = 6, "Accepted"),
        ("a higher fence, a lower seq", |orders| (orders.fence, orders.seq) = (2, 1), "Accepted"),
        ("a lower seq", |orders| orders.seq = 4, "Stale"),
        ("a lower fence, a higher seq", |orders| (orders.fence, orders.seq) = (0, 9), "Stale"),
        ("a lower epoch of a higher fence", |o| (o.fence, o.epoch, o.wanted.epoch) = (2, Epoch(0), Epoch(0)), "Stale"),
        (
            "another claim of the same epoch",
            |o| (o.seq, o.claim, o.wanted.claim) = (6, claim("d"), claim("d")),
            "Refused",
        ),
        ("two epochs in one order", |orders| (orders.seq, orders.epoch) = (6, Epoch(2)), "Refused"),
        ("the same rank, another digest", |orders| orders.digest = "other".into(), "Refused"),
        ("another slot", |orders| (orders.seq, orders.slot) = (6, Slot::Member(1)), "Refused"),
        (
            "another incarnation",
            |o| (o.seq, o.incarnation) = (6, Incarnation::new("zzzzzzzz").expect("valid")),
            "Refused",
        ),
        ("another volume", |o| (o.seq, o.wanted.volume.id) = (6, VolumeId::new("vol-9").expect("valid")), "Refused"),
        (
            "another voter",
            |o| (o.seq, o.wanted.volume.expected) = (6, Some(VoterId::new("voter-x9").expect("valid"))),
            "Refused",
        ),
    ];
    for (case, change, expected) in cases {
        let mut world = World::new();
        let first = orders(1, 5, RoleOrder::Closed);
        world.order(first.clone()).wait(2);
        let mut next = first;
        change(&mut next);
        world.order(next);
        let reply = format!("{:?}", world.replies.last().expect("a reply"));
        assert!(reply.starts_with(expected), "{case}: {reply}");
    }
}

#[test]
fn a_fence_that_was_only_polled_with_shuts_lower_ones_out_for_good() {
    let mut world = World::new();
    world.order(orders(1, 5, RoleOrder::Closed)).wait(2);
    world.tell(Event::Fence { to: 0, fence: 7 });
    assert_eq!(world.persisted.as_ref().map(|record| record.fence), Some(7));
    let stale = OrdersReply::Stale { fence: 7, epoch: Epoch(1), seq: 5 };
    for _ in 0..2 {
        world.order(Orders { fence: 6, ..orders(1, 9, RoleOrder::Closed) });
        assert_eq!(world.replies.pop(), Some(stale.clone()));
        world.restart_agent("boot-2").wait(1);
    }
    world.tell(Event::Fence { to: 0, fence: 3 });
    assert_eq!(world.state.fence(), 7);
    world.order(Orders { fence: 7, ..orders(1, 1, RoleOrder::Closed) });
    assert_eq!(world.replies.pop(), Some(OrdersReply::Accepted));
}

#[test]
fn a_fence_that_was_heard_before_there_was_a_volume_is_kept_on_it() {
    let mut world = World::new();
    world.tell(Event::Fence { to: 0, fence: 7 });
    world.order(orders(1, 1, RoleOrder::Closed));
    assert!(matches!(world.replies.pop(), Some(OrdersReply::Stale { fence: 7, .. })));
    world.order(Orders { fence: 7, ..orders(1, 1, RoleOrder::Closed) }).wait(2);
    assert_eq!(world.persisted.map(|record| record.fence), Some(7));
}

#[test]
fn no_order_is_taken_before_the_volume_that_holds_the_highest_one_is_mounted_again() {
    let mut highest = orders(2, 7, RoleOrder::Closed);
    highest.fence = 5;
    let mut record = Durable::fresh(me().incarnation, me().slot, voter(), UUID.into(), me().boot_id);
    record.orders = Some(highest);
    let reply = |state: &mut State| {
        let stale = Event::Orders { to: 0, orders: Box::new(orders(1, 1, RoleOrder::Closed)) };
        let effects = state.step(Millis(1_000_000), stale);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { reply, .. } => Some(reply),
            _ => None,
        })
    };
    let mut state = State::new(me());
    state.step(Millis(1_000_000), Event::Tick);
    let around = Outcome::Around { server: None, mounted: None, hint: Some(volume()) };
    state.step(Millis(1_000_000), Event::Done(around));
    assert!(matches!(reply(&mut state), Some(OrdersReply::Refused { .. })), "its device is looked for");
    state.step(Millis(1_000_000), Event::Done(Outcome::Volume(VolumeContent::Ours)));
    assert!(matches!(reply(&mut state), Some(OrdersReply::Refused { .. })), "it is being mounted");
    let mounted = Mounted {
        volume: volume(),
        record: Recorded::Record(Box::new(record)),
        data: true,
        left: None,
        minted: minted(7),
    };
    state.step(Millis(1_000_000), Event::Done(Outcome::Mounted(Box::new(mounted))));
    assert_eq!(reply(&mut state), Some(OrdersReply::Stale { fence: 5, epoch: Epoch(2), seq: 7 }));

    // One that is blank now was never ours, or is not any more: the order decides what becomes of it.
    let mut state = State::new(me());
    state.step(Millis(1_000_000), Event::Tick);
    state.step(Millis(1_000_000), Event::Done(Outcome::Around { server: None, mounted: None, hint: Some(volume()) }));
    state.step(Millis(1_000_000), Event::Done(Outcome::Volume(VolumeContent::Blank)));
    assert_eq!(reply(&mut state), Some(OrdersReply::Accepted));
}

#[test]
fn data_is_never_made_over_data() {
    let mut world = following();
    world.order(orders(2, 1, RoleOrder::Leader(leader(1, false)))).wait(3);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })), "initialise in epoch 2");
    world.order(orders(1, 2, RoleOrder::Leader(leader(1, false)))).wait(3);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })), "initialise over a copy");
    assert!(world.take_done().is_empty());
}

#[test]
fn an_initialise_or_copy_that_was_cut_short_is_begun_again() {
    for role in [RoleOrder::Leader(leader(1, false)), RoleOrder::Replica(replica())] {
        let mut world = World::new();
        world.order(orders(1, 1, role)).wait(3);
        (world.data, world.up) = (false, None);
        world.persisted.as_mut().expect("a record").start = None;
        world.take_done();
        world.restart_agent("boot-1").wait(3);
        let made = world.take_done();
        assert!(made[1] == "Initialise" || made[1] == "Seed", "{made:?}");
    }
}

#[test]
fn a_voter_whose_data_was_taken_away_is_another_when_it_was_seeded_again() {
    let mut world = following();
    (world.data, world.up) = (false, None);
    world.restart_agent("boot-1").wait(3);
    let done = world.take_done();
    assert!(done.contains(&"Seed".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");
    let VolumeReport::Mounted(voting) = &world.report().volume else { panic!("not mounted") };
    assert_eq!((voting.generation, voting.life), (2, 2));
}

#[test]
fn a_first_leader_whose_data_was_taken_away_does_not_begin_anew() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, false)))).wait(3);
    (world.data, world.up) = (false, None);
    world.take_done();
    world.restart_agent("boot-1").wait(3);
    assert_eq!(world.take_done(), ["LookAround"]);
    assert_eq!(world.problems(), [Reason::DataVanished]);
}

#[test]
fn what_is_found_on_a_volume_decides_whether_it_is_touched() {
    let foreign = VolumeContent::Foreign { found: "xfs".into() };
    let cases = [
        ("blank and new", VolumeContent::Blank, true, None, true),
        ("half made by us and new", VolumeContent::HalfMade, true, None, true),
        ("blank, not new", VolumeContent::Blank, false, None, false),
        ("half made, not new", VolumeContent::HalfMade, false, None, false),
        ("blank, a voter expected", VolumeContent::Blank, true, Some(voter()), false),
        ("foreign", foreign.clone(), true, None, false),
        ("foreign, not new", foreign, false, None, false),
    ];
    for (case, content, new, expected, formatted) in cases {
        let mut world = World::new();
        world.content = content;
        let mut order = orders(1, 1, RoleOrder::Closed);
        order.wanted.volume = VolumeOrder { new, expected, ..order.wanted.volume };
        world.order(order).wait(10);
        assert_eq!(world.done.contains(&"Format".to_owned()), formatted, "{case}");
        assert_eq!(world.done.contains(&"Mount".to_owned()), formatted, "{case}");
        assert_eq!(matches!(world.report().volume, VolumeReport::Foreign { .. }), !formatted, "{case}");
    }
}

#[test]
fn a_volume_of_ours_with_other_contents_is_let_go_and_reported() {
    let record = |change: fn(&mut Durable)| {
        let mut record = Durable::fresh(me().incarnation, me().slot, voter(), UUID.into(), "boot-0".into());
        change(&mut record);
        Recorded::Record(Box::new(record))
    };
    let cases = [
        ("another incarnation", record(|r| r.incarnation = Incarnation::new("zzzzzzzz").expect("valid"))),
        ("another slot", record(|r| r.slot = Slot::Member(3))),
        ("an older voter", record(|r| r.voting.voter_id = VoterId::new("voter-old1").expect("valid"))),
        ("no record", Recorded::Unreadable { found: "files, but no record".into() }),
        ("nothing", Recorded::Empty),
    ];
    for (case, recorded) in cases {
        let mut world = World::new();
        (world.content, world.recorded, world.data) = (VolumeContent::Ours, recorded, true);
        let mut order = orders(1, 1, RoleOrder::Replica(replica()));
        order.wanted.volume = VolumeOrder { new: false, expected: Some(voter()), ..order.wanted.volume };
        world.order(order).wait(5);
        assert_eq!(world.take_done(), ["LookAround", "LookAtVolume", "Mount", "Unmount"], "{case}");
        assert!(matches!(world.report().volume, VolumeReport::Foreign { .. }), "{case}");
        assert_eq!(world.persisted, None, "{case}");
    }
}

#[test]
fn a_build_that_does_not_understand_the_record_leaves_mysqld_and_its_volume_alone() {
    let world = opened();
    let up = world.up.clone().expect("runs");
    let found = "the agent's record is of another build".to_owned();
    let record = Recorded::Unreadable { found: found.clone() };
    let mounted = Some(Box::new(Mounted { volume: volume(), record, data: true, left: None, minted: minted(7) }));
    let mut state = State::new(me());
    state.step(world.now, Event::Tick);
    let around = Outcome::Around { server: Some(up.clone()), mounted, hint: Some(volume()) };
    let mut effects = state.step(world.now, Event::Done(around));
    let seen = Box::new(Observation { start: up.start.clone(), offline: false, ..world.seen.clone() });
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::Observe { ticket } => Some(*ticket),
        _ => None,
    });
    effects
        .extend(state.step(world.now, Event::Observed { ticket: asked.expect("it is looked at"), result: Ok(seen) }));
    effects.extend(state.step(world.now.plus(Duration::from_secs(60)), Event::Tick));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Do(_))), "{effects:?}");
    let report = state.report().expect("it has looked around");
    assert_eq!(report.volume, VolumeReport::Foreign { found });
    assert!(report.problems.iter().any(|problem| problem.reason == Reason::ForeignVolume));

    state.step(world.now, Event::Ended { start: up.start, how: "killed".into() });
    let effects = state.step(world.now.plus(Duration::from_secs(120)), Event::Tick);
    assert!(effects.contains(&Effect::Do(Task::Unmount)), "{effects:?}");
}

#[test]
fn a_build_stays_only_when_it_found_the_mysqld_that_was_left() {
    let mut world = opened();
    let left = world.state.recorded_start().expect("it was started here").to_owned();
    let up = world.up.take();
    world.restart_agent("boot-1").wait(3);
    assert!(!world.state.is_settled(Some(&left)), "it looked, and found none");

    let mut world = opened();
    world.restart_agent("boot-1").wait(1);
    assert!(world.state.is_settled(Some(&left)));
    assert!(!world.state.is_settled(Some("another")));
    world.kill_mysqld();
    assert!(world.state.is_settled(Some(&left)), "it was found, and ended since");

    let record = Recorded::Unreadable { found: "a record of another build".into() };
    let mounted = Some(Box::new(Mounted { volume: volume(), record, data: true, left: None, minted: minted(7) }));
    let mut state = State::new(me());
    state.step(world.now, Event::Tick);
    state.step(world.now, Event::Done(Outcome::Around { server: up, mounted, hint: None }));
    state.step(world.now, Event::Ended { start: left.clone(), how: "killed".into() });
    assert!(!state.is_settled(Some(&left)), "it does not understand the record");
    assert!(state.is_settled(None), "nothing was left to be found");
}

#[test]
fn the_life_is_raised_by_an_unclean_boot_and_by_a_volume_that_is_not_as_this_machine_left_it() {
    let here = Some("boot-1");
    let cases = [
        ("same boot", "boot-1", here, false, Durability::Standard, 1),
        ("same boot, not noted yet", "boot-1", None, false, Durability::Standard, 1),
        ("another boot", "boot-2", here, false, Durability::Standard, 8),
        ("another boot after a clean end", "boot-2", here, true, Durability::Standard, 1),
        ("another boot, strict", "boot-2", here, false, Durability::Strict, 1),
        ("another machine after a clean end", "boot-2", None, true, Durability::Standard, 8),
        ("another machine, strict", "boot-2", None, false, Durability::Strict, 8),
        ("an older copy, of a clean end", "boot-3", Some("boot-2"), true, Durability::Standard, 8),
        ("an older copy, strict", "boot-3", Some("boot-2"), false, Durability::Strict, 8),
    ];
    for (case, boot, left, clean, durability, life) in cases {
        let mut record = Durable::fresh(me().incarnation, me().slot, voter(), UUID.into(), "boot-1".into());
        let mut order = orders(1, 1, RoleOrder::Closed);
        order.wanted.mysql.durability = durability;
        (record.orders, record.clean) = (Some(order), clean);
        record.begin_boot(boot, left, minted(7).life_step);
        assert_eq!((record.voting.life, record.clean), (life, false), "{case}");
    }
}

#[test]
fn an_older_copy_of_a_volume_never_votes_as_the_voter_that_is_registered() {
    let life = |world: &World| world.persisted.as_ref().expect("a record").voting.life;
    for ends_in_order in [true, false] {
        let mut world = following();
        if ends_in_order {
            world.tell(Event::HostShutdown);
        }
        let copy = world.persisted.clone();
        (world.up, world.life_step) = (None, 7);
        world.restart_agent("boot-2").wait(5);
        let registered = life(&world);
        world.order(orders(1, 9, RoleOrder::Replica(ReplicaOrder { life: registered, ..replica() }))).wait(2);
        assert!(world.seen.replica_semi_sync, "it votes as life {registered}");
        world.tell(Event::HostShutdown);

        (world.persisted, world.up, world.life_step) = (copy, None, 9);
        world.take_done();
        world.restart_agent("boot-3").wait(5);
        assert_ne!(life(&world), registered);
        world.order(orders(1, 10, RoleOrder::Replica(ReplicaOrder { life: registered, ..replica() }))).wait(10);
        let done = world.take_done();
        assert!(done.contains(&"Start".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");
    }
}

#[test]
fn a_leader_whose_volume_went_to_another_machine_does_not_open_in_the_same_epoch() {
    let mut world = opened();
    world.tell(Event::HostShutdown);
    assert!(world.persisted.as_ref().is_some_and(|record| record.clean && record.dirty.is_none()));
    world.take_done();
    (world.left, world.up) = (None, None);
    world.restart_agent("boot-2").wait(10);
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
    assert!(world.problems().contains(&Reason::RegisterObjects) && !world.take_done().contains(&"Unseal".into()));
}

#[test]
fn data_that_is_made_anew_under_a_voter_is_another_generation_and_does_not_vote() {
    let mut world = following();
    (world.data, world.up, world.seen.channel) = (false, None, None);
    world.restart_agent("boot-1").wait(10);
    let voting = &world.persisted.as_ref().expect("a record").voting;
    assert_eq!((voting.generation, voting.life), (2, 2));
    let done = world.take_done();
    assert!(done.contains(&"Seed".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");
}

#[test]
fn only_the_ordered_mysqld_is_started() {
    for (installed, reason) in [
        (None, Reason::NoMysqld),
        (Some("9.6.0"), Reason::OtherMysqlVersion),
        (Some("9.70.1"), Reason::OtherMysqlVersion),
    ] {
        let mut world = World::new();
        world.state = State::new(Me { installed: installed.map(Into::into), ..me() });
        world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(5);
        assert!(world.problems().contains(&reason), "{installed:?}: {:?}", world.problems());
        assert_eq!(world.starts, 0);
        assert!(!world.data);
    }
}

#[test]
fn a_device_that_comes_late_is_waited_for() {
    let mut world = World::new();
    world.content = VolumeContent::NoDevice;
    world.order(orders(1, 1, RoleOrder::Closed)).wait(5);
    assert_eq!(world.report().volume, VolumeReport::Waiting);
    assert!(world.problems().contains(&Reason::WaitingForDevice));
    world.content = VolumeContent::Blank;
    world.wait(3);
    assert!(matches!(world.report().volume, VolumeReport::Mounted(_)));
}

#[test]
fn a_mysqld_that_keeps_ending_is_started_ever_less_often() {
    let mut world = following();
    let mut starts = Vec::new();
    for _ in 0..4 {
        let before = world.now;
        let count = world.starts;
        world.kill_mysqld();
        while world.starts == count {
            world.wait(1);
        }
        starts.push(world.now.since(before).as_secs());
    }
    assert!(starts.windows(2).all(|pair| pair[0] <= pair[1]) && starts[3] >= 4 * starts[0].max(1), "{starts:?}");
}

#[test]
fn a_closed_order_closes_what_runs_and_starts_nothing() {
    let mut world = opened();
    world.order(orders(2, 1, RoleOrder::Closed)).wait(3);
    assert_eq!(world.take_done(), ["Close"]);
    world.kill_mysqld().wait(30);
    assert!(world.take_done().is_empty());
    assert_eq!(*world.server(), ServerReport::Stopped);
}

#[test]
fn one_build_is_fetched_at_a_time_and_what_came_of_it_is_told() {
    let mut world = opened();
    let build = |letter: &str| BuildId::new(letter.repeat(64)).expect("valid");
    let order = |letter| BuildOrder { fence: 1, build: build(letter) };
    let (now, minute) = (world.now, Duration::from_secs(60));
    assert_eq!(world.state.order_build(now, &order("a")), Ok(false), "it is that build");
    assert_eq!(world.state.order_build(now, &order("b")), Ok(true));
    assert_eq!(world.state.order_build(now, &order("b")), Ok(false), "it is on its way");
    assert!(world.state.order_build(now, &order("c")).is_err(), "another is on its way");

    let failed = BuildReport::Failed { build: build("b"), why: "no answer".into() };
    world.state.build_is(now, failed.clone());
    assert_eq!(world.report().ordered_build, Some(failed));
    assert_eq!(world.problems(), [Reason::BuildFetchFailed]);
    assert_eq!(world.state.order_build(now.plus(minute / 2), &order("b")), Ok(false), "so soon again");
    assert_eq!(world.state.order_build(now.plus(minute), &order("b")), Ok(true));

    world.state.build_is(now, BuildReport::SentBack { build: build("b") });
    assert_eq!(world.problems(), [Reason::BuildRejected]);
    assert_eq!(world.state.order_build(now.plus(minute * 60), &order("b")), Ok(false), "it was sent back");
    world.tell(Event::Fence { to: 0, fence: 2 });
    assert!(world.state.order_build(now, &order("c")).is_err(), "by an operator that was replaced");
    assert_eq!(world.state.order_build(now, &BuildOrder { fence: 2, ..order("c") }), Ok(true));
}

#[test]
fn a_report_grows_when_something_is_worth_saying() {
    let mut world = opened();
    let mut grew = world.report().seq;
    let mut waited = Vec::new();
    for second in 0..11 {
        world.wait(1);
        if world.report().seq > grew {
            grew = world.report().seq;
            waited.push(second);
        }
    }
    assert_eq!((waited.len(), waited[1] - waited[0]), (2, 5), "positions alone: {waited:?}");
    let seq = world.report().seq;
    world.kill_mysqld();
    assert!(world.report().seq > seq);
}

#[test]
fn load_balancers_hear_yes_only_while_it_is_so() {
    let second = Duration::from_secs(1);
    let mut world = opened();
    let health = world.state.health(world.now);
    assert_eq!(health.primary(world.now), Ok(()));
    assert_eq!(health.replica(world.now, second), Err("primary"));
    assert_eq!(health.primary(world.now.plus(second * 10)), Err("stale"));
    world.kill_mysqld();
    assert_eq!(world.state.health(world.now).primary(world.now), Err("stopped"));

    let mut world = following();
    world.seen.heartbeat = Some(world.now);
    world.wait(3);
    let health = world.state.health(world.now);
    assert_eq!(health.replica(world.now, second * 5), Ok(()));
    assert_eq!(health.replica(world.now, second), Err("lagging"));
    assert_eq!(health.primary(world.now), Err("replica"));
    if let Some(channel) = &mut world.seen.channel {
        channel.applying = ThreadReport::Failed { error: "1062".into() };
    }
    world.wait(2);
    assert_eq!(world.state.health(world.now).replica(world.now, second * 60), Err("not replicating"));
}

#[test]
fn a_wall_clock_that_is_set_back_stops_nothing_and_shows_in_what_is_told() {
    let mut world = following();
    let hour = Duration::from_secs(3600);
    let wall = |world: &World, ahead: Duration| world.now.plus(ahead);
    world.state.wall_is(world.now, wall(&world, hour * 2));
    world.wait(3);
    let told = world.report().clock;
    world.state.wall_is(world.now, wall(&world, hour));
    world.kill_mysqld().wait(5);
    assert_eq!(world.take_done(), ["Start", "Acknowledge", "Resume", "Expose"]);
    assert!(world.report().clock < told, "what is told is the wall clock");
    let health = world.state.health(world.now);
    assert_eq!(health.primary(world.now.plus(Duration::from_secs(5))), Err("stale"));
}

#[test]
fn a_replica_is_not_fresh_by_another_machines_clock() {
    let second = Duration::from_secs(1);
    let mut world = following();
    let wall = |world: &World| world.now.plus(second * 100_000);
    let fresh = |world: &World| world.state.health(world.now).replica(world.now, second * 5);
    let lag = |world: &World| match world.server() {
        ServerReport::Running(Running { role: RunningRole::Replica { lag_ms, .. }, .. }) => *lag_ms,
        other => panic!("{other:?}"),
    };
    world.state.wall_is(world.now, wall(&world));
    world.seen.heartbeat = Some(wall(&world));
    world.wait(3);
    assert_eq!(fresh(&world), Ok(()), "equal clocks");
    world.seen.heartbeat = Some(Millis(wall(&world).0 - 3_600_000));
    world.wait(1);
    assert_eq!(fresh(&world), Err("lagging"), "an hour behind, on a host that booted later");
    // The primary's clock is an hour ahead.
    world.seen.heartbeat = Some(wall(&world).plus(second * 3600));
    world.wait(3);
    assert_eq!(fresh(&world), Ok(()));
    world.wait(8);
    assert_eq!(fresh(&world), Err("lagging"), "no newer beat was applied, whatever the clocks say");
    assert!(lag(&world) > Some(3000), "{:?}", lag(&world));
}

#[test]
fn a_death_that_was_recorded_is_not_recorded_again() {
    let mut world = opened();
    world.seen.executed = format!("{UUID}:1-7").parse().expect("valid");
    world.wait(1).kill_mysqld();
    let died = world.persisted.clone().and_then(|record| record.died);
    let executed = Some(world.seen.executed.clone());
    assert_eq!(died, Some(Died { epoch: Epoch(1), how: "killed by signal 9".into(), executed }));
    world.restart_agent("boot-2");
    assert_eq!(world.persisted.and_then(|record| record.died), died);
}
