//! The agent's mind, without hands: what happened goes in, what is to be done comes out. Every rule about the machine's
//! domain is here; whoever performs the effects decides nothing.
//!
//! It is level-triggered. One task at a time changes the machine; after each, mysqld is observed anew and the next is chosen
//! from what is durable, what was observed and what is ordered. So an agent that was killed anywhere goes on by looking.
//!
//! Its time is a steady clock that nobody sets. The wall clock is only what it tells others, and what it says of their beats.
//!
//! A step whose [`Effect::Persist`] fails did not happen: the caller keeps the state before it, and does nothing of the rest.

use std::time::Duration;

use drover_api::{
    BuildId, Epoch, Millis, VolumeId,
    problems::{Problem, Reason},
    records::Register,
    wire::{Credential, Orders, OrdersReply, Report, RoleOrder},
};

use crate::durable::{Durable, Origin};

mod build;
mod clients;
mod leader;
mod orders;
#[cfg(test)]
mod props;
mod replica;
mod report;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod volume;

pub use report::{Health, HealthRole};
pub use types::*;

/// See the module. Cloning is cheap enough to do before every step.
#[derive(Clone, Debug)]
pub struct State {
    me: Me,
    looked: bool,
    durable: Option<Durable>,
    /// The order that came before its volume was there.
    early: Option<Orders>,
    /// The highest fence that was heard, also before there is a record to keep it.
    fence: u64,
    hint: Option<VolumeId>,
    volume: Volume,
    data: bool,
    server: Server,
    task: Option<(Task, Millis)>,
    marker: Marker,
    /// Read for the step that comes next, and used up by it.
    register: Option<(Box<Register>, Millis)>,
    /// When stopped replication was last started.
    resumed: Option<Millis>,
    now: Millis,
    /// How far the wall clock is before ours, in milliseconds.
    wall_ahead: i64,
    closing: Closing,
    pause: Pause,
    /// Ends of mysqld in a row, each soon after its start.
    restarts: u32,
    /// When an order was last taken that asks for something once. A new process does nothing of it until it is sent again.
    asked: Option<Millis>,
    /// The token of a restart for which mysqld could not be closed.
    restart_failed: Option<String>,
    /// The start of the mysqld that was told to end so that it begins anew.
    terminated: Option<String>,
    /// The start of the mysqld that ran when this agent first looked.
    adopted: Option<String>,
    waits: Option<Problem>,
    failed: Option<Problem>,
    storage: Option<String>,
    update: Option<build::Update>,
    observe: Observe,
    heartbeat: Option<Millis>,
    /// Since when somebody who acknowledges has been connected, for whom no beat is acknowledged yet.
    joined: Option<Millis>,
    /// When a beat was last written for it; `None`: it is due.
    nudged: Option<Millis>,
    clients: clients::Progress,
    /// The newest beat in the tables, by its writer's wall clock, and when it was first seen there.
    beat: Option<(Millis, Millis)>,
    report: report::Published,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Volume {
    Unknown,
    Seen(VolumeId, VolumeContent),
    /// It must not be used: what was found there is not what was ordered.
    Refused {
        found: String,
        mounted: bool,
    },
    /// Mounted, and nothing may be concluded from it before an order says what it should be.
    Unclear,
    Mounted(VolumeId),
}

#[derive(Clone, Debug)]
enum Server {
    Down,
    /// `begun`: since when it is known to run.
    Up {
        up: Up,
        begun: Millis,
        seen: Option<Box<Observation>>,
        fresh: bool,
        at: Millis,
        silent: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Idle,
    Waiting(Epoch, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// No close begins after `until`.
    Asked {
        until: Millis,
    },
    /// super_read_only returned in this closing.
    Closed,
    /// mysqld was told to end.
    Terminated,
    Flushed,
    /// It could not be closed: whoever waits is left to SIGKILL.
    Uncertain,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    until: Option<Millis>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Observe {
    ticket: u64,
    asked: Option<Millis>,
}

/// What the next thing is: a task, or what is awaited.
type Next = Result<Task, Wait>;

#[derive(Clone, Debug)]
enum Wait {
    Quiet,
    /// For something outside; shown.
    For(Reason, String),
    /// The same, and worth asking again after a while.
    Again(Reason, String, Duration),
    /// For a reading of the register.
    Register,
    /// Write a marker beside the lane of tasks.
    Marker(Epoch, u64),
    Exit,
}

/// Between two attempts of a task that fails: doubled each time, up to the second.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// For so long after the host began to go down a close that fails is tried again. One takes 40 s at most by its deadlines, and
/// systemd gives this unit 90 (TimeoutStopSec), of which up to 18 go by until it says that the host goes down.
const CLOSES: Duration = Duration::from_secs(30);
/// A beat for whoever connected may be lost, or wait behind a row that another holds.
const NUDGE_AGAIN: Duration = Duration::from_secs(5);
/// A device or register that is not there yet is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Why nothing is told and no order taken.
const NOT_LOOKED: &str = "the agent has not looked around yet";

/// Counts the changes of what people may do: an account that was made before is made again.
const ADMIN_RIGHTS: u32 = 2;

fn admin_digest(credential: &Credential) -> String {
    orders::digest(&(credential, ADMIN_RIGHTS))
}

impl State {
    pub fn new(me: Me) -> Self {
        Self {
            me,
            looked: false,
            durable: None,
            early: None,
            fence: 0,
            hint: None,
            volume: Volume::Unknown,
            data: false,
            server: Server::Down,
            task: None,
            marker: Marker::Idle,
            register: None,
            resumed: None,
            now: Millis(0),
            wall_ahead: 0,
            closing: Closing::No,
            pause: Pause::default(),
            restarts: 0,
            asked: None,
            restart_failed: None,
            terminated: None,
            adopted: None,
            waits: None,
            failed: None,
            storage: None,
            update: None,
            observe: Observe::default(),
            heartbeat: None,
            joined: None,
            nudged: None,
            clients: clients::Progress::default(),
            beat: None,
            report: report::Published::default(),
        }
    }

    /// What happened, and what follows from it.
    pub fn step(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        self.now = now;
        let before = self.durable.clone();
        let mut effects = Vec::new();
        let tick = event == Event::Tick;
        self.take(now, event, &mut effects);
        if !effects.contains(&Effect::Exit) {
            self.advance(now, &mut effects);
        }
        if tick && self.is_unsealed_leader() {
            let epoch = self.epoch();
            effects.push(Effect::Heartbeat { epoch });
        }
        if self.is_unsealed_leader()
            && self.joined.is_some()
            && self.nudged.is_none_or(|at| tick && now.since(at) >= NUDGE_AGAIN)
        {
            self.nudged = Some(now);
            let epoch = self.epoch();
            effects.push(Effect::Nudge { epoch });
        }
        if let Some(durable) = self.durable.clone().filter(|durable| before.as_ref() != Some(durable)) {
            effects.insert(0, Effect::Persist(Box::new(durable)));
        }
        self.publish(now);
        effects
    }

    /// What the operator is told, whole; or why there is nothing to tell yet. Before the agent has looked around it knows
    /// neither its volume nor its orders nor whether mysqld runs, and "none" would be a lie about each of them.
    pub fn report(&self) -> Result<&Report, String> {
        self.report.report.as_ref().ok_or_else(|| match &self.failed {
            Some(failed) => format!("{NOT_LOOKED}: {}", failed.message),
            None => NOT_LOOKED.into(),
        })
    }

    pub fn build(&self) -> &BuildId {
        &self.me.build
    }

    /// The record cannot be written, or can again.
    pub fn storage(&mut self, now: Millis, trouble: Option<String>) {
        self.storage = trouble;
        self.publish(now);
    }

    /// Both clocks, read at once. The wall clock may be set at any time.
    pub fn wall_is(&mut self, now: Millis, wall: Millis) {
        self.wall_ahead = i64::try_from(i128::from(wall.0) - i128::from(now.0)).unwrap_or_default();
    }

    /// A time of ours by the wall clock.
    fn wall(&self, at: Millis) -> Millis {
        Millis(at.0.saturating_add_signed(self.wall_ahead))
    }

    /// The highest fencing number that was heard, by an order or by a poll: what comes with a lower one is refused.
    pub fn fence(&self) -> u64 {
        let recorded = self.durable.as_ref().map_or(0, |durable| durable.fence);
        self.highest().map_or(0, |orders| orders.fence).max(self.fence).max(recorded)
    }

    /// Data or a file system is being made: a work of hours that a new process would begin again.
    pub fn is_making(&self) -> bool {
        self.task.as_ref().is_some_and(|(task, _)| task.is_making())
    }

    /// The mysqld that runs.
    pub fn start(&self) -> Option<&str> {
        match &self.server {
            Server::Up { up, .. } => Some(&up.start),
            Server::Down => None,
        }
    }

    /// The mysqld that runs, where it is the one on the record: the next build has to find it.
    pub fn recorded_start(&self) -> Option<&str> {
        // One that was told to end is nobody's to find.
        let recorded = self.durable.as_ref().filter(|_| self.terminated.is_none())?.start.as_deref();
        self.start().filter(|start| recorded == Some(start))
    }

    /// What a new build must show to stay: it found and understood what the build before left, a mysqld with this start among
    /// it, and a mysqld that runs answers it.
    pub fn is_settled(&self, left: Option<&str>) -> bool {
        let found = left.is_none_or(|start| self.durable.is_some() && self.adopted.as_deref() == Some(start));
        let answers = match &self.server {
            Server::Down => true,
            Server::Up { seen, .. } => seen.is_some(),
        };
        self.looked && found && answers
    }

    fn take(&mut self, now: Millis, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::Orders { to, orders } => {
                let reply = self.accept(*orders);
                if reply == OrdersReply::Accepted {
                    self.asked = self.highest().filter(|orders| orders.wanted.asks()).map(|_| now);
                    self.pause = Pause::default();
                    self.failed = None;
                    self.clients.try_again();
                }
                effects.push(Effect::Reply { to, reply });
            }
            Event::Fence { to, fence } => {
                self.raise_fence(fence);
                effects.push(Effect::Reply { to, reply: OrdersReply::Accepted });
            }
            Event::Done(outcome) => self.done(now, outcome, effects),
            Event::Failed(failure) => self.task_failed(now, failure),
            Event::Observed { ticket, result } if ticket == self.observe.ticket => self.observed(now, result),
            Event::Observed { .. } => {}
            Event::Ended { start, how } => self.ended(now, &start, how),
            Event::MarkerAcknowledged { start, epoch, n } if self.runs(&start) => {
                self.marker = Marker::Idle;
                if let Some(durable) = &mut self.durable {
                    durable.marker = Some((epoch, n));
                }
            }
            Event::MarkerFailed { start, message } if self.runs(&start) => {
                self.marker = Marker::Idle;
                self.pause_after(now, Failure { reason: Reason::MarkerFailed, message });
            }
            Event::HeartbeatAcknowledged { start, at } if self.runs(&start) => {
                self.heartbeat = Some(at);
                self.joined = None;
                self.clients.acknowledged = Some(now);
            }
            Event::MarkerAcknowledged { .. } | Event::MarkerFailed { .. } | Event::HeartbeatAcknowledged { .. } => {}
            Event::Stop => effects.push(Effect::Exit),
            Event::HostShutdown => self.host_shutdown(now, effects),
        }
    }

    fn done(&mut self, now: Millis, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some((task, _)) = self.task.take() else { return };
        self.pause = Pause::default();
        self.failed = None;
        match (task, outcome) {
            (Task::LookAround, Outcome::Around { server, mounted, hint }) => {
                self.looked = true;
                self.hint = hint;
                if let Some(up) = server {
                    self.adopted = Some(up.start.clone());
                    self.is_up(now, up);
                }
                if let Some(mounted) = mounted {
                    self.mounted(*mounted);
                }
            }
            (Task::LookAtVolume(id), Outcome::Volume(content)) => {
                if content == VolumeContent::NoDevice {
                    self.pause.until = Some(now.plus(LOOK_AGAIN));
                }
                self.volume = Volume::Seen(id, content);
            }
            (Task::Format(id), _) => self.volume = Volume::Seen(id, VolumeContent::Ours),
            (Task::Mount(_), Outcome::Mounted(mounted)) => self.mounted(*mounted),
            (Task::Unmount, _) => match &mut self.volume {
                Volume::Refused { mounted, .. } => *mounted = false,
                _ => (self.volume, self.hint) = (Volume::Unknown, None),
            },
            (task @ (Task::Initialise { .. } | Task::Seed { .. }), _) => {
                self.data = true;
                self.remember(&task);
            }
            (Task::Start(_), Outcome::Started(up)) => {
                if let Some(durable) = &mut self.durable {
                    durable.start = Some(up.start.clone());
                }
                self.is_up(now, up);
            }
            (Task::Close, Outcome::Closed { returned }) => self.closed(now, returned, effects),
            (Task::ReadRegister, Outcome::Register(register)) => {
                if register.is_none() {
                    self.pause_after(
                        now,
                        Failure { reason: Reason::RegisterMissing, message: "the register is not there".into() },
                    );
                }
                self.register = register.map(|register| (register, now));
                return;
            }
            (Task::Terminate, _) if self.closing == Closing::No => self.restarts_now(),
            (Task::Terminate, _) => self.closing = Closing::Terminated,
            (Task::Flush, _) => self.closing = Closing::Flushed,
            (Task::Databases(ordered), Outcome::Databases { made, failed }) => {
                self.clients.looked(now, &ordered, made, failed);
            }
            (Task::DropDatabase(name), outcome) => self.clients.dropped(now, name, outcome),
            (Task::User(step), outcome) => self.clients.stepped(now, &step, outcome),
            (task, _) => self.remember(&task),
        }
        self.observe_again();
    }

    /// Notes on the record what a task of SQL achieved.
    fn remember(&mut self, task: &Task) {
        let Some(durable) = &mut self.durable else { return };
        match task {
            Task::Accounts { accounts, clone, .. } => {
                durable.accounts = Some(orders::digest(&(accounts, clone)));
            }
            Task::Admin(credential) | Task::Initialise { admin: credential, .. } => {
                durable.admin = Some(admin_digest(credential));
            }
            Task::Discard => durable.wired = Some(String::new()),
            Task::Follow { source, credential, .. } => durable.wired = Some(orders::digest(&(source, credential))),
            _ => {}
        }
    }

    fn task_failed(&mut self, now: Millis, failure: Failure) {
        let task = self.task.take().map(|(task, _)| task);
        self.register = None;
        self.pause_after(now, failure);
        match (task, self.closing) {
            (None, _) | (_, Closing::No) => {}
            // Clients are still there, and a leader that ends unclosed is one that a person has to judge.
            (Some(task), Closing::Asked { until })
                if task.leaves_a_close_be() && self.pause.until.is_none_or(|pause| pause <= until) => {}
            // A server that cannot even be asked is not proven closed, and a volume that cannot be flushed is not clean.
            _ => self.closing = Closing::Uncertain,
        }
        self.observe_again();
    }

    fn pause_after(&mut self, now: Millis, failure: Failure) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.pause.failures.min(5)).min(PAUSE_MAX);
        self.pause = Pause { until: Some(now.plus(pause)), failures: self.pause.failures.saturating_add(1) };
        self.failed = Some(Problem { reason: failure.reason, message: failure.message });
    }

    fn advance(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        if self.task.is_none() && self.pause.until.is_none_or(|until| now >= until) {
            let mut waits = None;
            match self.next().or_else(
                |wait| {
                    if matches!(wait, Wait::Register) { Ok(Task::ReadRegister) } else { Err(wait) }
                },
            ) {
                Ok(task) => {
                    self.task = Some((task.clone(), now));
                    effects.push(Effect::Do(task));
                }
                Err(Wait::Quiet | Wait::Register) => {}
                Err(Wait::For(reason, message)) => waits = Some(Problem { reason, message }),
                Err(Wait::Again(reason, message, pause)) => {
                    self.pause.until = Some(now.plus(pause));
                    waits = Some(Problem { reason, message });
                }
                Err(Wait::Marker(epoch, n)) => {
                    self.marker = Marker::Waiting(epoch, n);
                    effects.push(Effect::Marker { epoch, n });
                }
                Err(Wait::Exit) => effects.push(Effect::Exit),
            }
            self.waits = waits;
        }
        self.ask_to_observe(now, effects);
    }

    fn next(&mut self) -> Next {
        if !self.looked {
            return Ok(Task::LookAround);
        }
        if self.closing != Closing::No {
            return self.next_closing();
        }
        match &self.volume {
            Volume::Mounted(_) => self.next_mysql(),
            // It runs on it: an earlier build that does not understand the record leaves both to the next one.
            Volume::Refused { found, mounted: true } if matches!(self.server, Server::Up { .. }) => {
                Err(Wait::For(Reason::ForeignVolume, found.clone()))
            }
            Volume::Refused { mounted: true, .. } | Volume::Unclear => Ok(Task::Unmount),
            Volume::Refused { found, .. } => Err(Wait::For(Reason::ForeignVolume, found.clone())),
            Volume::Unknown => match self.wanted_volume() {
                Some(id) => Ok(Task::LookAtVolume(id)),
                None => Err(Wait::For(Reason::NoOrders, "no order has come yet".into())),
            },
            Volume::Seen(id, _) if self.wanted_volume().is_some_and(|wanted| wanted != *id) => {
                self.volume = Volume::Unknown;
                self.next()
            }
            Volume::Seen(id, content) => self.next_volume(id.clone(), content.clone()),
        }
    }

    fn next_mysql(&mut self) -> Next {
        let Some(orders) = self.durable.as_ref().and_then(|durable| durable.orders.clone()) else {
            return Err(Wait::For(Reason::NoOrders, "no order has come yet".into()));
        };
        if let Some(next) = self.next_restart(&orders) {
            return next;
        }
        match &orders.wanted.role {
            RoleOrder::Closed => self.next_closed(),
            RoleOrder::Leader(leader) => self.next_leader(&orders, leader),
            RoleOrder::Replica(replica) => self.next_replica(&orders, replica),
        }
    }

    fn epoch(&self) -> Epoch {
        self.durable.as_ref().and_then(|durable| durable.orders.as_ref()).map(|orders| orders.epoch).unwrap_or_default()
    }

    fn origin(&self) -> Option<Origin> {
        self.durable.as_ref().and_then(|durable| durable.origin)
    }
}
