//! Any interleaving of what happens to machines, volumes, agents, records and operators, and still: every step keeps the
//! laws, and when nothing more happens the plan becomes quiet.

use std::{collections::BTreeMap, time::Duration};

use crate::world::{World, key, resolved};
use drover_api::{
    Epoch, Slot, VoterId,
    records::{IncarnationState, Register, RegisterState},
    wire::{RoleOrder, RunningRole, ServerReport, VolumeReport},
};
use drover_plan::{
    Action,
    observed::{Absence, Phase, SetRecords, VolumePhase},
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Happens {
    /// One pass of which each slot's actions, and the set's own, are done up to some point; then the process goes on, or dies.
    Pass {
        upto: Vec<u8>,
        crash: bool,
    },
    /// Passes in full.
    Passes(u8),
    Terminate(u8),
    /// Lists do not show it for a while.
    Hide(u8),
    Show,
    Silence(u8),
    Speak,
    /// mysqld of the leader is killed.
    Die,
    Readers(u8),
    LoseRecord(u8),
    /// Of a machine that is gone, or under one that runs.
    LoseVolume(u8),
    Delete,
    Later(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (prop::collection::vec(any::<u8>(), 8), any::<bool>()).prop_map(|(upto, crash)| Happens::Pass { upto, crash }),
        6 => (1u8..12).prop_map(Happens::Passes),
        4 => any::<u8>().prop_map(Happens::Terminate),
        2 => any::<u8>().prop_map(Happens::Hide),
        2 => Just(Happens::Show),
        2 => any::<u8>().prop_map(Happens::Silence),
        2 => Just(Happens::Speak),
        1 => Just(Happens::Die),
        3 => (0u8..4).prop_map(Happens::Readers),
        1 => any::<u8>().prop_map(Happens::LoseRecord),
        1 => any::<u8>().prop_map(Happens::LoseVolume),
        1 => Just(Happens::Delete),
        2 => (0u16..400).prop_map(Happens::Later),
    ]
}

/// A world with what a test must remember beside it.
struct Story {
    world: World,
    /// The highest (version, epoch) that the register had.
    highest: (u64, Epoch),
    deleted: bool,
    /// A slot's record or a volume was lost: nobody can then tell a lost launch from none.
    lossy: bool,
}

impl Story {
    fn happen(&mut self, what: &Happens) {
        match what {
            Happens::Pass { upto, crash } => {
                self.pass(Some(upto));
                if *crash {
                    self.world.observed.sends.clear();
                }
            }
            Happens::Passes(count) => (0..*count).for_each(|_| self.pass(None)),
            Happens::Terminate(pick) => {
                if let Some(slot) = self.live(*pick) {
                    self.world.frozen.retain(|frozen| *frozen != slot);
                    self.world.terminate(slot);
                }
            }
            Happens::Hide(pick) => {
                if let Some(slot) = self.live(*pick) {
                    let machine = self.world.machine(slot).clone();
                    self.world.observed.fleet.machines.remove(&machine.id);
                    let since = self.world.observed.now;
                    let absence = Absence { lists: 9, since, not_found_by_id: false };
                    self.world.observed.fleet.absent.insert(machine.id.clone(), absence);
                    self.world.hidden.push(machine);
                }
            }
            Happens::Show => self.show(),
            Happens::Silence(pick) => {
                if let Some(slot) = self.live(*pick) {
                    self.world.silence(slot);
                }
            }
            Happens::Speak => self.speak(),
            Happens::Die => {
                let dies = |report: &drover_api::wire::Report| match &report.mysql.server {
                    ServerReport::Running(running) => match running.role {
                        RunningRole::Leader { epoch, phase: drover_api::wire::LeaderPhase::Open, .. } => Some(epoch),
                        _ => None,
                    },
                    _ => None,
                };
                for agent in self.world.observed.agents.values_mut() {
                    if let Some(report) = &mut agent.report
                        && let Some(epoch) = dies(report)
                    {
                        report.mysql.server = ServerReport::Died { epoch, how: "killed".into(), executed: None };
                    }
                }
            }
            Happens::Readers(count) if !self.deleted => self.world.set(|set| set.read_replicas = u16::from(*count)),
            Happens::Readers(_) => {}
            Happens::LoseRecord(pick) => {
                let slots: Vec<Slot> = self.world.records().slots.keys().copied().collect();
                if let Some(slot) = slots.get(usize::from(*pick) % slots.len().max(1)) {
                    self.world.records().slots.remove(slot);
                    self.lossy = true;
                }
            }
            Happens::LoseVolume(pick) => {
                let volumes = self.world.observed.fleet.volumes.values_mut();
                let there = |phase: VolumePhase| matches!(phase, VolumePhase::Available | VolumePhase::Attached);
                let there: Vec<_> = volumes.filter(|volume| there(volume.phase)).collect();
                let count = there.len().max(1);
                if let Some(volume) = there.into_iter().nth(usize::from(*pick) % count) {
                    (volume.phase, volume.attached_to) = (VolumePhase::Deleted, None);
                }
            }
            Happens::Delete => {
                self.world.observed.intents.clear();
                self.world.observed.deletions.insert(key());
                self.deleted = true;
            }
            Happens::Later(seconds) => {
                self.world.observed.now = self.world.observed.now.plus(Duration::from_secs(u64::from(*seconds)));
            }
        }
    }

    fn live(&self, pick: u8) -> Option<Slot> {
        let fleet = &self.world.observed.fleet;
        let live: Vec<Slot> = fleet
            .machines
            .values()
            .filter(|machine| machine.phase == Phase::Running && self.world.observed.agents.contains_key(&machine.id))
            .map(|machine| machine.slot)
            .collect();
        live.get(usize::from(pick) % live.len().max(1)).copied()
    }

    fn show(&mut self) {
        for machine in std::mem::take(&mut self.world.hidden) {
            self.world.observed.fleet.absent.remove(&machine.id);
            self.world.observed.fleet.machines.insert(machine.id.clone(), machine);
        }
    }

    fn speak(&mut self) {
        self.world.frozen.clear();
        for agent in self.world.observed.agents.values_mut() {
            agent.unreachable = None;
        }
    }

    /// One pass; with `upto`, each slot's actions and the set's own end after so many.
    fn pass(&mut self, upto: Option<&[u8]>) {
        self.world.live();
        let mut counts: BTreeMap<Option<Slot>, usize> = BTreeMap::new();
        for planned in self.world.plan().actions.into_values().flatten() {
            let count = counts.entry(planned.slot).or_default();
            *count += 1;
            let lane = planned.slot.map_or(0, |slot| 1 + slot.server_id() as usize);
            if upto.is_some_and(|upto| *count > usize::from(upto[lane % upto.len()] % 4)) {
                continue;
            }
            self.check_action(&planned.action);
            self.world.apply(planned.action);
            self.check_state();
        }
        self.world.observed.now = self.world.observed.now.plus(Duration::from_secs(1));
    }

    fn check_action(&mut self, action: &Action) {
        let records = self.world.records().clone();
        match action {
            Action::Launch { slot, request } => {
                assert_eq!(
                    records.slots[slot].launch.as_ref(),
                    Some(&**request),
                    "a launch that its record does not hold"
                );
            }
            Action::CreateVolume { slot, request } => {
                assert_eq!(records.slots[slot].volume_request.as_ref(), Some(&**request));
            }
            Action::Terminate { .. } | Action::DeleteVolume { .. } => {
                let slot = self.slot_of(action);
                let without_volume = matches!(action, Action::Terminate { .. }) && self.lost_its_volume(&records, slot);
                let ends = self.deleted || !slot.is_member() || self.lossy || without_volume;
                assert!(ends, "{action:?} of a set that nobody ends");
            }
            Action::PutRegister { register, .. } => {
                let next = (register.version, register.epoch);
                assert!(next.0 > self.highest.0 && next.1 >= self.highest.1, "{register:?} after {:?}", self.highest);
                self.highest = next;
            }
            Action::Order { slot, wanted, .. } => {
                let register = records.register.as_ref().expect("orders follow a register");
                match &wanted.role {
                    RoleOrder::Replica(replica) if replica.acknowledges => {
                        let named = register.joining.as_ref().unwrap_or(&register.voters);
                        let here = self.voting(*slot);
                        let named = named.iter().any(|voter| {
                            voter.slot == *slot && here.as_ref() == Some(&(voter.voter_id.clone(), voter.life))
                        });
                        assert!(
                            named,
                            "{slot} may acknowledge as {here:?}, which the register does not name: {register:?}"
                        );
                    }
                    RoleOrder::Leader(leader) => {
                        let is_first = register.state == RegisterState::Fencing && register.last_active.is_none();
                        assert!(!leader.initialise || is_first, "data is made over an active set's");
                        assert!(is_first || !wanted.volume.new, "the leader's volume is called new");
                        assert!(!leader.open || is_open(register), "clients are let in without the register");
                    }
                    RoleOrder::Closed | RoleOrder::Replica(_) => {}
                }
            }
            _ => {}
        }
    }

    /// A member whose data is gone for good, and never was what the set led with.
    fn lost_its_volume(&self, records: &SetRecords, slot: Slot) -> bool {
        let leads = records.register.as_ref().is_none_or(|register| {
            register.leader == slot && (register.state == RegisterState::Active || register.last_active.is_some())
        });
        let volume = records.slots.get(&slot).and_then(|record| record.volume.as_ref());
        let volume = volume.and_then(|id| self.world.observed.fleet.volumes.get(id));
        !leads && volume.is_some_and(|volume| volume.phase == VolumePhase::Deleted)
    }

    fn slot_of(&self, action: &Action) -> Slot {
        let fleet = &self.world.observed.fleet;
        match action {
            Action::Terminate { instance } => fleet.machines[instance].slot,
            Action::DeleteVolume { volume } => fleet.volumes[volume].slot,
            other => panic!("no slot in {other:?}"),
        }
    }

    fn voting(&mut self, slot: Slot) -> Option<(VoterId, u64)> {
        match &self.world.report(slot).volume {
            VolumeReport::Mounted(voting) => Some((voting.voter_id.clone(), voting.life)),
            _ => None,
        }
    }

    fn check_state(&self) {
        let fleet = &self.world.observed.fleet;
        let mut machines: BTreeMap<Slot, usize> = BTreeMap::new();
        let live = fleet.machines.values().filter(|machine| machine.phase != Phase::Terminated);
        for machine in live.chain(&self.world.hidden) {
            *machines.entry(machine.slot).or_default() += 1;
        }
        let double = machines.iter().find(|(_, count)| **count > 1);
        assert!(double.is_none() || self.lossy, "two machines in one slot: {double:?}");
        let mut volumes: BTreeMap<Slot, usize> = BTreeMap::new();
        for volume in fleet.volumes.values().filter(|volume| volume.phase != VolumePhase::Deleted) {
            *volumes.entry(volume.slot).or_default() += 1;
        }
        let double = volumes.iter().find(|(_, count)| **count > 1);
        assert!(double.is_none() || self.lossy, "two volumes in one slot: {double:?}");
    }
}

fn is_open(register: &Register) -> bool {
    register.state == RegisterState::Active && register.opened
}

fn run(members: u8, readers: u16, story: &[Happens]) {
    let world = World::new(resolved(members, readers));
    let mut told = Story { world, highest: (0, Epoch(0)), deleted: false, lossy: false };
    for what in story {
        told.happen(what);
    }
    told.show();
    told.speak();
    for _ in 0..150 {
        told.pass(None);
    }
    let plan = told.world.plan();
    assert!(plan.is_quiet(), "never quiet: {:#?}", plan.actions);
    if told.deleted && told.lossy {
        return;
    }
    if told.deleted {
        let life = told.world.records().incarnation.clone();
        assert!(life.is_none_or(|life| life.state == IncarnationState::Dead), "{:#?}", plan.reports);
        assert_eq!((told.world.live_machines(), told.world.live_volumes()), (0, 0), "something is left");
        return;
    }
    let report = &plan.reports[&key()];
    let excused = ["PrimaryLost", "PrimaryVolumeLost", "SecondMachine"];
    let stalled = report.condition(drover_api::conditions::ConditionType::Stalled);
    let excused = stalled.is_some_and(|stalled| excused.contains(&stalled.reason.as_str()));
    assert!(report.ready || excused || told.lossy, "stuck: {report:#?}");
    if report.ready {
        assert_eq!(told.world.live_machines(), report.members.len(), "a machine too many");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_set_keeps_its_laws_and_comes_to_rest(
        members in prop::sample::select(vec![1u8, 3, 5]),
        readers in 0u16..3,
        story in prop::collection::vec(happens(), 0..40),
    ) {
        run(members, readers, &story);
    }
}
