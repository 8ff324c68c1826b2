//! What must hold after every step of every history, and what a world that came to rest must look like.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{
    ResourceKey, Slot,
    clients::{Grants, Password},
    records::{CaRecord, IncarnationRecord, IncarnationState, Register, RegisterState, Voter},
    secrets::SetSecret,
    tags::{self, Identity, TagVerdict},
};
use drover_cloud::ec2::{InstanceStateName, VolumeState};

use crate::{
    declared::Declared,
    disk::Disk,
    mysqld::What,
    process::Process,
    world::{Sim, World, keys, realm},
};

/// Between passes while there is work.
pub const BUSY: Duration = Duration::from_secs(2);
/// Between passes while nothing is to be done.
const IDLE: Duration = Duration::from_secs(6);
/// Passes that must change nothing once a world has come to rest: with [`IDLE`] between them they see two volume lists.
const REST: usize = 21;

impl World {
    /// Safety, whatever went wrong.
    pub fn check(&self) {
        let mut machines: BTreeMap<Identity, Vec<String>> = BTreeMap::new();
        let mut volumes: BTreeMap<Identity, Vec<String>> = BTreeMap::new();
        self.fake.look(|world| {
            for instance in world.ec2.instances() {
                let live = !matches!(instance.state, InstanceStateName::ShuttingDown | InstanceStateName::Terminated);
                if let (true, Some(identity)) = (live, identity(&instance.tags)) {
                    machines.entry(identity).or_default().push(instance.instance_id.clone());
                }
            }
            for volume in world.ec2.volumes().filter(|volume| volume.tags.contains_key(tags::VOLUME)) {
                if let (true, Some(identity)) = (volume.state != VolumeState::Deleting, identity(&volume.tags)) {
                    volumes.entry(identity).or_default().push(volume.volume_id.clone());
                }
            }
        });
        for (identity, ids) in machines.iter().chain(&volumes) {
            assert!(ids.len() <= 1, "{} of {} is filled twice: {ids:?}", identity.slot, identity.key);
        }
        self.check_leaders();
        self.check_fences();
    }

    /// Whoever may have to be asked before another leads holds what clients were told: of the voters that could answer, in the
    /// life that the register names, fewer than a fence needs lack it. While the voters change a fence needs both sets, so one
    /// of them is enough (PROTOCOL.md, I11).
    fn check_fences(&self) {
        for ((key, life), acknowledged) in &self.acknowledged {
            if self.incarnation(key).is_none_or(|record| record.incarnation != *life) {
                continue;
            }
            let (Some(row), Some(register)) = (acknowledged.last(), self.register(key)) else { continue };
            if register.state != RegisterState::Active {
                continue;
            }
            let sets = [Some(&register.voters), register.joining.as_ref()];
            let lacking = |voters: &Vec<Voter>| {
                let others = voters.iter().filter(|voter| voter.slot != register.leader);
                others.filter(|voter| self.holds(voter, *row) == Some(false)).count()
            };
            let may_be_missed =
                |voters: &Vec<Voter>| lacking(voters) >= voters.len().saturating_sub(usize::from(register.k));
            assert!(
                !sets.into_iter().flatten().all(may_be_missed),
                "{key}: row {row} was acknowledged, and a fence could miss it: {register:?}"
            );
        }
    }

    /// The volume of a voter in the life that the register names.
    fn disk_of(&self, voter: &Voter) -> Option<&Disk> {
        self.disks.values().find(|disk| {
            disk.record.as_ref().is_some_and(|record| {
                record.voting.voter_id == voter.voter_id
                    && record.voting.generation == voter.generation
                    && record.voting.life == voter.life
            })
        })
    }

    /// Whether a voter is there in the life that the register names.
    pub(crate) fn is_there(&self, voter: &Voter) -> bool {
        self.disk_of(voter).is_some_and(|disk| disk.data.is_some())
    }

    /// Whether a voter's volume holds a row, in its relay log too; `None` where no such voter in this life is there to answer.
    fn holds(&self, voter: &Voter, row: u64) -> Option<bool> {
        let data = self.disk_of(voter)?.data.as_ref()?;
        let relay = data.channel.iter().flat_map(|channel| &channel.relay);
        Some(data.rows.contains(&row) || relay.into_iter().any(|transaction| transaction.what == What::Row(row)))
    }

    /// At most one leader of a set is open, and it holds every row whose client was told so.
    fn check_leaders(&self) {
        let mut open: BTreeMap<&ResourceKey, Vec<&crate::machine::Machine>> = BTreeMap::new();
        for machine in self.machines.values().filter(|machine| machine.is_open_leader()) {
            open.entry(&machine.identity.key).or_default().push(machine);
        }
        for (key, leaders) in open {
            assert!(leaders.len() == 1, "{key} has {} open leaders", leaders.len());
            let acknowledged = self.acknowledged.get(&(key.clone(), leaders[0].identity.incarnation.clone()));
            let (Some(acknowledged), Some(data)) = (acknowledged, self.data(&leaders[0].id)) else {
                continue;
            };
            if let Some(lost) = acknowledged.iter().find(|row| !data.rows.contains(row)) {
                panic!("{key}: row {lost} was acknowledged, and its open leader {} has not got it", leaders[0].id);
            }
        }
    }

    /// The slots that are filled now, a machine and a volume each where the counts are equal.
    pub fn filled(&self, key: &ResourceKey) -> (Vec<Slot>, Vec<Slot>) {
        self.fake.look(|world| {
            let live = world.ec2.instances().filter(|instance| instance.state != InstanceStateName::Terminated);
            let machines = live.filter_map(|instance| identity(&instance.tags));
            let data = world.ec2.volumes().filter(|volume| volume.tags.contains_key(tags::VOLUME));
            let volumes = data.filter_map(|volume| identity(&volume.tags));
            let slots = |all: &mut dyn Iterator<Item = Identity>| {
                let mut slots: Vec<Slot> = all.filter(|it| it.key == *key).map(|it| it.slot).collect();
                slots.sort();
                slots
            };
            (slots(&mut machines.into_iter()), slots(&mut volumes.into_iter()))
        })
    }

    /// At rest every server of a set has each user as it is declared, with the password that whoever connects is told of.
    fn check_users(&self, key: &ResourceKey, process: &Process) {
        let Some(connections) = process.operator.connections().borrow().get(key).cloned() else { return };
        let secret =
            self.incarnation(key).and_then(|record| self.object(&keys().set(key).of(&record.incarnation).ca()));
        let secret = secret.map(|ca: CaRecord| SetSecret(ca.secret)).expect("a set that lives has a secret");
        for machine in self.machines.values().filter(|machine| machine.identity.key == *key) {
            let Some(data) = self.data(&machine.id) else { continue };
            for connection in &connections.users {
                let (user, password) = (&connection.user, Password::new(&connection.password).expect("it was checked"));
                let mark = data.users.get(user).map(|user| &user.mark);
                let grants = Grants { database: connection.database.clone(), access: connection.access };
                assert!(connection.applied, "{user} of {key} is not applied");
                assert_eq!(
                    mark.map(|mark| (mark.version.clone(), mark.grants.clone())),
                    Some((secret.client_version(user, &password), Some(grants))),
                    "{user} on {}",
                    machine.identity.slot
                );
            }
        }
    }

    pub fn register(&self, key: &ResourceKey) -> Option<Register> {
        let incarnation = self.incarnation(key)?.incarnation;
        self.object(&keys().set(key).of(&incarnation).register())
    }

    /// How many clients of the set that lives now were told that their row is committed.
    pub fn told(&self, key: &ResourceKey) -> usize {
        let life = self.incarnation(key).map(|record| record.incarnation);
        life.and_then(|life| self.acknowledged.get(&(key.clone(), life))).map_or(0, BTreeSet::len)
    }

    pub fn incarnation(&self, key: &ResourceKey) -> Option<IncarnationRecord> {
        self.object(&keys().set(key).incarnation())
    }
}

fn identity(tags: &drover_cloud::ec2::Tags) -> Option<Identity> {
    match tags::read(&realm(), tags) {
        TagVerdict::Ours { identity, .. } => Some(identity),
        TagVerdict::HandsOff { .. } => None,
    }
}

/// The slots of a set of `members` and `readers`.
pub fn slots(members: u8, readers: u16) -> Vec<Slot> {
    (0..members).map(Slot::Member).chain((0..readers).map(Slot::Reader)).collect()
}

/// Passes until all sets are ready and nothing is to be done, then asserts that each set has exactly its machines and
/// volumes, and that nothing more is changed. `limit` is virtual time.
pub fn converge(sim: &Sim, process: &mut Process, wanted: &[(ResourceKey, Vec<Slot>)], limit: Duration) {
    let until = sim.lock().now().plus(limit);
    loop {
        let outcome = process.pass();
        sim.lock().check();
        let settled = outcome.plan.is_some_and(|plan| {
            let ready = |(key, slots): &(ResourceKey, Vec<Slot>)| {
                plan.reports.get(key).is_some_and(|report| report.ready && report.members.len() == slots.len())
            };
            plan.is_quiet() && wanted.iter().all(ready)
        });
        if settled {
            break;
        }
        sim.advance(BUSY);
        if sim.lock().now() > until {
            panic!("not converged after {limit:?}: {}", standing(process));
        }
    }
    for (key, slots) in wanted {
        assert_eq!(sim.lock().filled(key), (slots.clone(), slots.clone()), "machines and volumes of {key}");
    }
    rest(sim, process);
    for (key, _) in wanted {
        sim.lock().check_users(key, process);
    }
}

/// A set that has come to rest, and its operator of build `a`.
pub fn settled(seed: u64, set: &Declared, limit: Duration) -> (Sim, Process) {
    let sim = Sim::new(seed);
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(set.intents(), vec![]);
    converge(&sim, &mut operator, &[(set.key(), slots(set.members, set.readers))], limit);
    (sim, operator)
}

/// Passes for a while; the mutating calls and orders in that time.
pub fn pass_for(sim: &Sim, operator: &mut Process, time: Duration) -> u64 {
    let before = sim.lock().changes;
    let until = sim.lock().now().plus(time);
    while sim.lock().now() < until {
        operator.pass();
        sim.lock().check();
        sim.advance(BUSY * 2);
    }
    sim.lock().changes - before
}

/// How things are by one more pass, in the operator's own words.
fn standing(process: &mut Process) -> String {
    let outcome = process.pass();
    let Some(plan) = outcome.plan else { return format!("{:?}", process.operator.snapshots().borrow().lock) };
    let sets = plan.reports.values().map(|report| format!("{}: {}", report.verdict, report.awaiting.join("; ")));
    let actions = plan.actions.values().flatten().map(|planned| format!("{}: {}", planned.action.kind(), planned.why));
    sets.chain(actions).chain(outcome.failed.iter().map(|failed| failed.error.clone())).collect::<Vec<_>>().join("\n")
}

/// Nothing is changed any more.
pub fn rest(sim: &Sim, process: &mut Process) {
    let before = sim.lock().changes;
    for _ in 0..REST {
        let plan = process.pass().plan;
        sim.lock().check();
        let after = sim.lock().changes;
        assert_eq!(after, before, "a world at rest is changed: {:#?}", plan.map(|plan| plan.actions));
        sim.advance(IDLE);
    }
}

/// Asks for the end of a set and passes until it is dead; asserts that nothing is left of it.
pub fn delete(sim: &Sim, process: &mut Process, key: &ResourceKey, limit: Duration) {
    let until = sim.lock().now().plus(limit);
    process.operator.declare(BTreeMap::new(), Vec::new());
    loop {
        let outcome = process.pass();
        sim.lock().check();
        let incarnation = sim.lock().incarnation(key);
        match incarnation.map(|record| record.state) {
            // Not before this process acts: its binary goes to the bucket first.
            Some(IncarnationState::Dead) if outcome.plan.is_some() => break,
            // Nothing was ever written of it: there is nothing to delete.
            None if outcome.plan.is_some() => break,
            Some(IncarnationState::Live) if outcome.plan.is_some() => {
                // Asked again until it is durable, as `drover delete` does.
                if let Err(error) = process.operator.delete(key) {
                    assert!(!matches!(error, drover_control::deletions::DeleteRefused::Unknown { .. }), "{error}");
                }
            }
            Some(_) | None => {}
        }
        sim.advance(BUSY);
        if sim.lock().now() > until {
            panic!("not deleted after {limit:?}: {}", standing(process));
        }
    }
    assert_eq!(sim.lock().filled(key), (vec![], vec![]), "something is left of {key}");
    rest(sim, process);
    assert_eq!(sim.lock().filled(key), (vec![], vec![]), "something came after the end of {key}");
}
