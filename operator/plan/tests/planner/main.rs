//! Plans for a world that does what they say, and that tests break: what is decided, in tables and in histories.

#![allow(clippy::panic, reason = "a broken expectation ends the test")]

mod asked;
mod born;
mod changes;
mod endings;
mod joint;
mod late;
mod leaders;
mod lives;
mod pace;
mod properties;
mod refusals;
mod replicas;
mod serving;
mod users;
mod volumes;
mod world;

use drover_api::{
    Epoch, GtidSet, ImageId, Incarnation, InstanceId, Slot,
    conditions::ConditionType,
    problems::{Problem, Reason},
    records::{IncarnationState, RegisterState},
    set::ZoneSpread,
    tags::Role,
    wire::{
        BuildReport, DataReport, LeaderPhase, RoleOrder, RunningRole, ServerReport, ThreadReport, VolumeReport, Wanted,
    },
};
use drover_plan::{
    Action,
    observed::{
        Absence, CatalogSubnet, Failure, FailureKind, Fleet, Phase, Seen, Send, SetRecords, Sources, VolumePhase,
    },
};
use world::{World, fresh_send, key, resolved, zones};

const M0: Slot = Slot::Member(0);
const M1: Slot = Slot::Member(1);
const M2: Slot = Slot::Member(2);
const M4: Slot = Slot::Member(4);
const R0: Slot = Slot::Reader(0);

fn ready(members: u8, readers: u16) -> World {
    let mut world = World::new(resolved(members, readers));
    let plan = world.converge();
    let report = &plan.reports[&key()];
    assert!(report.ready, "{report:#?}");
    world.done.clear();
    world
}

fn executed(world: &mut World, slot: Slot) -> &mut GtidSet {
    match &mut world.report(slot).mysql.server {
        ServerReport::Running(running) => &mut running.executed,
        other => panic!("{slot} is {other:?}"),
    }
}

fn die(world: &mut World, slot: Slot, epoch: u64) {
    world.report(slot).mysql.server =
        ServerReport::Died { epoch: Epoch(epoch), how: "mysqld was killed".into(), executed: None };
}

fn stalled(world: &World) -> Option<String> {
    world.plan().reports[&key()].condition(ConditionType::Stalled).map(|stalled| stalled.reason.clone())
}

fn later(world: &mut World, seconds: u64) {
    world.observed.now = world.observed.now.plus(std::time::Duration::from_secs(seconds));
}

fn orders(world: &World, slot: Slot) -> Option<Wanted> {
    world.plan().actions.values().flatten().find_map(|planned| match &planned.action {
        Action::Order { slot: of, wanted, .. } if *of == slot => Some((**wanted).clone()),
        _ => None,
    })
}

fn delete(world: &mut World) {
    world.observed.intents.clear();
    world.observed.deletions.insert(key());
}

fn lose_volume(world: &mut World, slot: Slot) {
    let id = world.records().slots[&slot].volume.clone().expect("a volume");
    let volume = world.observed.fleet.volumes.get_mut(&id).expect("listed");
    (volume.phase, volume.attached_to) = (VolumePhase::Deleted, None);
}
