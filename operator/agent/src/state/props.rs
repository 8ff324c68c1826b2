//! Any interleaving of events, replies that fail and replies that come late, and still: no mkfs on what is not blank, no data
//! made over data, no opening without register and marker, no SIGTERM to what was not seen closed.

use drover_api::{
    Epoch, Slot,
    wire::{LeaderOrder, RoleOrder, ThreadReport},
};
use proptest::prelude::*;

use super::{
    tests::{closed, leader, me, minted, orders, register, replica, volume},
    *,
};

/// One thing that happens, chosen without knowing what the agent is doing.
#[derive(Clone, Debug)]
enum Happens {
    Tick,
    /// The task under way ends well, finding what `luck` makes of it.
    Done(u8),
    Failed,
    Observed {
        read_only: bool,
        super_read_only: bool,
        offline: bool,
        k: u8,
        channel: bool,
    },
    Silent,
    Ended,
    /// What can be read is what is so.
    Truth,
    Marker,
    Order {
        fence: u64,
        epoch: u64,
        seq: u64,
        role: u8,
        restart: bool,
    },
    Fence(u64),
    RestartAgent {
        reboot: bool,
    },
    HostShutdown,
    Later(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => Just(Happens::Tick),
        8 => any::<u8>().prop_map(Happens::Done),
        1 => Just(Happens::Failed),
        1 => (any::<bool>(), any::<bool>(), any::<bool>(), 0u8..3, prop::bool::weighted(0.2)).prop_map(
            |(read_only, super_read_only, offline, k, channel)| Happens::Observed { read_only, super_read_only, offline, k, channel }
        ),
        1 => Just(Happens::Silent),
        1 => Just(Happens::Ended),
        10 => Just(Happens::Truth),
        2 => Just(Happens::Marker),
        3 => (1u64..3, 1u64..3, 1u64..5, 0u8..6, prop::bool::weighted(0.3)).prop_map(
            |(fence, epoch, seq, role, restart)| Happens::Order { fence, epoch, seq, role, restart }
        ),
        1 => (1u64..4).prop_map(Happens::Fence),
        1 => any::<bool>().prop_map(|reboot| Happens::RestartAgent { reboot }),
        1 => Just(Happens::HostShutdown),
        1 => (0u16..40).prop_map(Happens::Later),
    ]
}

/// What is really so, kept apart from what the agent believes.
#[derive(Default)]
struct Truth {
    task: Option<Task>,
    ticket: u64,
    persisted: Option<Durable>,
    content: Option<VolumeContent>,
    data: bool,
    up: Option<Up>,
    starts: u32,
    boots: u32,
    /// Markers that were written under this start, and those acknowledged.
    written: Vec<(Epoch, u64)>,
    acknowledged: Vec<Epoch>,
    register_said_yes: bool,
    unsealed: bool,
    admitted: bool,
    k: u8,
    close_returned: bool,
    channel_is_ours: bool,
}

fn role(kind: u8) -> RoleOrder {
    match kind {
        0 => RoleOrder::Closed,
        1 => RoleOrder::Replica(replica()),
        2 => RoleOrder::Leader(leader(1, false)),
        3 => RoleOrder::Leader(leader(1, true)),
        4 => RoleOrder::Leader(LeaderOrder { initialise: false, ..leader(1, true) }),
        _ => RoleOrder::Leader(LeaderOrder { initialise: false, ..leader(0, true) }),
    }
}

impl Truth {
    fn check(&mut self, effects: Vec<Effect>) -> Result<(), TestCaseError> {
        for (at, effect) in effects.into_iter().enumerate() {
            match effect {
                Effect::Persist(record) => {
                    prop_assert_eq!(at, 0, "persisted after something else was done");
                    if let Some(before) = &self.persisted {
                        let promise = |record: &Durable| record.promised.as_ref().map(|promised| promised.epoch);
                        prop_assert!(promise(&record) >= promise(before), "a promise was taken back");
                        prop_assert_eq!(&record.voting.voter_id, &before.voting.voter_id);
                        prop_assert!(record.voting.life >= before.voting.life);
                        prop_assert!(record.fence >= before.fence, "a fence was taken back");
                        let taken = record.orders.as_ref().filter(|_| record.orders != before.orders);
                        prop_assert!(
                            taken.is_none_or(|orders| orders.fence >= before.fence),
                            "an old fence was obeyed"
                        );
                    }
                    self.persisted = Some(*record);
                }
                Effect::Do(task) => {
                    prop_assert!(self.task.is_none(), "two tasks at once: {:?} and {task:?}", self.task);
                    self.check_task(&task)?;
                    self.task = Some(task);
                }
                Effect::Observe { ticket } => self.ticket = ticket,
                Effect::Marker { epoch, n } => {
                    prop_assert!(self.unsealed, "a marker on a sealed server");
                    self.written.push((epoch, n));
                }
                Effect::Heartbeat { .. } | Effect::Nudge { .. } | Effect::Reply { .. } | Effect::Exit => {}
            }
        }
        Ok(())
    }

    fn check_task(&mut self, task: &Task) -> Result<(), TestCaseError> {
        let dirty = self.persisted.as_ref().and_then(|record| record.dirty);
        match task {
            Task::Format(_) => {
                let blank = matches!(self.content, Some(VolumeContent::Blank | VolumeContent::HalfMade));
                prop_assert!(blank, "mkfs on {:?}", self.content);
            }
            Task::Mount(_) => prop_assert_eq!(&self.content, &Some(VolumeContent::Ours)),
            Task::Initialise { .. } | Task::Seed { .. } => {
                prop_assert!(!self.data, "made over data");
                prop_assert!(self.up.is_none(), "data made while mysqld runs");
                self.channel_is_ours = false;
            }
            Task::Start(_) => {
                prop_assert!(self.data && self.up.is_none());
                let record = self.persisted.as_ref().expect("nothing starts without a record");
                let order = record.orders.as_ref().expect("nothing starts without an order");
                prop_assert!(record.died.is_none() && record.dirty.is_none(), "a dead leader was started");
                prop_assert!(!matches!(order.wanted.role, RoleOrder::Closed));
                prop_assert!(!(record.led && matches!(order.wanted.role, RoleOrder::Replica(_))), "led, and follows");
            }
            Task::Unseal => {
                prop_assert!(std::mem::take(&mut self.register_said_yes), "writable without the register's word");
                prop_assert!(dirty.is_some(), "writable before it is on the record");
            }
            Task::Admit => {
                let epoch = dirty.expect("let in before it is on the record");
                prop_assert!(std::mem::take(&mut self.register_said_yes), "let in without the register's word");
                prop_assert!(self.acknowledged.contains(&epoch), "let in without a marker");
            }
            Task::Discard => prop_assert!(!self.channel_is_ours, "a relay log of ours was thrown away"),
            Task::Follow { .. } => self.channel_is_ours = true,
            // What was never writable since its start has nothing that waits.
            Task::Terminate => {
                prop_assert!(self.close_returned || !self.unsealed, "SIGTERM to what was not seen closed");
            }
            Task::SemiSync { .. } => prop_assert!(!self.unsealed, "semi-sync touched while writable"),
            _ => {}
        }
        if matches!(task, Task::Unseal) {
            self.close_returned = false;
        }
        Ok(())
    }

    /// What a task that ends well really did, and what is heard of it.
    fn finish(&mut self, task: Task, luck: u8) -> Outcome {
        match task {
            Task::LookAround => Outcome::Around {
                server: self.up.clone(),
                mounted: self
                    .persisted
                    .clone()
                    .filter(|_| luck.is_multiple_of(2))
                    .map(|record| Box::new(self.mounted(Recorded::Record(Box::new(record)), false, luck))),
                hint: luck.is_multiple_of(3).then(volume),
            },
            Task::LookAtVolume(_) => {
                let first =
                    [VolumeContent::Blank, VolumeContent::HalfMade, VolumeContent::Foreign { found: "xfs".into() }];
                let content = self.content.get_or_insert_with(|| first[usize::from(luck) % 3].clone()).clone();
                Outcome::Volume(if luck.is_multiple_of(5) { VolumeContent::NoDevice } else { content })
            }
            Task::Format(_) => {
                self.content = Some(VolumeContent::Ours);
                Outcome::Plain
            }
            Task::Mount(_) => {
                let record = self.persisted.clone();
                let record = record.map_or(Recorded::Empty, |record| Recorded::Record(Box::new(record)));
                Outcome::Mounted(Box::new(self.mounted(record, true, luck)))
            }
            Task::Initialise { .. } | Task::Seed { .. } => {
                self.data = true;
                Outcome::Plain
            }
            Task::Start(_) => {
                self.starts += 1;
                let up = Up { start: format!("start-{}", self.starts), pid: self.starts, since: Millis(0) };
                self.up = Some(up.clone());
                (self.unsealed, self.written, self.acknowledged) = (false, vec![], vec![]);
                (self.admitted, self.k) = (false, 0);
                self.close_returned = false;
                Outcome::Started(up)
            }
            Task::Close => {
                self.close_returned = !luck.is_multiple_of(3);
                self.unsealed &= !self.close_returned;
                self.admitted = false;
                Outcome::Closed { returned: self.close_returned }
            }
            Task::ReadRegister => {
                let (epoch, mine) = (1 + u64::from(luck % 2), !luck.is_multiple_of(3));
                let register = register(epoch, if mine { me().slot } else { Slot::Member(1) });
                let order = self.persisted.as_ref().and_then(|record| record.orders.as_ref());
                self.register_said_yes = mine && order.is_some_and(|order| order.epoch == Epoch(epoch));
                Outcome::Register((!luck.is_multiple_of(7)).then(|| Box::new(register)))
            }
            Task::Unseal => {
                self.unsealed = true;
                Outcome::Plain
            }
            Task::Admit => {
                self.admitted = true;
                Outcome::Plain
            }
            Task::SemiSync { k } => {
                self.k = k;
                Outcome::Plain
            }
            _ => Outcome::Plain,
        }
    }

    fn mounted(&self, record: Recorded, anew: bool, luck: u8) -> Mounted {
        let left = self.persisted.as_ref().filter(|_| !luck.is_multiple_of(4)).map(|record| record.boot_id.clone());
        Mounted { volume: volume(), record, data: self.data, left, anew, minted: minted(1 + u64::from(luck)) }
    }

    fn observation(&self, up: &Up) -> Observation {
        closed(&up.start)
    }

    fn event(&mut self, happens: Happens) -> Option<Event> {
        let up = self.up.clone();
        Some(match happens {
            Happens::Tick | Happens::Later(_) | Happens::RestartAgent { .. } => Event::Tick,
            Happens::Done(luck) => {
                let task = self.task.take()?;
                Event::Done(self.finish(task, luck))
            }
            Happens::Failed => {
                self.task.take()?;
                Event::Failed(Failure { reason: Reason::Other("Test".into()), message: "it failed".into() })
            }
            Happens::Observed { read_only, super_read_only, offline, k, channel } => {
                let mut seen = self.observation(&up?);
                // What can be read follows what was done, but for the moment in which it changes.
                (seen.read_only, seen.super_read_only) =
                    (!self.unsealed || read_only, !self.unsealed || super_read_only);
                (seen.offline, seen.source_k) = (offline, k);
                seen.channel = channel.then(|| Channel {
                    address: None,
                    receiving: ThreadReport::Stopped,
                    applying: ThreadReport::Running,
                    received: Default::default(),
                });
                Event::Observed { ticket: self.ticket, result: Ok(Box::new(seen)) }
            }
            Happens::Silent => Event::Observed { ticket: self.ticket, result: Err("it does not answer".into()) },
            Happens::Ended => {
                let start = self.up.take()?.start;
                self.unsealed = false;
                Event::Ended { start, how: "killed".into() }
            }
            Happens::Truth => {
                let mut seen = self.observation(&up?);
                (seen.read_only, seen.super_read_only) = (!self.unsealed, !self.unsealed);
                (seen.offline, seen.source_k) = (!self.admitted, self.k);
                Event::Observed { ticket: self.ticket, result: Ok(Box::new(seen)) }
            }
            Happens::Marker => {
                let (epoch, n) = self.written.pop()?;
                self.acknowledged.push(epoch);
                Event::MarkerAcknowledged { start: up?.start, epoch, n }
            }
            Happens::Order { fence, epoch, seq, role: kind, restart } => {
                let mut order = orders(epoch, seq, role(kind));
                order.fence = fence;
                order.wanted.restart = restart.then(|| format!("token-{seq}"));
                order.digest = order.wanted.digest();
                Event::Orders { to: 0, orders: Box::new(order) }
            }
            Happens::Fence(fence) => Event::Fence { to: 0, fence },
            Happens::HostShutdown => Event::HostShutdown,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn nothing_that_happens_makes_the_agent_break_a_law(script in prop::collection::vec(happens(), 1..250)) {
        let mut truth = Truth::default();
        let mut now = Millis(1_000_000);
        let mut state = State::new(me());
        for happens in script {
            now = now.plus(Duration::from_millis(400));
            match &happens {
                Happens::Later(seconds) => now = now.plus(Duration::from_secs(u64::from(*seconds))),
                Happens::RestartAgent { reboot } => {
                    truth.task = None;
                    truth.register_said_yes = false;
                    if *reboot {
                        truth.boots += 1;
                        truth.up = None;
                        truth.unsealed = false;
                    }
                    state = State::new(Me { boot_id: format!("boot-{}", truth.boots), ..me() });
                }
                _ => {}
            }
            if let Some(event) = truth.event(happens) {
                let effects = state.step(now, event);
                truth.check(effects)?;
            }
        }
    }
}
