//! Looks at the world and freezes it. One machine list per realm and interval, one volume list in a slower lane, records once
//! per lease, catalogs every few minutes: what a pass costs does not grow with the number of sets (law 6).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{
    BuildId, Incarnation, InstanceId, ResourceKey, Slot,
    bucket::ObjectKey,
    defaults::ResolvedSet,
    records::CurrentBuilds,
    tags::{Identity, TagVerdict},
};
use drover_cloud::{
    CloudError, Machines, Objects, Volumes,
    machines::{self, MachineState},
};
use drover_plan::{
    Observed,
    observed::{self, Agent, Fleet, Seen},
};
use futures::{StreamExt, stream};

use crate::{
    agents::{Agents, Endpoint},
    fleet,
    operator::Operator,
    store::{self, StoredSet},
};

/// How often the cloud is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// One DescribeInstances per realm and this interval, per 1,000 machines.
    pub machines: Duration,
    pub volumes: Duration,
    /// While a call of ours is not visible yet, or a machine is on its way between two states.
    pub hurried: Duration,
    /// How often a bucket is asked which sets it names: only another writer, or a person, changes that.
    pub bucket: Duration,
}

/// Sets whose records are read at the same time.
const SETS_READ_MAX: usize = 16;

impl Default for Pace {
    fn default() -> Self {
        Self {
            machines: Duration::from_secs(12),
            volumes: Duration::from_secs(60),
            hurried: Duration::from_secs(3),
            bucket: Duration::from_secs(300),
        }
    }
}

/// What the bucket says of the realm as a whole.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) named: Vec<ResourceKey>,
    builds: BTreeMap<String, BuildId>,
    pub(crate) listed: Option<Duration>,
    /// Why the latest look failed, if it did.
    pub(crate) failing: Option<String>,
}

impl<C: Machines + Volumes + Objects, A: Agents> Operator<C, A> {
    /// Looks, and changes nothing. `fence` is what agents are told; 0 where nobody holds the lock.
    pub(crate) async fn observe(&mut self, fence: u64) -> Observed {
        self.list_machines().await;
        self.list_volumes().await;
        self.look_into_bucket().await;
        self.read_records().await;
        let machines = self.memory.fresh.over_machines(&self.memory.machines.shown);
        self.memory.catalogs.learn_types(&*self.cloud, &machines, self.clock.monotonic()).await;
        let now = self.clock.now();
        let fleet = self.fleet(&machines);
        self.endpoints = self.reachable(&fleet);
        let agents = self.hear(fence).await;
        let wanted = self.intents.iter();
        let wanted = wanted.filter_map(|(key, intent)| Some((key.clone(), intent.set.as_ref().ok()?)));
        let wanted: BTreeMap<ResourceKey, _> = wanted.collect();
        let records = self.records(&fleet);
        let launching = self.launching(&fleet, &records);
        let monotonic = self.clock.monotonic();
        let catalogs = self.memory.catalogs.resolve(&*self.cloud, &wanted, &launching, monotonic).await;
        self.forget_settled(&records);
        Observed {
            now,
            realm: self.config.realm.clone(),
            operator: observed::Operator {
                builds: self.memory.bucket.builds.clone(),
                machines_max: self.config.machines_max,
                user_data: self.config.user_data.clone(),
                minted: self.mint(&records),
            },
            intents: self.intents_with_asked(),
            sources: self.sources,
            deletions: self.deletions.union(&self.recorded_deletions).cloned().collect(),
            fleet,
            records,
            agents,
            sends: self.memory.sends.all(),
            refused: self.memory.capacity.refused(now),
            full_subnets: self.memory.capacity.full_subnets(now),
            passwords: self.passwords.clone(),
            catalogs,
        }
    }

    async fn list_machines(&mut self) {
        let now = self.clock.monotonic();
        let memory = &mut self.memory;
        let every = if memory.fresh.awaits_machines() || memory.in_transition() {
            self.config.pace.hurried
        } else {
            self.config.pace.machines
        };
        if !memory.machines.is_due(now, every) {
            return;
        }
        let listed = Machines::list(&*self.cloud, &self.config.realm).await;
        let listed = listed.map(|all| all.into_iter().map(|machine| (machine.id.clone(), machine)).collect());
        if memory.machines.learn(listed, now, self.clock.now()) {
            memory.fresh.machines_listed(&memory.machines.shown, now);
            let (named, _) = fleet::named(memory.sets.values().flatten());
            let shown = &memory.machines.shown;
            memory.absent_machines.listed(&named, |id| shown.contains_key(id), self.clock.now());
        }
    }

    async fn list_volumes(&mut self) {
        let now = self.clock.monotonic();
        let memory = &mut self.memory;
        let every = if memory.fresh.awaits_volumes() || memory.volumes_in_transition() {
            self.config.pace.hurried
        } else {
            self.config.pace.volumes
        };
        if !memory.volumes.is_due(now, every) {
            return;
        }
        let listed = Volumes::list(&*self.cloud, &self.config.realm).await;
        let listed = listed.map(|all| all.into_iter().map(|volume| (volume.id.clone(), volume)).collect());
        if memory.volumes.learn(listed, now, self.clock.now()) {
            memory.fresh.volumes_listed(&memory.volumes.shown, now);
            let (_, named) = fleet::named(memory.sets.values().flatten());
            let shown = &memory.volumes.shown;
            memory.absent_volumes.listed(&named, |id| shown.contains_key(id), self.clock.now());
        }
    }

    /// Which sets the bucket names, and which builds machines are to run.
    async fn look_into_bucket(&mut self) {
        let now = self.clock.monotonic();
        // A person who is told that records are missing puts them back, and waits for the set.
        let pace = if self.has_all_records() { self.config.pace.bucket } else { self.config.pace.bucket / 10 };
        let is_due = self.memory.bucket.listed.is_none_or(|listed| now.saturating_sub(listed) >= pace);
        if !is_due {
            return;
        }
        let objects = store::objects_of_sets(&*self.cloud, &self.keys).await;
        let builds = current_builds(&*self.cloud, &self.keys).await;
        match (objects, builds) {
            (Ok(objects), Ok(builds)) => {
                let named: BTreeSet<_> = objects.iter().filter_map(|object| self.keys.resource_of(object)).collect();
                self.memory.bucket =
                    Bucket { named: named.into_iter().collect(), builds, listed: Some(now), failing: None };
                self.doubt_records(&objects);
            }
            (Err(error), _) => self.memory.bucket.failing = Some(error.to_string()),
            (_, Err(why)) => self.memory.bucket.failing = Some(why),
        }
    }

    /// Every life that machines or volumes are tagged with has its records.
    fn has_all_records(&self) -> bool {
        self.shown().all(|identity| match self.memory.sets.get(&identity.key) {
            Some(Ok(set)) => set.is_whole() && set.incarnation() == Some(&identity.incarnation),
            Some(Err(_)) | None => true,
        })
    }

    /// Forgets records that lack something, are of another life than what carries their set's tags, or have no register among
    /// the bucket's `objects`: a person may have restored, emptied or changed the bucket since they were read.
    fn doubt_records(&mut self, objects: &BTreeSet<ObjectKey>) {
        let mut lives: BTreeMap<ResourceKey, BTreeSet<Incarnation>> = BTreeMap::new();
        for identity in self.shown() {
            lives.entry(identity.key).or_default().insert(identity.incarnation);
        }
        let keys = &self.keys;
        self.memory.sets.retain(|key, read| {
            let is_whole = |set: &StoredSet| {
                let known = set.incarnation();
                let others = lives.get(key).is_some_and(|lives| lives.iter().any(|life| Some(life) != known));
                let register = known.map(|known| keys.set(key).of(known).register());
                set.is_whole() && !others && register.is_some_and(|register| objects.contains(&register))
            };
            read.as_ref().is_ok_and(is_whole)
        });
    }

    /// Whose the machines and volumes are that the last lists showed, those that have ended aside.
    pub(crate) fn shown(&self) -> impl Iterator<Item = Identity> {
        let memory = &self.memory;
        let machines = memory.machines.shown.values().filter(|machine| machine.state != MachineState::Terminated);
        let tagged =
            machines.map(|machine| &machine.tags).chain(memory.volumes.shown.values().map(|volume| &volume.tags));
        tagged.filter_map(|tags| match drover_api::tags::read(&self.config.realm, tags) {
            TagVerdict::Ours { identity, .. } => Some(identity),
            TagVerdict::HandsOff { .. } => None,
        })
    }

    /// Reads the records of every set that anything names and that is not known yet.
    async fn read_records(&mut self) {
        let tagged = self.shown().map(|identity| identity.key);
        let deleted = self.deletions.iter().chain(&self.recorded_deletions);
        let named = self.intents.keys().chain(deleted).chain(&self.memory.bucket.named);
        let mut unread: Vec<ResourceKey> = named.cloned().chain(tagged).collect();
        unread.sort();
        unread.dedup();
        unread.retain(|key| !matches!(self.memory.sets.get(key), Some(Ok(_))));
        let (cloud, keys) = (&*self.cloud, &self.keys);
        let read: Vec<_> = stream::iter(unread)
            .map(|key| async move {
                let read = store::read_set(cloud, keys, &key).await;
                (key, read.map_err(|error| error.to_string()))
            })
            .buffer_unordered(SETS_READ_MAX)
            .collect()
            .await;
        self.memory.sets.extend(read);
    }

    fn fleet(&self, machines: &BTreeMap<InstanceId, machines::Machine>) -> Fleet {
        let memory = &self.memory;
        let launched_tags = fleet::launched_tags(memory.sets.values().flatten());
        let architecture = |name: &str| memory.catalogs.architecture(name).cloned();
        let read = fleet::read_machines(&self.config.realm, machines, &launched_tags, architecture);
        let volumes = memory.fresh.over_volumes(&memory.volumes.shown);
        let read_volumes = fleet::read_volumes(&self.config.realm, &volumes);
        let failing = [&memory.machines.failing, &memory.volumes.failing, &memory.bucket.failing];
        Fleet {
            machines_listed: memory.machines.listed,
            volumes_listed: memory.volumes.listed,
            failing: failing.into_iter().flatten().next().cloned(),
            machines: read.ours,
            volumes: read_volumes.ours,
            hands_off: [read.hands_off, read_volumes.hands_off].concat(),
            absent: memory.absent_machines.all(),
            absent_volumes: memory.absent_volumes.all(),
        }
    }

    /// The running machines of present incarnations: there is an address to ask, and a root to trust.
    fn reachable(&self, fleet: &Fleet) -> BTreeMap<InstanceId, Endpoint> {
        let endpoint = |machine: &observed::Machine| {
            let set = self.memory.sets.get(&machine.key)?.as_ref().ok()?;
            let (address, ca) = (machine.address?, set.ca.clone()?);
            let is_present = set.incarnation() == Some(&machine.incarnation);
            (is_present && machine.phase == observed::Phase::Running).then(|| Endpoint {
                instance: machine.id.clone(),
                address,
                key: machine.key.clone(),
                incarnation: machine.incarnation.clone(),
                slot: machine.slot,
                ca,
            })
        };
        fleet.machines.values().filter_map(|machine| Some((machine.id.clone(), endpoint(machine)?))).collect()
    }

    /// Declared sets with a slot that no machine fills: only a launch needs to know what selectors resolve to.
    fn launching(
        &self,
        fleet: &Fleet,
        records: &BTreeMap<ResourceKey, Seen<observed::SetRecords>>,
    ) -> BTreeSet<ResourceKey> {
        let is_filled = |records: &observed::SetRecords, slot: Slot| {
            let record = records.slots.get(&slot).filter(|record| !record.retired);
            let machine = record.and_then(|record| fleet.machines.get(record.instance.as_ref()?));
            machine.is_some_and(|machine| machine.phase < observed::Phase::ShuttingDown)
        };
        let launches = |key: &ResourceKey, set: &ResolvedSet| {
            let Some(Seen::Known(records)) = records.get(key) else { return false };
            let members = records.incarnation.as_ref().map_or(set.members, |life| life.members);
            let slots = (0..members).map(Slot::Member).chain((0..set.read_replicas).map(Slot::Reader));
            slots.into_iter().any(|slot| !is_filled(records, slot))
        };
        let intents = self.intents.iter().filter_map(|(key, intent)| Some((key, intent.set.as_ref().ok()?)));
        intents.filter(|(key, set)| launches(key, set)).map(|(key, _)| key.clone()).collect()
    }

    /// What is declared, and what people ask for through the socket.
    fn intents_with_asked(&self) -> BTreeMap<ResourceKey, observed::Intent> {
        let mut intents = self.intents.clone();
        for (key, asked) in &self.asked {
            if let Some(intent) = intents.get_mut(key) {
                intent.requests.extend(asked.iter().cloned());
            }
        }
        intents
    }

    async fn hear(&self, fence: u64) -> BTreeMap<InstanceId, Agent> {
        self.agents.reports(&self.endpoints, fence).await
    }

    fn records(&self, fleet: &Fleet) -> BTreeMap<ResourceKey, Seen<observed::SetRecords>> {
        let known = self.memory.sets.iter().map(|(key, read)| match read {
            Ok(set) => (key.clone(), Seen::Known(set.records())),
            Err(why) => (key.clone(), Seen::Unknown { why: why.clone() }),
        });
        let mut records: BTreeMap<ResourceKey, Seen<observed::SetRecords>> = known.collect();
        let tagged = fleet.machines.values().map(|machine| &machine.key);
        for key in tagged.chain(fleet.volumes.values().map(|volume| &volume.key)) {
            records.entry(key.clone()).or_insert_with(|| Seen::Unknown { why: "its records are not read yet".into() });
        }
        if let Some(why) = &self.memory.bucket.failing {
            // A bucket that cannot be listed may hold records that were not found.
            for seen in records.values_mut() {
                if matches!(seen, Seen::Known(records) if records.incarnation.is_none()) {
                    *seen = Seen::Unknown { why: why.clone() };
                }
            }
        }
        records
    }

    /// Forgets what this process did with requests that are settled, once all records are known.
    fn forget_settled(&mut self, records: &BTreeMap<ResourceKey, Seen<observed::SetRecords>>) {
        let known: Option<Vec<_>> = records.values().map(Seen::known).collect();
        if let Some(known) = known {
            let slots = known.iter().flat_map(|records| records.slots.values());
            let named = slots.flat_map(|slot| {
                let machine = slot.launch.as_ref().map(|request| &request.token);
                machine.into_iter().chain(slot.volume_request.as_ref().map(|request| &request.token))
            });
            self.memory.sends.keep(&named.collect());
        }
    }

    /// A fresh incarnation for each declared set, kept until it is used: the same plan twice asks for the same.
    fn mint(
        &mut self,
        records: &BTreeMap<ResourceKey, Seen<observed::SetRecords>>,
    ) -> BTreeMap<ResourceKey, Incarnation> {
        let used = |key: &ResourceKey, minted: &Incarnation| {
            let records = records.get(key).and_then(Seen::known);
            records.and_then(|records| records.incarnation.as_ref()).is_some_and(|record| record.incarnation == *minted)
        };
        let intents = &self.intents;
        self.memory.minted.retain(|key, minted| intents.contains_key(key) && !used(key, minted));
        for key in intents.keys() {
            if !self.memory.minted.contains_key(key) {
                let minted = self.entropy.incarnation();
                self.memory.minted.insert(key.clone(), minted);
            }
        }
        self.memory.minted.clone()
    }
}

/// Which builds `bin/current` names; none where it is not there.
pub(crate) async fn current_builds(
    objects: &impl Objects,
    keys: &drover_api::bucket::RealmKeys,
) -> Result<BTreeMap<String, BuildId>, String> {
    let found = objects.get(&keys.current()).await.map_err(|error: CloudError| error.to_string())?;
    match found {
        None => Ok(BTreeMap::new()),
        Some(object) => serde_json::from_slice::<CurrentBuilds>(&object.body)
            .map(|current| current.builds)
            .map_err(|error| format!("{} cannot be read: {error}", keys.current())),
    }
}
