//! A world for plans: it does what a plan says, at once and without fail, with agents that obey. Tests then break it.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use drover_api::{
    BuildId, Epoch, GtidSet, Incarnation, InstanceId, Millis, Namespace, Realm, ResourceKey, ResourceName, Slot,
    VolumeId, VoterId, WriteId, Zone,
    clients::{ClientsReport, Mark},
    defaults::{ResolvedSet, ResolvedVolume},
    problems::{Problem, Reason},
    records::IncarnationState,
    secrets::SetSecret,
    set::{DeletionPolicy, Durability, ImageSelector, NetworkSelector, VolumeType, ZoneSpread},
    tags,
    wire::{
        Accepted, DataReport, LeaderOrder, LeaderPhase, MysqlReport, Promise, Report, RoleOrder, Running, RunningRole,
        ServerReport, ThreadReport, VolumeReport, Voting, Wanted,
    },
};
use drover_plan::{
    Action, Observed, Plan,
    observed::{
        Agent, Catalog, CatalogImage, CatalogSubnet, Fleet, Intent, Machine, Operator, Phase, Seen, Send, SetRecords,
        Sources, Volume, VolumePhase, VolumeShape,
    },
};

pub struct World {
    pub observed: Observed,
    /// What was done, by kind, in order.
    pub done: Vec<&'static str>,
    /// Machines whose agents do not answer and whose mysqld does nothing.
    pub frozen: Vec<Slot>,
    /// Machines that lists do not show.
    pub hidden: Vec<Machine>,
    /// Who mounted a volume last, and in which life.
    mounts: BTreeMap<VolumeId, (InstanceId, u64)>,
    /// Volumes that were led from, and not closed in order.
    dirty: BTreeMap<VolumeId, Epoch>,
    serial: u64,
}

pub fn key() -> ResourceKey {
    ResourceKey {
        namespace: Namespace::new("default").expect("valid"),
        name: ResourceName::new("shop").expect("valid"),
    }
}

pub fn resolved(members: u8, read_replicas: u16) -> ResolvedSet {
    let by_tag = || Some(BTreeMap::from([("drover".to_owned(), "yes".to_owned())]));
    ResolvedSet {
        key: key(),
        members,
        read_replicas,
        version: "9.7".into(),
        image: ImageSelector { id: None, tags: by_tag(), owners: None },
        instance_types: vec!["m7g.large".into(), "m6g.large".into()],
        subnets: NetworkSelector { ids: None, tags: by_tag() },
        subnets_allowed: None,
        security_groups: NetworkSelector { ids: None, tags: by_tag() },
        instance_profile: "drover".into(),
        zone_spread: ZoneSpread::Required,
        tags: BTreeMap::new(),
        data_volume: ResolvedVolume {
            size_gib: 20,
            volume_type: VolumeType::Gp3,
            iops: None,
            throughput_mibps: None,
            kms_key_id: None,
        },
        settings: BTreeMap::new(),
        durability: Durability::Standard,
        databases: BTreeMap::new(),
        users: BTreeMap::new(),
        deletion_policy: DeletionPolicy::Retain,
        paused: false,
        origins: BTreeMap::new(),
    }
}

pub fn zones(count: usize) -> Catalog {
    let zone = |index: usize| CatalogSubnet {
        zone: Zone::new(format!("z-{}", ["a", "b", "c"][index])).expect("valid"),
        id: format!("subnet-{index}").parse().expect("valid"),
    };
    Catalog {
        image: Ok(CatalogImage { id: "ami-1".parse().expect("valid"), architecture: "arm64".into() }),
        subnets: Ok((0..count).map(zone).collect()),
        security_groups: Ok(vec!["sg-1".parse().expect("valid")]),
        instance_types: Ok(vec!["m7g.large".into(), "m6g.large".into()]),
    }
}

impl World {
    pub fn new(set: ResolvedSet) -> World {
        let build = BuildId::new("a".repeat(64)).expect("valid");
        let observed = Observed {
            now: Millis(1_000_000),
            realm: Realm::new("test").expect("valid"),
            operator: Operator {
                builds: BTreeMap::from([("arm64".to_owned(), build)]),
                machines_max: None,
                user_data: "#!/bin/sh".into(),
                minted: BTreeMap::from([(key(), Incarnation::new("inc00001").expect("valid"))]),
            },
            intents: BTreeMap::from([(key(), Intent { set: Ok(set), generation: 1, requests: vec![] })]),
            sources: Sources::Read,
            deletions: Default::default(),
            fleet: Fleet { machines_listed: Some(Millis(1)), volumes_listed: Some(Millis(1)), ..Fleet::default() },
            records: BTreeMap::from([(key(), Seen::Known(SetRecords::default()))]),
            agents: BTreeMap::new(),
            sends: BTreeMap::new(),
            refused: Default::default(),
            full_subnets: Default::default(),
            passwords: BTreeMap::new(),
            catalogs: BTreeMap::from([(key(), Seen::Known(zones(3)))]),
        };
        World {
            observed,
            done: Vec::new(),
            frozen: Vec::new(),
            hidden: Vec::new(),
            mounts: BTreeMap::new(),
            dirty: BTreeMap::new(),
            serial: 0,
        }
    }

    pub fn plan(&self) -> Plan {
        drover_plan::plan(&self.observed)
    }

    /// Passes until a plan is quiet; panics when that takes more than 200.
    #[track_caller]
    pub fn converge(&mut self) -> Plan {
        for _ in 0..200 {
            self.live();
            let plan = self.plan();
            if plan.is_quiet() {
                return plan;
            }
            for planned in plan.actions.values().flatten().cloned().collect::<Vec<_>>() {
                self.apply(planned.action);
            }
            self.observed.now = self.observed.now.plus(Duration::from_secs(1));
        }
        panic!("no quiet plan after 200 passes; the last: {:#?}", self.plan().actions);
    }

    /// Does what plans ask for, but what `held` keeps back, for so many passes.
    pub fn passes(&mut self, passes: usize, mut held: impl FnMut(&mut World, &Action) -> bool) {
        for _ in 0..passes {
            self.live();
            for planned in self.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
                if !held(self, &planned.action) {
                    self.apply(planned.action);
                }
            }
            self.observed.now = self.observed.now.plus(Duration::from_secs(1));
        }
    }

    pub fn set(&mut self, change: impl FnOnce(&mut ResolvedSet)) {
        let intent = self.observed.intents.get_mut(&key()).expect("there is an intent");
        change(intent.set.as_mut().expect("resolved"));
    }

    pub fn records(&mut self) -> &mut SetRecords {
        match self.observed.records.get_mut(&key()) {
            Some(Seen::Known(records)) => records,
            _ => panic!("no records"),
        }
    }

    pub fn machine(&self, slot: Slot) -> &Machine {
        let live = self.observed.fleet.machines.values().filter(|machine| machine.phase != Phase::Terminated);
        live.rev().find(|machine| machine.slot == slot).unwrap_or_else(|| panic!("no machine in {slot}"))
    }

    pub fn live_machines(&self) -> usize {
        self.observed.fleet.machines.values().filter(|machine| machine.phase != Phase::Terminated).count()
    }

    pub fn live_volumes(&self) -> usize {
        self.observed.fleet.volumes.values().filter(|volume| volume.phase != VolumePhase::Deleted).count()
    }

    pub fn report(&mut self, slot: Slot) -> &mut Report {
        let id = self.machine(slot).id.clone();
        let agent = self.observed.agents.get_mut(&id).expect("an agent");
        agent.report.as_mut().expect("a report")
    }

    pub fn silence(&mut self, slot: Slot) {
        let id = self.machine(slot).id.clone();
        self.observed.agents.get_mut(&id).expect("an agent").unreachable = Some("no answer".into());
        self.frozen.push(slot);
    }

    pub fn wake(&mut self, slot: Slot) {
        let id = self.machine(slot).id.clone();
        self.observed.agents.get_mut(&id).expect("an agent").unreachable = None;
        self.frozen.retain(|frozen| *frozen != slot);
    }

    /// The volume in a slot is found in this life from now on.
    pub fn mounts(&mut self, slot: Slot, life: u64) {
        let id = self.machine(slot).id.clone();
        let volume = self.records().slots[&slot].volume.clone().expect("a volume");
        self.mounts.insert(volume, (id, life));
    }

    /// The machine ends, and that was seen. Its volume is free again.
    pub fn terminate(&mut self, slot: Slot) {
        let id = self.machine(slot).id.clone();
        self.observed.fleet.machines.get_mut(&id).expect("listed").phase = Phase::Terminated;
        self.free_volumes(&id);
        self.observed.agents.remove(&id);
    }

    fn free_volumes(&mut self, id: &InstanceId) {
        for volume in self.observed.fleet.volumes.values_mut().filter(|volume| volume.attached_to.as_ref() == Some(id))
        {
            volume.attached_to = None;
            volume.phase = VolumePhase::Available;
        }
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn write_id(&mut self) -> WriteId {
        let serial = self.next();
        WriteId::new(format!("write{serial:08}")).expect("valid")
    }

    #[track_caller]
    pub fn apply(&mut self, action: Action) {
        self.done.push(action.kind());
        let write_id = self.write_id();
        match action {
            Action::PutIncarnation { mut record, expected } => {
                assert_eq!(self.records().incarnation.as_ref().map(|old| old.write_id.clone()), expected);
                record.write_id = write_id;
                if record.state == IncarnationState::Live {
                    *self.records() = SetRecords::default();
                }
                self.records().incarnation = Some(record);
            }
            Action::CreateCa { .. } => self.records().secret = Some(SetSecret("5".repeat(64))),
            Action::PutRegister { mut register, expected, .. } => {
                assert_eq!(self.records().register.as_ref().map(|old| old.write_id.clone()), expected);
                register.write_id = write_id;
                self.records().register = Some(*register);
            }
            Action::PutJournal { register, .. } => {
                assert!(self.records().journal.insert(register.epoch), "a journal is written once")
            }
            Action::CreateBundle { slot, .. } => assert!(self.records().bundles.insert(slot), "a bundle is made once"),
            Action::PutSlot { slot, mut record, expected, .. } => {
                let old = self.records().slots.get(&slot).map(|old| (old.write_id.clone(), old.launch.clone()));
                assert_eq!(old.as_ref().map(|(id, _)| id.clone()), expected);
                if let Some(request) =
                    record.launch.as_ref().filter(|_| record.launch != old.and_then(|(_, launch)| launch))
                {
                    self.observed.sends.insert(request.token.clone(), fresh_send());
                }
                record.write_id = write_id;
                self.records().slots.insert(slot, *record);
            }
            Action::Launch { request, .. } => self.launch(&request),
            Action::CreateVolume { request, .. } => self.create_volume(&request),
            Action::Attach { volume, instance } => {
                let volume = self.observed.fleet.volumes.get_mut(&volume).expect("listed");
                volume.phase = VolumePhase::Attached;
                volume.attached_to = Some(instance);
            }
            Action::KeepVolume { volume, .. } => {
                self.observed.fleet.volumes.get_mut(&volume).expect("listed").deleted_with = None;
            }
            Action::Unprotect { .. } => {}
            Action::Terminate { instance } => {
                self.observed.fleet.machines.get_mut(&instance).expect("listed").phase = Phase::Terminated;
                self.free_volumes(&instance);
                self.observed.agents.remove(&instance);
            }
            Action::DeleteVolume { volume } => {
                self.observed.fleet.volumes.get_mut(&volume).expect("listed").phase = VolumePhase::Deleted
            }
            Action::Tag { instance, tags } => {
                self.observed.fleet.machines.get_mut(&instance).expect("listed").role = tags::read_role(&tags);
            }
            Action::Hold { instance } => {
                self.observed.fleet.machines.get_mut(&instance).expect("listed").held = true;
            }
            Action::Release { instance } => {
                self.observed.fleet.machines.get_mut(&instance).expect("listed").held = false;
            }
            Action::Order { slot, wanted, .. } => self.obey(slot, *wanted),
            Action::Upgrade { slot, build, .. } => self.report(slot).build = build,
            Action::FindByToken { .. } | Action::LookUpMachine { .. } | Action::LookUpVolume { .. } => {}
        }
    }

    fn launch(&mut self, request: &drover_api::launch::LaunchRequest) {
        if let Some(send) = self.observed.sends.get_mut(&request.token) {
            send.count += 1;
        }
        let mut known = self.observed.fleet.machines.values().chain(&self.hidden);
        if known.any(|machine| machine.token.as_ref() == Some(&request.token)) {
            return;
        }
        let serial = self.next();
        let tags::TagVerdict::Ours { identity, attempt } = tags::read(&self.observed.realm, &request.tags) else {
            panic!("a launch whose tags cannot be read: {:?}", request.tags)
        };
        let id: InstanceId = format!("i-{serial:017x}").parse().expect("valid");
        let machine = Machine {
            id: id.clone(),
            key: identity.key.clone(),
            incarnation: identity.incarnation,
            slot: identity.slot,
            attempt,
            token: Some(request.token.clone()),
            phase: Phase::Running,
            state_reason: None,
            zone: request.zone.clone(),
            address: Some(Ipv4Addr::new(10, 0, 0, u8::try_from(serial % 250).expect("small"))),
            architecture: Some("arm64".into()),
            spec: request.tags.get(tags::SPEC).map(|hash| tags::SpecHash(hash.clone())),
            role: tags::read_role(&request.tags),
            held: false,
            launched: self.observed.now,
        };
        self.observed.fleet.machines.insert(id.clone(), machine);
        let report = Report {
            seq: 1,
            started: self.observed.now,
            build: BuildId::new("a".repeat(64)).expect("valid"),
            incarnation: Incarnation::new("inc00001").expect("valid"),
            slot: identity.slot,
            boot_id: format!("boot-{serial}"),
            clock: self.observed.now,
            accepted: None,
            promised: None,
            volume: VolumeReport::Waiting,
            mysql: MysqlReport {
                data: DataReport::Unknown,
                server: ServerReport::Stopped,
                installed: Some("9.7.4".into()),
                restarted: None,
                restart_failed: None,
                asked: false,
            },
            ordered_build: None,
            problems: Vec::new(),
        };
        let agent = Agent { report: Some(report), heard: Some(self.observed.now), unreachable: None };
        self.observed.agents.insert(id, agent);
    }

    fn create_volume(&mut self, request: &drover_api::launch::VolumeRequest) {
        let serial = self.next();
        let tags::TagVerdict::Ours { identity, attempt } = tags::read(&self.observed.realm, &request.tags) else {
            panic!("a volume whose tags cannot be read: {:?}", request.tags)
        };
        let id: VolumeId = format!("vol-{serial:017x}").parse().expect("valid");
        let volume = Volume {
            id: id.clone(),
            key: identity.key,
            incarnation: identity.incarnation,
            slot: identity.slot,
            attempt,
            zone: request.zone.clone(),
            // Without a wish, gp3's own.
            shape: VolumeShape {
                size_gib: request.size_gib,
                volume_type: request.volume_type.clone(),
                iops: request.iops.or(Some(3_000)),
                throughput_mibps: request.throughput_mibps.or(Some(125)),
            },
            phase: VolumePhase::Available,
            attached_to: None,
            deleted_with: None,
        };
        self.observed.fleet.volumes.insert(id, volume);
    }

    /// An agent accepts its orders. What it then becomes is [`World::live`]'s.
    #[track_caller]
    fn obey(&mut self, slot: Slot, wanted: Wanted) {
        let voter_id =
            VoterId::new(format!("voter-of-{}", wanted.volume.id.as_str().trim_start_matches("vol-0000000")))
                .expect("valid");
        let (id, volume) = (self.machine(slot).id.clone(), wanted.volume.id.clone());
        if wanted.volume.expected.as_ref().is_some_and(|expected| *expected != voter_id) {
            let found = "another voter than is expected".to_owned();
            let report = self.report(slot);
            report.accepted = Some(Accepted { fence: 1, epoch: wanted.epoch, seq: 1, digest: wanted.digest() });
            report.problems = vec![Problem { reason: Reason::ForeignVolume, message: found.clone() }];
            report.volume = VolumeReport::Foreign { found };
            return;
        }
        let (holder, life) = self.mounts.entry(volume.clone()).or_insert((id.clone(), 1));
        let is_booted = *holder != id;
        if is_booted {
            (*holder, *life) = (id, *life + 1);
        }
        let life = *life;
        let dirty = self.dirty.get(&volume).copied();
        match &wanted.role {
            RoleOrder::Leader(leader) if leader.open => self.dirty.insert(volume, wanted.epoch),
            _ => None,
        };
        let report = self.report(slot);
        report.accepted = Some(Accepted { fence: 1, epoch: wanted.epoch, seq: 1, digest: wanted.digest() });
        report.promised = Some(Promise { epoch: wanted.epoch, claim: wanted.claim.clone() });
        let server_uuid = format!("{:08x}-0000-0000-0000-000000000000", u32::from(slot.server_id() as u16) + 1);
        report.volume =
            VolumeReport::Mounted(Voting { voter_id, generation: 1, life, server_uuid: server_uuid.clone() });
        if let Some(epoch) = dirty.filter(|_| is_booted) {
            let how = "the machine went down under it".into();
            report.mysql.server = ServerReport::Died { epoch, how, executed: None };
        }
        let died = matches!(&report.mysql.server, ServerReport::Died { epoch, .. } if wanted.epoch <= *epoch);
        if died {
            return;
        }
        if wanted.restart.is_some() {
            report.mysql.restarted.clone_from(&wanted.restart);
        }
        let role = match &wanted.role {
            RoleOrder::Closed => return,
            RoleOrder::Leader(leader) => RunningRole::Leader {
                epoch: wanted.epoch,
                phase: if leader.open { LeaderPhase::Open } else { LeaderPhase::Closed },
                acknowledgers: leader.accounts.iter().map(|account| account.slot).collect(),
                accounts_made: true,
                marker: leader.open.then_some(leader.marker),
                heartbeat: None,
                clients: made(report, leader),
            },
            RoleOrder::Replica(replica) => RunningRole::Replica {
                source: Some(replica.source.slot),
                receiving: ThreadReport::Running,
                applying: ThreadReport::Running,
                received: GtidSet::default(),
                acknowledges: replica.acknowledges,
                lag_ms: Some(3),
            },
        };
        let executed = match &report.mysql.server {
            ServerReport::Running(running) => running.executed.clone(),
            _ => GtidSet::default(),
        };
        report.mysql.data = DataReport::Present;
        report.mysql.server = ServerReport::Running(Running {
            pid: 100,
            started: Millis(1),
            version: "9.7.4".into(),
            server_uuid,
            executed,
            role,
        });
    }

    /// Replication: everyone has what the leader has.
    pub fn live(&mut self) {
        let frozen = self.frozen.clone();
        let running =
            |agent: &mut Agent| match agent.report.as_mut().map(|report| (report.slot, &mut report.mysql.server)) {
                Some((slot, ServerReport::Running(running))) if !frozen.contains(&slot) => Some(running.clone()),
                _ => None,
            };
        let executed = self.observed.agents.values_mut().filter_map(running).filter_map(|running| match running.role {
            RunningRole::Leader { .. } => Some(running.executed),
            _ => None,
        });
        let Some(executed) = executed.last() else { return };
        for agent in self.observed.agents.values_mut() {
            if let Some(report) = agent.report.as_mut().filter(|report| !frozen.contains(&report.slot))
                && let ServerReport::Running(running) = &mut report.mysql.server
            {
                running.executed = executed.clone();
            }
        }
    }
}

/// What an agent tells of users once it is open: those it has made before stay.
fn made(report: &Report, leader: &LeaderOrder) -> ClientsReport {
    let mut made = match &report.mysql.server {
        ServerReport::Running(Running { role: RunningRole::Leader { clients, .. }, .. }) => clients.clone(),
        _ => ClientsReport::default(),
    };
    for order in leader.clients.users.iter().filter(|_| leader.open) {
        let mark = Mark { version: order.version.clone(), changed: Millis(1), grants: Some(order.grants.clone()) };
        made.users.insert(order.name.clone(), mark);
    }
    let databases = leader.clients.databases.iter().filter(|_| leader.open);
    made.databases.extend(databases.map(|order| order.name.clone()));
    made.users.retain(|name, _| !leader.clients.drop_users.contains(name));
    made.databases_known = true;
    made.databases.retain(|name| !leader.clients.drop_databases.contains(name));
    made
}

pub fn fresh_send() -> Send {
    Send {
        minted_here: true,
        count: 0,
        ambiguous: false,
        failure: None,
        failing_since: None,
        looked_up_empty_since: None,
        last_lookup: None,
    }
}
