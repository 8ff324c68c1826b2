//! One machine: the real agent's state machine over a model of what its hands would do, each effect taking its time. What an
//! effect does it does when it ends, so a power cut in the middle leaves what a real one would.

use std::{collections::BTreeMap, net::Ipv4Addr, num::NonZeroU64, sync::Arc, time::Duration};

use drover_agent::state::{Effect, Event, Failure, Me, Minted, Outcome, State, Task, Up, VolumeContent};
use drover_api::{
    BuildId, InstanceId, VolumeId, VoterId,
    bucket::ObjectKey,
    clients::DatabaseOrder,
    problems::{Problem, Reason},
    records::{Bundle, CurrentBuilds, Register},
    tags::Identity,
    wire::OrdersReply,
};
use drover_cloud::ec2::AttachmentState;
use rand::{Rng, RngExt};

use crate::{
    disk::Disk,
    mysqld::{Data, Following, Mysqld, What},
    world::{World, keys},
};

/// As an instance is now; what is on its volume is in [`World::disks`].
#[derive(Clone, Debug)]
pub struct Machine {
    pub id: InstanceId,
    pub address: Ipv4Addr,
    pub identity: Identity,
    pub on: bool,
    /// Counts boots: what was under way in an earlier one never ends.
    pub life: u64,
    pub build: Option<BuildId>,
    pub bundle: Option<Bundle>,
    pub agent: Option<Agent>,
    pub mysqld: Option<Mysqld>,
    pub mounted: Option<VolumeId>,
    /// The operator cannot reach the agent.
    pub silent: bool,
    /// Nobody reaches the machine, and it reaches nobody.
    pub cut: bool,
    hint: Option<VolumeId>,
    /// The boot in which its agent last wrote a record to its volume.
    left: Option<String>,
    /// It is mounted, and no record was written to it since.
    begins: bool,
    starts: u64,
    /// Counts the agent's processes.
    agents: u64,
    shutting_down: bool,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub state: State,
    task: Option<Task>,
}

/// What happens to a machine at a time.
#[derive(Clone, Debug)]
pub enum Happening {
    /// systemd starts the agent: it fetches its bundle and its build first.
    AgentStarts,
    Tick {
        agent: u64,
    },
    TaskEnds {
        agent: u64,
    },
    Tell {
        agent: u64,
        event: Box<Event>,
    },
    Observe {
        agent: u64,
        ticket: u64,
    },
}

/// systemd's RestartSec, and between tries of fetching what is not in the bucket yet.
const START_AGAIN: Duration = Duration::from_secs(1);
/// Heartbeats that may wait at once.
const LANES: usize = 3;
/// Client commits that may wait at once.
const CLIENTS: usize = 2;

// === impl Machine ===

impl Machine {
    pub fn new(id: InstanceId, address: Ipv4Addr, identity: Identity) -> Self {
        Self {
            id,
            address,
            identity,
            on: false,
            life: 0,
            build: None,
            bundle: None,
            agent: None,
            mysqld: None,
            mounted: None,
            silent: false,
            cut: false,
            hint: None,
            left: None,
            begins: false,
            starts: 0,
            agents: 0,
            shutting_down: false,
        }
    }

    pub fn power_on(&mut self) {
        self.power_off();
        self.on = true;
    }

    pub fn power_off(&mut self) {
        self.on = false;
        self.shutting_down = false;
        self.life += 1;
        self.agent = None;
        self.mysqld = None;
        self.mounted = None;
    }

    pub fn is_open_leader(&self) -> bool {
        self.on && self.mysqld.as_ref().is_some_and(Mysqld::is_open)
    }
}

// === impl World: machines ===

impl World {
    pub(crate) fn happen(&mut self, id: &InstanceId, life: u64, happening: Happening) {
        let Some(machine) = self.machines.get(id).filter(|machine| machine.on && machine.life == life) else {
            return;
        };
        let current = machine.agents;
        match happening {
            Happening::AgentStarts => self.start_agent(id),
            Happening::Tick { agent } if agent == current => {
                self.clients(id);
                self.replicate(id);
                self.step(id, Event::Tick);
                let tick = self.tick;
                self.schedule(tick, id, life, Happening::Tick { agent });
            }
            Happening::TaskEnds { agent } if agent == current => self.end_task(id),
            Happening::Tell { agent, event } if agent == current => {
                self.step(id, *event);
            }
            Happening::Observe { agent, ticket } if agent == current => {
                let result = self.observation(id).map(Box::new);
                self.step(id, Event::Observed { ticket, result });
            }
            Happening::Tick { .. }
            | Happening::TaskEnds { .. }
            | Happening::Tell { .. }
            | Happening::Observe { .. } => {}
        }
    }

    pub(crate) fn power_off(&mut self, id: &InstanceId) {
        if let Some(machine) = self.machines.get_mut(id) {
            machine.power_off();
        }
    }

    pub(crate) fn shut_down(&mut self, id: &InstanceId) {
        if let Some(machine) = self.machines.get_mut(id) {
            machine.shutting_down = true;
        }
        self.step(id, Event::HostShutdown);
    }

    /// kill -9 of the agent; systemd starts it again.
    pub fn kill_agent(&mut self, id: &InstanceId) {
        let Some(machine) = self.machines.get_mut(id).filter(|machine| machine.on) else { return };
        let killed = machine.agent.take();
        machine.agents += 1;
        let life = machine.life;
        // mkfs in the middle leaves half a file system.
        if let Some(Task::Format(volume)) = killed.and_then(|agent| agent.task) {
            self.disks.entry(volume).or_insert_with(Disk::blank).content = VolumeContent::HalfMade;
        }
        self.schedule(START_AGAIN, id, life, Happening::AgentStarts);
    }

    /// kill -9 of mysqld.
    pub fn kill_mysqld(&mut self, id: &InstanceId) {
        let Some(machine) = self.machines.get_mut(id) else { return };
        let Some(mysqld) = machine.mysqld.take() else { return };
        let ended = Event::Ended { start: mysqld.up.start, how: "killed".into() };
        self.tell(id, ended, Duration::from_millis(10));
    }

    /// Becomes another build, as the operator asked: mysqld goes on.
    pub(crate) fn upgrade(&mut self, id: &InstanceId, build: &BuildId) -> Result<(), String> {
        let there = self.fake.look(|world| world.bucket.object(&keys().binary(build)).is_some());
        let machine = self.machines.get_mut(id).expect("an endpoint has a machine");
        if !there {
            return Err(format!("{build} is not in the bucket"));
        }
        machine.build = Some(build.clone());
        self.kill_agent(id);
        Ok(())
    }

    fn start_agent(&mut self, id: &InstanceId) {
        let now = self.now();
        let machine = &self.machines[id];
        let (life, identity) = (machine.life, machine.identity.clone());
        let incarnation = keys().set(&identity.key).of(&identity.incarnation);
        let bundle: Option<Bundle> = machine.bundle.clone().or_else(|| self.object(&incarnation.bundle(identity.slot)));
        let current = || self.object::<CurrentBuilds>(&keys().current())?.builds.get("arm64").cloned();
        let build = machine.build.clone().or_else(current);
        let (Some(bundle), Some(build)) = (bundle, build) else {
            return self.schedule(START_AGAIN, id, life, Happening::AgentStarts);
        };
        let machine = self.machines.get_mut(id).expect("looked up above");
        let me = Me {
            incarnation: identity.incarnation,
            slot: identity.slot,
            build: build.clone(),
            started: now,
            boot_id: format!("{id}/{life}"),
            installed: Some("9.7.4".into()),
        };
        machine.agents += 1;
        machine.agent = Some(Agent { state: State::new(me), task: None });
        (machine.bundle, machine.build) = (Some(bundle), Some(build));
        let agent = machine.agents;
        let first = self.jitter(200);
        self.schedule(first, id, life, Happening::Tick { agent });
        self.step(id, Event::Tick);
    }

    /// Gives the agent an event and begins what it asks for; answers its reply to orders.
    pub(crate) fn step(&mut self, id: &InstanceId, event: Event) -> Option<OrdersReply> {
        let now = self.now();
        let machine = self.machines.get_mut(id)?;
        let effects = machine.agent.as_mut()?.state.step(now, event);
        let (life, agent) = (machine.life, machine.agents);
        let mut answer = None;
        for effect in effects {
            let machine = self.machines.get_mut(id).expect("looked up above");
            match effect {
                Effect::Persist(record) => {
                    let volume = machine.mounted.clone().expect("a record is persisted on a mounted volume");
                    (machine.left, machine.begins) = (Some(record.boot_id.clone()), false);
                    self.disks.get_mut(&volume).expect("a mounted volume is there").record = Some(*record);
                }
                Effect::Reply { reply, .. } => answer = Some(reply),
                Effect::Do(task) => {
                    let takes = self.jitter(takes_ms(&task));
                    let running = self.machines.get_mut(id).and_then(|machine| machine.agent.as_mut());
                    running.expect("the agent just stepped").task = Some(task);
                    self.schedule(takes, id, life, Happening::TaskEnds { agent });
                }
                Effect::Observe { ticket } => {
                    let takes = self.jitter(20);
                    self.schedule(takes, id, life, Happening::Observe { agent, ticket });
                }
                Effect::Nudge { .. } => self.commit(id, What::Heartbeat(now)),
                Effect::Marker { epoch, n } => self.commit(id, What::Marker(epoch, n)),
                Effect::Heartbeat { .. } => {
                    let beats = |mysqld: &Mysqld| {
                        mysqld.waiting.iter().filter(|waiting| matches!(waiting.what, What::Heartbeat(_))).count()
                    };
                    if machine.mysqld.as_ref().is_some_and(|mysqld| beats(mysqld) < LANES) {
                        self.commit(id, What::Heartbeat(now));
                    }
                }
                Effect::Exit => {
                    machine.agent = None;
                    machine.agents += 1;
                    if !machine.shutting_down {
                        self.schedule(START_AGAIN, id, life, Happening::AgentStarts);
                    }
                    return answer;
                }
            }
        }
        answer
    }

    pub(crate) fn tell(&mut self, id: &InstanceId, event: Event, after: Duration) {
        let machine = &self.machines[id];
        let (life, agent) = (machine.life, machine.agents);
        self.schedule(after, id, life, Happening::Tell { agent, event: Box::new(event) });
    }

    fn end_task(&mut self, id: &InstanceId) {
        let agent = self.machines.get_mut(id).and_then(|machine| machine.agent.as_mut());
        let Some(task) = agent.and_then(|agent| agent.task.take()) else { return };
        let event = match self.perform(id, task) {
            Ok(outcome) => Event::Done(outcome),
            Err(message) => Event::Failed(Failure { reason: Reason::Other("Simulated".into()), message }),
        };
        self.step(id, event);
    }

    fn perform(&mut self, id: &InstanceId, task: Task) -> Result<Outcome, String> {
        match task {
            Task::LookAround => self.look_around(id),
            Task::LookAtVolume(volume) => Ok(Outcome::Volume(self.look_at_volume(id, &volume))),
            Task::Format(volume) => {
                self.attached(id, &volume)?;
                self.disks.entry(volume.clone()).or_insert_with(Disk::blank).format(&volume);
                Ok(Outcome::Plain)
            }
            Task::Mount(volume) => self.mount(id, &volume),
            Task::Unmount => {
                self.machine(id).mounted = None;
                self.machine(id).hint = None;
                Ok(Outcome::Plain)
            }
            Task::Initialise { server_uuid, .. } => {
                let disk = self.disk(id)?;
                assert!(disk.data.is_none(), "{id}: data is initialised over data");
                disk.data = Some(Data::initialised(&server_uuid));
                Ok(Outcome::Plain)
            }
            Task::Seed { donor, credential, server_uuid, .. } => {
                let source = self.server_at(id, donor.address).ok_or("the donor does not answer")?;
                let waiting = self.machines[&source].mysqld.as_ref().map_or(0, |mysqld| mysqld.waiting.len());
                let data = self.data(&source).filter(|data| data.lets_in(&credential));
                let copy = data.ok_or("the donor refuses the clone account")?.cloned(&server_uuid, waiting);
                let disk = self.disk(id)?;
                assert!(disk.data.is_none(), "{id}: data is seeded over data");
                disk.data = Some(copy);
                Ok(Outcome::Plain)
            }
            Task::Start(_) => self.start_mysqld(id),
            Task::ReadRegister => {
                let identity = self.machines[id].identity.clone();
                let key: ObjectKey = keys().set(&identity.key).of(&identity.incarnation).register();
                Ok(Outcome::Register(self.object::<Register>(&key).map(Box::new)))
            }
            Task::Flush => Ok(Outcome::Plain),
            Task::Terminate => {
                self.kill_mysqld(id);
                Ok(Outcome::Plain)
            }
            task => self.sql(id, task),
        }
    }

    fn sql(&mut self, id: &InstanceId, task: Task) -> Result<Outcome, String> {
        let now = self.now();
        if let Task::Close = task {
            // It waits for what is in flight, and acknowledgements take milliseconds.
            self.replicate(id);
        }
        let (mysqld, data) = self.server(id)?;
        match task {
            Task::Close => {
                mysqld.offline = true;
                let returned = mysqld.waiting.is_empty();
                if returned {
                    (mysqld.read_only, mysqld.super_read_only) = (true, true);
                }
                return Ok(Outcome::Closed { returned });
            }
            Task::Seal => (mysqld.read_only, mysqld.super_read_only) = (true, true),
            Task::Accounts { accounts, clone, .. } => data.set_accounts(&accounts, &clone),
            Task::SemiSync { k } => {
                assert!(!mysqld.is_open(), "{id}: semi-sync is touched while open");
                mysqld.source_k = k;
            }
            Task::Unseal => {
                assert!(mysqld.offline, "{id}: writable while clients are let in");
                (mysqld.read_only, mysqld.super_read_only) = (false, false);
            }
            Task::Admit => mysqld.offline = false,
            Task::Expose => {
                assert!(mysqld.super_read_only, "{id}: a writable replica is exposed");
                mysqld.offline = false;
            }
            Task::Admin(_) => {
                self.commit(id, What::Admin);
                self.replicate(id);
                let (mysqld, _) = self.server(id)?;
                if mysqld.waiting.iter().any(|waiting| waiting.what == What::Admin) {
                    return Err("it waits for its acknowledgements".into());
                }
            }
            Task::Databases(ordered) => return self.make_databases(id, &ordered),
            Task::DropDatabase(name) => {
                self.commit(id, What::NoDatabase(name.as_str().into()));
                self.replicate(id);
                return Ok(Outcome::Plain);
            }
            Task::User(step) => {
                let what = What::User(Arc::new(data.stepped(&step, now)));
                self.commit(id, what.clone());
                self.replicate(id);
                let (mysqld, _) = self.server(id)?;
                if mysqld.waiting.iter().any(|waiting| waiting.what == what) {
                    let message = "it waits for its acknowledgements".into();
                    return Ok(Outcome::User(Problem { reason: Reason::UserFailed, message }));
                }
                return Ok(Outcome::Plain);
            }
            Task::Discard => {
                data.channel = None;
                (mysqld.receiving, mysqld.applying, mysqld.link) = (false, false, None);
            }
            Task::Apply => mysqld.applying = true,
            Task::Follow { source, credential, fresh } => {
                assert!(fresh || mysqld.applying, "{id}: CHANGE with the applier standing destroys its relay log");
                let relay = data.channel.take().map(|channel| (channel.received, channel.relay));
                let mut following = Following::to(&source, &credential);
                match (fresh, relay) {
                    (true, None) => {}
                    (false, Some((received, relay))) => (following.received, following.relay) = (received, relay),
                    (fresh, relay) => panic!("{id} follows fresh={fresh} with a channel: {}", relay.is_some()),
                }
                data.channel = Some(following);
                (mysqld.receiving, mysqld.applying, mysqld.link) = (true, true, None);
            }
            Task::Acknowledge(on) => {
                mysqld.replica_semi_sync = on;
                (mysqld.receiving, mysqld.applying, mysqld.link) = (true, true, None);
            }
            Task::Resume => (mysqld.receiving, mysqld.applying) = (true, true),
            other => panic!("{other:?} is not done by SQL"),
        }
        self.replicate(id);
        Ok(Outcome::Plain)
    }

    fn make_databases(&mut self, id: &InstanceId, ordered: &[DatabaseOrder]) -> Result<Outcome, String> {
        let (_, data) = self.server(id)?;
        let missing = ordered.iter().filter(|order| !data.databases.contains(order.name.as_str()));
        let missing: Vec<Arc<str>> = missing.map(|order| order.name.as_str().into()).collect();
        for name in missing {
            self.commit(id, What::Database(name));
        }
        self.replicate(id);
        let (_, data) = self.server(id)?;
        let made = data.databases.iter().map(ToString::to_string).collect();
        Ok(Outcome::Databases { made, failed: BTreeMap::new() })
    }

    fn look_around(&mut self, id: &InstanceId) -> Result<Outcome, String> {
        let minted = self.minted();
        let machine = &self.machines[id];
        let mounted = machine.mounted.as_ref();
        let mounted = mounted
            .map(|volume| Box::new(self.disks[volume].mounted(volume, machine.left.clone(), machine.begins, minted)));
        let server = machine.mysqld.as_ref().map(|mysqld| mysqld.up.clone());
        Ok(Outcome::Around { server, mounted, hint: machine.hint.clone() })
    }

    fn look_at_volume(&mut self, id: &InstanceId, volume: &VolumeId) -> VolumeContent {
        match self.attached(id, volume) {
            Ok(()) => self.disks.entry(volume.clone()).or_insert_with(Disk::blank).content.clone(),
            Err(_) => VolumeContent::NoDevice,
        }
    }

    fn mount(&mut self, id: &InstanceId, volume: &VolumeId) -> Result<Outcome, String> {
        self.attached(id, volume)?;
        let minted = self.minted();
        let machine = self.machine(id);
        if machine.hint.as_ref() != Some(volume) {
            machine.left = None;
        }
        let anew = machine.begins || machine.mounted.as_ref() != Some(volume);
        machine.mounted = Some(volume.clone());
        machine.hint = Some(volume.clone());
        // Until a record is written, whoever finds it mounted is not to take it for what was left.
        machine.begins = anew;
        let left = machine.left.clone();
        let disk = self.disks.get(volume).ok_or("there is no such volume")?;
        Ok(Outcome::Mounted(Box::new(disk.mounted(volume, left, anew, minted))))
    }

    fn start_mysqld(&mut self, id: &InstanceId) -> Result<Outcome, String> {
        let now = self.now();
        if self.disk(id)?.data.is_none() {
            return Err("there is no data directory".into());
        }
        let machine = self.machine(id);
        machine.starts += 1;
        let start = format!("{id}/{}", machine.starts);
        let up = Up { start, pid: 100 + u32::try_from(machine.starts).unwrap_or(0), since: now };
        machine.mysqld = Some(Mysqld::start(up.clone()));
        Ok(Outcome::Started(up))
    }

    /// The volume's device is there.
    fn attached(&self, id: &InstanceId, volume: &VolumeId) -> Result<(), String> {
        let attached = self.fake.look(|world| {
            let attachment = world.ec2.volume(volume.as_str())?.attachment.as_ref()?;
            Some(attachment.instance_id == id.as_str() && attachment.state == AttachmentState::Attached)
        });
        if attached == Some(true) { Ok(()) } else { Err(format!("the device of {volume} is not there")) }
    }

    fn clients(&mut self, id: &InstanceId) {
        let machine = &self.machines[id];
        let waits =
            |mysqld: &Mysqld| mysqld.waiting.iter().filter(|waiting| matches!(waiting.what, What::Row(_))).count();
        let writes = machine.is_open_leader() && machine.mysqld.as_ref().is_some_and(|mysqld| waits(mysqld) < CLIENTS);
        if writes && self.rng.random_range(0..4) == 0 {
            self.rows += 1;
            self.commit(id, What::Row(self.rows));
        }
    }

    fn minted(&mut self) -> Minted {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        let voter_id = VoterId::new(&hex[..16]).expect("16 hex digits are a voter id");
        let server_uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let life_step = NonZeroU64::new(self.rng.random_range(1..1 << 40)).expect("at least one");
        Minted { voter_id, server_uuid, life_step }
    }

    pub fn machine(&mut self, id: &InstanceId) -> &mut Machine {
        self.machines.get_mut(id).expect("what happens, happens to a machine that is there")
    }

    fn disk(&mut self, id: &InstanceId) -> Result<&mut Disk, String> {
        let mounted = self.machines[id].mounted.clone().ok_or("nothing is mounted")?;
        Ok(self.disks.get_mut(&mounted).expect("a mounted volume is there"))
    }
}

fn takes_ms(task: &Task) -> u64 {
    match task {
        Task::LookAround => 300,
        Task::LookAtVolume(_) | Task::Mount(_) | Task::Unmount | Task::Flush => 200,
        Task::Format(_) | Task::Start(_) => 2_000,
        Task::Initialise { .. } => 6_000,
        Task::Seed { .. } => 8_000,
        _ => 60,
    }
}
