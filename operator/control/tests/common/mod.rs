//! A small world for whole operators: the cloud in memory, and agents that do at once what they are told.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_api::{
    BuildId, GtidSet, InstanceId, Millis, Realm, ResourceKey,
    bucket::RealmKeys,
    clients::{Clients, ClientsReport, Mark, UserOrder},
    defaults::Terms,
    manifest,
    wire::{
        Accepted, BuildOrder, DataReport, LeaderPhase, MysqlReport, Orders, OrdersReply, Promise, Report, RoleOrder,
        Running, RunningRole, ServerReport, ThreadReport, VolumeReport, Voting,
    },
};
use drover_cloud::{
    ec2::{Account, Architecture, ImageSpec, Tags},
    fake::Fake,
    flaky::{Flaky, Plan as Faults},
};
use drover_control::{AgentError, Agents, Clock, Config, Endpoint, Entropy, Operator, Pace};
use drover_plan::{
    Observed, Plan,
    observed::{Agent, Intent},
};

pub const START: Millis = Millis(1_800_000_000_000);
pub const LEASE: Duration = Duration::from_secs(30);
pub const DEADLINE: Duration = Duration::from_secs(10);

pub type Process = Operator<Flaky<Fake>, Playing>;

/// The fake cloud's time, on which one process may be behind.
#[derive(Debug)]
pub struct FakeClock(pub Fake);

impl Clock for FakeClock {
    fn now(&self) -> Millis {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.now().since(Millis(0))
    }
}

/// Counts: every process of a test gets a range of its own.
#[derive(Debug)]
pub struct Counting(pub AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::Relaxed);
        bytes.fill(0);
        let count = bytes.len().min(8);
        bytes[..count].copy_from_slice(&next.to_be_bytes()[8 - count..]);
    }
}

/// Agents that accept every order and report it as done. What they hold is on the machines, not in the operator: it outlives
/// the processes of a test.
#[derive(Clone, Debug, Default)]
pub struct Playing {
    machines: Arc<Mutex<BTreeMap<InstanceId, Played>>>,
    /// Done before reports are answered: what happens to a process in the middle of a pass.
    pub meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

pub struct Meanwhile(pub Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

#[derive(Clone, Debug, Default)]
struct Played {
    orders: Option<Orders>,
    seq: u64,
    /// What it was told to become.
    build: Option<BuildId>,
    upgrades: u64,
}

impl Playing {
    /// The last orders of a machine.
    pub fn last(&self, instance: &InstanceId) -> Option<Orders> {
        self.machines.lock().expect("not poisoned").get(instance).and_then(|played| played.orders.clone())
    }

    pub fn build(&self, instance: &InstanceId) -> Option<BuildId> {
        self.machines.lock().expect("not poisoned").get(instance).and_then(|played| played.build.clone())
    }

    /// Builds that agents were told to become so far.
    pub fn upgrades(&self) -> u64 {
        self.machines.lock().expect("not poisoned").values().map(|played| played.upgrades).sum()
    }

    /// Orders that were accepted so far.
    pub fn orders(&self) -> u64 {
        self.machines.lock().expect("not poisoned").values().map(|played| played.seq).sum()
    }
}

impl Agents for Playing {
    async fn reports(&self, endpoints: &BTreeMap<InstanceId, Endpoint>, _fence: u64) -> BTreeMap<InstanceId, Agent> {
        let meanwhile = self.meanwhile.lock().expect("not poisoned").take();
        if let Some(Meanwhile(meanwhile)) = meanwhile {
            meanwhile();
        }
        let machines = self.machines.lock().expect("not poisoned");
        let report = |endpoint: &Endpoint| {
            let played = machines.get(&endpoint.instance).cloned().unwrap_or_default();
            Agent { report: Some(report(endpoint, &played)), heard: Some(START), unreachable: None }
        };
        endpoints.iter().map(|(id, endpoint)| (id.clone(), report(endpoint))).collect()
    }

    async fn order(&self, endpoint: &Endpoint, orders: &Orders) -> Result<OrdersReply, AgentError> {
        let mut machines = self.machines.lock().expect("not poisoned");
        let played = machines.entry(endpoint.instance.clone()).or_default();
        if let Some(known) = played.orders.as_ref().filter(|known| known.rank() >= orders.rank()) {
            let (fence, epoch, seq) = known.rank();
            return Ok(OrdersReply::Stale { fence, epoch, seq });
        }
        played.orders = Some(orders.clone());
        played.seq += 1;
        Ok(OrdersReply::Accepted)
    }

    async fn upgrade(&self, endpoint: &Endpoint, order: &BuildOrder) -> Result<(), AgentError> {
        let mut machines = self.machines.lock().expect("not poisoned");
        let played = machines.entry(endpoint.instance.clone()).or_default();
        (played.build, played.upgrades) = (Some(order.build.clone()), played.upgrades + 1);
        Ok(())
    }
}

fn report(endpoint: &Endpoint, played: &Played) -> Report {
    let orders = played.orders.as_ref();
    let voting = orders.map(|orders| Voting {
        voter_id: format!("voter-{}", orders.wanted.volume.id).to_lowercase().parse().expect("a voter id"),
        generation: 1,
        life: 1,
        server_uuid: uuid(endpoint.slot.server_id()),
    });
    Report {
        seq: played.seq,
        started: START,
        build: played.build.clone().unwrap_or_else(|| BuildId::new("ab".repeat(32)).expect("a build")),
        incarnation: endpoint.incarnation.clone(),
        slot: endpoint.slot,
        boot_id: "boot".into(),
        clock: START,
        accepted: orders.map(|orders| Accepted {
            fence: orders.fence,
            epoch: orders.epoch,
            seq: orders.seq,
            digest: orders.digest.clone(),
        }),
        promised: orders.map(|orders| Promise { epoch: orders.epoch, claim: orders.claim.clone() }),
        volume: voting.map_or(VolumeReport::Waiting, VolumeReport::Mounted),
        mysql: MysqlReport {
            data: orders.map_or(DataReport::Unknown, |_| DataReport::Present),
            server: orders.map_or(ServerReport::Stopped, |orders| server(endpoint, orders)),
            installed: Some("9.7.4".into()),
            restarted: None,
            restart_failed: None,
            asked: false,
        },
        ordered_build: None,
        problems: vec![],
    }
}

fn server(endpoint: &Endpoint, orders: &Orders) -> ServerReport {
    let executed: GtidSet = format!("{}:1-9", uuid(1)).parse().expect("a GTID set");
    let role = match &orders.wanted.role {
        RoleOrder::Closed => return ServerReport::Stopped,
        RoleOrder::Leader(leader) => RunningRole::Leader {
            epoch: orders.epoch,
            phase: if leader.open { LeaderPhase::Open } else { LeaderPhase::Closed },
            acknowledgers: leader.accounts.iter().map(|account| account.slot).collect(),
            accounts_made: true,
            marker: leader.open.then_some(leader.marker),
            heartbeat: Some(START),
            clients: made(&leader.clients),
        },
        RoleOrder::Replica(replica) => RunningRole::Replica {
            source: Some(replica.source.slot),
            receiving: ThreadReport::Running,
            applying: ThreadReport::Running,
            received: executed.clone(),
            acknowledges: replica.acknowledges,
            lag_ms: Some(3),
        },
    };
    ServerReport::Running(Running {
        pid: 100,
        started: START,
        version: "9.7.4".into(),
        server_uuid: uuid(endpoint.slot.server_id()),
        executed,
        role,
    })
}

fn made(clients: &Clients) -> ClientsReport {
    let mark =
        |order: &UserOrder| Mark { version: order.version.clone(), changed: START, grants: Some(order.grants.clone()) };
    let users = clients.users.iter().map(|order| (order.name.clone(), mark(order)));
    ClientsReport { users: users.collect(), ..ClientsReport::default() }
}

fn uuid(n: u32) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}

/// A cloud, its agents, and the processes that come and go.
pub struct World {
    pub fake: Fake,
    pub agents: Playing,
    processes: AtomicU64,
}

impl World {
    pub fn new() -> Self {
        let mut account = Account::new("eu-test-1");
        account.network_tags = Tags::from([("role".into(), "db".into())]);
        account.images = vec![ImageSpec {
            name: "db".into(),
            description: String::new(),
            architecture: Architecture::Arm64,
            root_size_gib: 8,
            tags: Tags::from([("role".into(), "db".into()), ("mysql-version".into(), "9.7".into())]),
        }];
        Self { fake: Fake::new(account, 1, START), agents: Playing::default(), processes: AtomicU64::new(1) }
    }

    /// A new process with nothing but its configuration, and what its calls meet.
    pub fn start(&self) -> (Process, Faults) {
        self.start_deciding(drover_plan::plan)
    }

    /// The same, with another planner.
    pub fn start_deciding(&self, plan: fn(&Observed) -> Plan) -> (Process, Faults) {
        self.start_with(|config| Config { plan, ..config })
    }

    /// The same, configured otherwise.
    pub fn start_with(&self, otherwise: impl FnOnce(Config) -> Config) -> (Process, Faults) {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let faults = Faults::new(number);
        let cloud = Flaky::new(self.fake.clone(), faults.clone());
        let config = otherwise(config(&format!("process {number}")));
        let clock = Arc::new(FakeClock(self.fake.clone()));
        let entropy = Arc::new(Counting(AtomicU64::new(number << 32)));
        (Operator::new(Arc::new(cloud), Arc::new(self.agents.clone()), clock, entropy, config), faults)
    }

    /// Passes, three seconds apart, until a pass wants nothing and every set is ready; the number of passes.
    #[expect(clippy::panic, reason = "a test that fails says how the sets are")]
    pub fn settle(&self, operator: &mut Process) -> usize {
        for pass in 1..=PASSES_MAX {
            let outcome = futures::executor::block_on(operator.pass());
            let quiet = outcome.plan.is_some_and(|plan| plan.is_quiet() && plan.reports.values().all(|set| set.ready));
            if quiet {
                return pass;
            }
            self.fake.advance(Duration::from_secs(3));
        }
        panic!("not settled after {PASSES_MAX} passes: {:#?}", operator.snapshots().borrow());
    }

    pub fn passes(&self, operator: &mut Process, count: usize) {
        for _ in 0..count {
            futures::executor::block_on(operator.pass());
            self.fake.advance(Duration::from_secs(3));
        }
    }

    /// Instances that are not terminated, and volumes of ours.
    pub fn count(&self) -> (usize, usize) {
        self.fake.look(|world| {
            let machines = world.ec2.instances().filter(|instance| format!("{:?}", instance.state) != "Terminated");
            let data = world.ec2.volumes().filter(|volume| volume.tags.contains_key("drover:volume"));
            (machines.count(), data.count())
        })
    }

    /// Everything that lies in the bucket but the lock.
    pub fn records(&self) -> BTreeMap<String, Vec<u8>> {
        let lock = RealmKeys::new("", &realm()).lock();
        self.fake.look(|world| {
            let keys: Vec<_> = world.bucket.keys().filter(|key| **key != lock).cloned().collect();
            keys.iter()
                .map(|key| (key.to_string(), world.bucket.object(key).map(<[u8]>::to_vec).unwrap_or_default()))
                .collect()
        })
    }

    /// EC2 calls that changed something since `position` of its log.
    pub fn changes_since(&self, position: u64) -> Vec<String> {
        self.fake.look(|world| {
            let changed = world.ec2.log().since(position).filter(|entry| entry.changed_something());
            changed.map(|entry| entry.action.clone()).collect()
        })
    }

    pub fn position(&self) -> u64 {
        self.fake.look(|world| world.ec2.log().position())
    }
}

/// Booting takes 15 s and attaching 2; a set of four is made within minutes.
const PASSES_MAX: usize = 400;

/// What every operator here is told; `holder` is what it calls itself.
pub fn config(holder: &str) -> Config {
    Config {
        realm: realm(),
        prefix: String::new(),
        holder: holder.into(),
        lease: LEASE,
        deadline: DEADLINE,
        pace: Pace::default(),
        machines_max: None,
        user_data: "#!/bin/sh\n".into(),
        binaries: vec![],
        plan: drover_plan::plan,
    }
}

pub fn realm() -> Realm {
    Realm::new("test").expect("a realm")
}

pub fn key(name: &str) -> ResourceKey {
    ResourceKey { namespace: "default".parse().expect("a namespace"), name: name.parse().expect("a name") }
}

/// A set as a manifest would declare it.
pub fn declare(name: &str, members: u8, readers: u16) -> BTreeMap<ResourceKey, Intent> {
    let text = format!(
        r#"
apiVersion: drover.dev/v1alpha1
kind: MySQLReplicaSet
metadata: {{name: {name}}}
spec:
  members: {members}
  readReplicas: {readers}
  version: "9.7"
  machine:
    image: {{tags: {{role: db}}}}
    instanceTypes: [m7g.large]
    subnets: {{tags: {{role: db}}}}
    securityGroups: {{tags: {{role: db}}}}
    instanceProfile: machine
"#
    );
    let (manifests, errors) = manifest::parse("test.yaml", &text);
    assert_eq!(errors, []);
    manifests
        .into_iter()
        .map(|manifest| {
            let set = manifest.resolve(&Terms::default());
            (manifest.key, Intent { set, generation: 1, requests: vec![] })
        })
        .collect()
}
