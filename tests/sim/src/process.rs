//! Operator processes: the real operator over the guarded cloud, with virtual clocks, seeded randomness, and a way to every
//! agent. Ending one is dropping it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_agent::state::Event;
use drover_api::{
    BuildId, InstanceId, Millis,
    wire::{BuildOrder, Orders, OrdersReply},
};
use drover_cloud::{
    fake::Fake,
    flaky::{Flaky, Plan as Faults},
};
use drover_control::{
    AgentError, Agents, Clock, Config, Endpoint, Entropy, Operator, Pace, PassOutcome, lock::LockError, publish::Binary,
};
use drover_plan::observed::Agent;
use futures::FutureExt;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    guard::Guarded,
    world::{Sim, realm},
};

/// How long a challenger waits.
pub const LEASE: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(10);

/// One operator process.
#[derive(Debug)]
pub struct Process {
    pub operator: Operator<Flaky<Guarded>, Reached>,
    pub faults: Faults,
    pub holder: String,
    stops: Stops,
}

/// What an operator is made of, for whoever runs it in another way than pass by pass.
pub struct Parts {
    pub cloud: Guarded,
    pub agents: Reached,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub config: Config,
    faults: Faults,
    stops: Stops,
}

/// A moment in which a process may be stopped, as SIGSTOP does it, until it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It knows what objects there are below a prefix of the bucket: whether the agent's binary is there, before anything else.
    Listed,
    /// It has looked at the cloud and heard the agents, and has not acted yet.
    Heard,
    /// It has sent its nth mutating call or order, and has the answer.
    Changed(u64),
}

/// Where a process is to be stopped, and what happens to the world until it goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stops(Arc<Mutex<Stop>>);

#[derive(Default)]
struct Stop {
    changes: u64,
    reached: Vec<Moment>,
    at: Option<(Moment, Box<dyn FnOnce() + Send>)>,
}

/// The agents, as one process reaches them.
#[derive(Debug)]
pub struct Reached {
    sim: Sim,
    faults: Faults,
    heard: Mutex<BTreeMap<InstanceId, Agent>>,
    stops: Stops,
}

struct VirtualClock(Fake);

struct Seeded(Mutex<ChaCha8Rng>);

// === impl Parts ===

impl Parts {
    /// Of a new process. `build` stands for the agent's binary that it carries.
    pub fn new(sim: &Sim, build: char) -> Self {
        let (number, fake, seed) = {
            let mut world = sim.lock();
            world.processes += 1;
            (world.processes, world.fake.clone(), world.rng.random())
        };
        let holder = format!("process {number}");
        let faults = Faults::new(seed);
        let stops = Stops::default();
        let cloud = Guarded::new(sim.clone(), holder.clone(), stops.clone());
        let agents =
            Reached { sim: sim.clone(), faults: faults.clone(), heard: Mutex::default(), stops: stops.clone() };
        let binary = Binary {
            architecture: "arm64".into(),
            build: BuildId::new(build.to_string().repeat(64)).expect("64 hex digits are a build"),
            // Any bytes: nothing runs them here.
            path: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
        };
        let config = Config {
            realm: realm(),
            prefix: String::new(),
            holder,
            lease: LEASE,
            deadline: DEADLINE,
            pace: Pace::default(),
            machines_max: None,
            user_data: format!("#!/bin/sh\n# of build {build}\n"),
            binaries: vec![binary],
            plan: drover_plan::plan,
        };
        let clock = Arc::new(VirtualClock(fake));
        let entropy = Arc::new(Seeded(Mutex::new(ChaCha8Rng::seed_from_u64(seed))));
        Self { cloud, agents, clock, entropy, config, faults, stops }
    }
}

// === impl Process ===

impl Process {
    /// A new process with an empty memory. `build` stands for the agent's binary that it carries.
    pub fn start(sim: &Sim, build: char) -> Self {
        let Parts { cloud, agents, clock, entropy, config, faults, stops } = Parts::new(sim, build);
        let holder = config.holder.clone();
        let cloud = Flaky::new(cloud, faults.clone());
        let operator = Operator::new(Arc::new(cloud), Arc::new(agents), clock, entropy, config);
        Self { operator, faults, holder, stops }
    }

    pub fn pass(&mut self) -> PassOutcome {
        self.operator.pass().now_or_never().expect("the cloud in memory answers at the first poll")
    }

    /// When it next gets there, it is stopped until `meanwhile` has happened.
    pub fn stop_at(&self, moment: Moment, meanwhile: impl FnOnce() + Send + 'static) {
        locked(&self.stops.0).at = Some((moment, Box::new(meanwhile)));
    }

    /// Every moment that it got to since this was asked last, each once. Its changes are mutating calls, the lock's aside, and orders
    /// to agents.
    pub fn reached(&self) -> Vec<Moment> {
        std::mem::take(&mut locked(&self.stops.0).reached)
    }

    /// Gives the lock up, as a graceful end does; it may fail, and then the lease ends by itself.
    pub fn release(&self) -> Result<(), LockError> {
        self.operator.release().now_or_never().expect("the cloud in memory answers at the first poll")
    }
}

// === impl Stops ===

impl Stops {
    pub(crate) fn changed(&self) {
        let changes = {
            let mut stop = locked(&self.0);
            stop.changes += 1;
            stop.changes
        };
        self.reach(Moment::Changed(changes));
    }

    pub(crate) fn reach(&self, moment: Moment) {
        let stop = {
            let mut stop = locked(&self.0);
            if !stop.reached.contains(&moment) {
                stop.reached.push(moment);
            }
            stop.at.take_if(|(at, _)| *at == moment)
        };
        if let Some((_, meanwhile)) = stop {
            meanwhile();
        }
    }
}

// === impl Reached ===

impl Agents for Reached {
    async fn reports(&self, endpoints: &BTreeMap<InstanceId, Endpoint>, fence: u64) -> BTreeMap<InstanceId, Agent> {
        let mut world = self.sim.lock();
        let mut heard = locked(&self.heard);
        heard.retain(|id, _| endpoints.contains_key(id));
        for (id, endpoint) in endpoints {
            let reached = world.machines.get(id).filter(|machine| is_reached(machine, endpoint));
            let lower = |agent: &crate::machine::Agent| !self.faults.crashed() && agent.state.fence() < fence;
            if reached.and_then(|machine| machine.agent.as_ref()).is_some_and(lower) {
                world.step(id, Event::Fence { to: 1, fence });
            }
            let agent = heard.entry(id.clone()).or_insert(Agent { report: None, heard: None, unreachable: None });
            let machine = world.machines.get(id).filter(|machine| is_reached(machine, endpoint));
            let found = machine.and_then(|machine| machine.agent.as_ref()).ok_or("no answer".to_owned());
            match found.and_then(|found| found.state.report().cloned()) {
                Ok(report) => *agent = Agent { report: Some(report), heard: Some(world.now()), unreachable: None },
                Err(why) => agent.unreachable = Some(why),
            }
        }
        let answer = heard.clone();
        drop((heard, world));
        self.stops.reach(Moment::Heard);
        answer
    }

    async fn order(&self, endpoint: &Endpoint, orders: &Orders) -> Result<OrdersReply, AgentError> {
        let unreachable = |why: &str| Err(AgentError::Unreachable { address: endpoint.address, why: why.to_owned() });
        if self.faults.crashed() {
            return unreachable("the process has ended");
        }
        let mut world = self.sim.lock();
        let reached = world.machines.get(&endpoint.instance).is_some_and(|machine| is_reached(machine, endpoint));
        if !reached {
            return unreachable("no answer");
        }
        world.keep(format!("before an order to {}", endpoint.slot));
        world.changes += 1;
        let reply = world.step(&endpoint.instance, Event::Orders { to: 1, orders: Box::new(orders.clone()) });
        world.keep(format!("after an order to {}", endpoint.slot));
        let lost = world.orders_lost;
        let answer = match reply {
            Some(_) if world.rng.random_range(0..1000) < lost => unreachable("the reply was lost"),
            Some(reply) => Ok(reply),
            None => unreachable("no agent runs"),
        };
        drop(world);
        self.stops.changed();
        answer
    }

    async fn upgrade(&self, endpoint: &Endpoint, order: &BuildOrder) -> Result<(), AgentError> {
        let mut world = self.sim.lock();
        let reached = world.machines.get(&endpoint.instance).is_some_and(|machine| is_reached(machine, endpoint));
        if self.faults.crashed() || !reached {
            return Err(AgentError::Unreachable { address: endpoint.address, why: "no answer".into() });
        }
        world.keep(format!("before an upgrade of {}", endpoint.slot));
        world.changes += 1;
        let done = world.upgrade(&endpoint.instance, &order.build);
        world.keep(format!("after an upgrade of {}", endpoint.slot));
        drop(world);
        self.stops.changed();
        done.map_err(|body| AgentError::Refused { address: endpoint.address, status: 400, body })
    }
}

/// There is an agent at that address which proves to be who is meant.
fn is_reached(machine: &crate::machine::Machine, endpoint: &Endpoint) -> bool {
    let trusted = machine.bundle.as_ref().is_some_and(|bundle| bundle.ca_pem == endpoint.ca.certificate_pem);
    machine.on
        && !machine.silent
        && !machine.cut
        && trusted
        && machine.agent.is_some()
        && machine.address == endpoint.address
        && machine.identity.slot == endpoint.slot
        && machine.identity.incarnation == endpoint.incarnation
}

// === impl Clock, Entropy ===

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.now().since(Millis(0))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        locked(&self.0).fill_bytes(bytes);
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts of {}", self.config.holder)
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stop at {:?} of {}", self.at.as_ref().map(|(moment, _)| moment), self.changes)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
