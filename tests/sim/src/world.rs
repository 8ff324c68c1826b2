//! The simulated world: the cloud in memory, the machines that it boots, the volumes that outlive them, and one queue of what
//! happens when. One thread, virtual time, one seed: the same calls give the same history. Operators are not part of it, so
//! a world can be forked at any call of an operator: what is forked is what a crash there would leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_api::{
    Incarnation, InstanceId, Millis, Realm, ResourceKey, Slot, VolumeId,
    bucket::{ObjectKey, RealmKeys},
    tags::{self, TagVerdict},
};
use drover_cloud::{
    ec2::{Account, Architecture, HostEvent, ImageSpec, InstanceStateName, PowerOff, Tags},
    fake::Fake,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;

use crate::{
    disk::Disk,
    machine::{Happening, Machine},
};

pub const START: Millis = Millis(1_800_000_000_000);

/// A handle to one world.
#[derive(Clone, Debug)]
pub struct Sim(Arc<Mutex<World>>);

#[derive(Debug)]
pub struct World {
    pub fake: Fake,
    pub machines: BTreeMap<InstanceId, Machine>,
    pub disks: BTreeMap<VolumeId, Disk>,
    /// Rows whose clients were told that they are committed, by the life of the set: a namesake owes nothing of them.
    pub acknowledged: BTreeMap<(ResourceKey, Incarnation), BTreeSet<u64>>,
    /// How often agents wake when nothing happens.
    pub tick: Duration,
    /// Out of a thousand orders, how many are taken and their reply is lost.
    pub orders_lost: u16,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) rows: u64,
    /// Operators started so far: their names and randomness.
    pub(crate) processes: u64,
    /// Connections of receivers so far.
    pub(crate) links: u64,
    /// Mutating calls of operators, the lock's aside, and orders to agents.
    pub changes: u64,
    recorder: Option<Vec<Fork>>,
    queue: BTreeMap<(Millis, u64), (InstanceId, u64, Happening)>,
    serial: u64,
}

/// The world right before or right after one call of an operator.
#[derive(Debug)]
pub struct Fork {
    pub call: String,
    pub world: World,
}

// === impl Sim ===

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self::of(World::new(seed))
    }

    pub fn of(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the world is kept before and after every call that changes something.
    pub fn record(&self) {
        self.lock().recorder = Some(Vec::new());
    }

    pub fn recorded(&self) -> Vec<Fork> {
        self.lock().recorder.take().unwrap_or_default()
    }

    pub fn advance(&self, by: Duration) {
        self.lock().advance(by);
    }
}

// === impl World ===

impl World {
    /// An empty account with an image, and an empty bucket.
    fn new(seed: u64) -> Self {
        let mut account = Account::new("eu-test-1");
        account.network_tags = Tags::from([("role".into(), "db".into())]);
        // Room for a thousand machines.
        for (index, subnet) in account.subnets.iter_mut().enumerate() {
            subnet.cidr.base = Ipv4Addr::new(10, 42, 16 * (1 + u8::try_from(index).unwrap_or(0)), 0);
            subnet.cidr.prefix = 20;
        }
        account.images = vec![ImageSpec {
            name: "db".into(),
            description: String::new(),
            architecture: Architecture::Arm64,
            root_size_gib: 8,
            tags: Tags::from([("role".into(), "db".into()), ("mysql-version".into(), "9.7".into())]),
        }];
        Self {
            fake: Fake::new(account, seed, START),
            machines: BTreeMap::new(),
            disks: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            tick: Duration::from_secs(2),
            orders_lost: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            rows: 0,
            processes: 0,
            links: 0,
            changes: 0,
            recorder: None,
            queue: BTreeMap::new(),
            serial: 0,
        }
    }

    /// The same world once more, from here on by itself.
    pub fn fork(&self) -> Self {
        Self {
            fake: self.fake.fork(),
            machines: self.machines.clone(),
            disks: self.disks.clone(),
            acknowledged: self.acknowledged.clone(),
            tick: self.tick,
            orders_lost: self.orders_lost,
            rng: self.rng.clone(),
            rows: self.rows,
            processes: self.processes,
            links: self.links,
            changes: self.changes,
            recorder: None,
            queue: self.queue.clone(),
            serial: self.serial,
        }
    }

    pub(crate) fn keep(&mut self, call: String) {
        if self.recorder.is_some() {
            let fork = Fork { call, world: self.fork() };
            self.recorder.get_or_insert_default().push(fork);
        }
    }

    pub fn now(&self) -> Millis {
        self.fake.now()
    }

    pub(crate) fn schedule(&mut self, after: Duration, id: &InstanceId, life: u64, happening: Happening) {
        self.serial += 1;
        let key = (self.now().plus(after), self.serial);
        self.queue.insert(key, (id.clone(), life, happening));
    }

    /// Lets everything happen that is due within `by`, each at its own time.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now().plus(by);
        loop {
            let ours = self.queue.keys().next().map(|(at, _)| *at);
            let cloud = self.fake.look(|world| world.ec2.next_due());
            let next = ours.into_iter().chain(cloud).min().filter(|at| *at <= until);
            let at = next.unwrap_or(until).max(self.now());
            for event in self.fake.advance(at.since(self.now())) {
                self.host(event);
            }
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= at) {
                let (id, life, happening) = entry.remove();
                self.happen(&id, life, happening);
            }
            if next.is_none() {
                return;
            }
        }
    }

    fn host(&mut self, event: HostEvent) {
        match event {
            HostEvent::StateChanged { instance_id, state } => {
                let id = InstanceId::new(instance_id).expect("the model mints valid ids");
                match state {
                    InstanceStateName::Running => self.boot(&id),
                    InstanceStateName::Stopped | InstanceStateName::Terminated => self.power_off(&id),
                    InstanceStateName::Pending | InstanceStateName::Stopping | InstanceStateName::ShuttingDown => {}
                }
            }
            HostEvent::Stop { instance_id, power_off } | HostEvent::Terminate { instance_id, power_off } => {
                let id = InstanceId::new(instance_id).expect("the model mints valid ids");
                match power_off {
                    PowerOff::Graceful | PowerOff::GracefulThenForced => self.shut_down(&id),
                    PowerOff::AtOnce => self.power_off(&id),
                }
            }
            HostEvent::Reboot { instance_id } => {
                let id = InstanceId::new(instance_id).expect("the model mints valid ids");
                self.power_off(&id);
                self.boot(&id);
            }
            HostEvent::DeleteVolume { volume_id } => {
                let id = VolumeId::new(volume_id).expect("the model mints valid ids");
                self.disks.remove(&id);
            }
            _ => {}
        }
    }

    fn boot(&mut self, id: &InstanceId) {
        let instance = self.fake.look(|world| world.ec2.instance(id.as_str()).cloned());
        let instance = instance.expect("an instance whose state changed is there");
        let TagVerdict::Ours { identity, .. } = tags::read(&realm(), &instance.tags) else {
            panic!("{id} was launched without our tags: {:?}", instance.tags)
        };
        let address = instance.private_ip_address.parse().expect("the model gives addresses");
        let machine = self.machines.entry(id.clone()).or_insert_with(|| Machine::new(id.clone(), address, identity));
        machine.power_on();
        let life = machine.life;
        self.schedule(Duration::from_secs(3), id, life, Happening::AgentStarts);
    }

    /// An object of the bucket, as a machine may read it.
    pub(crate) fn object<T: DeserializeOwned>(&self, key: &ObjectKey) -> Option<T> {
        self.fake.look(|world| {
            let body = world.bucket.object(key)?;
            Some(serde_json::from_slice(body).expect("what operators write can be read"))
        })
    }

    pub(crate) fn jitter(&mut self, base_ms: u64) -> Duration {
        Duration::from_millis(base_ms + self.rng.random_range(0..=base_ms / 2))
    }

    /// The machine that is on in a slot.
    pub fn machine_in(&self, key: &ResourceKey, slot: Slot) -> Option<InstanceId> {
        let found = self.machines.values().filter(|machine| machine.on);
        let mut found = found.filter(|machine| machine.identity.key == *key && machine.identity.slot == slot);
        found.next_back().map(|machine| machine.id.clone())
    }
}

pub fn realm() -> Realm {
    Realm::new("test").expect("a realm")
}

pub fn keys() -> RealmKeys {
    RealmKeys::new("", &realm())
}
