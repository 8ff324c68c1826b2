//! Data volumes that failed, that nobody asked for, or that would go with their machine.

use std::collections::BTreeMap;

use super::{M0, M1, M2, R0, ready};
use crate::world::{World, key, resolved};
use drover_api::{Slot, VolumeId, conditions::ConditionType};
use drover_plan::{Action, observed::VolumePhase};

fn volume_of(world: &mut World, slot: Slot) -> VolumeId {
    world.records().slots[&slot].volume.clone().expect("a volume")
}

fn phase(world: &mut World, slot: Slot, phase: VolumePhase) {
    let id = volume_of(world, slot);
    world.observed.fleet.volumes.get_mut(&id).expect("listed").phase = phase;
}

#[test]
fn a_volume_in_error_stalls_with_what_to_do_and_no_machine_is_launched_for_it() {
    for (slot, what_to_do) in [
        (M0, "ask AWS to recover vol-"),
        (M2, "terminate the machine of m2, then delete vol-"),
        (R0, "terminate the machine of r0"),
    ] {
        let mut world = ready(3, 1);
        phase(&mut world, slot, VolumePhase::Error);
        let stalled = |world: &World| {
            world.plan().reports[&key()].condition(ConditionType::Stalled).cloned().expect("it is stalled")
        };
        let told = stalled(&world);
        assert_eq!(told.reason, "VolumeFailed");
        assert!(told.message.starts_with(&format!("{slot}: {what_to_do}")), "{}", told.message);
        if slot.is_member() {
            world.terminate(slot);
            phase(&mut world, slot, VolumePhase::Error);
            world.converge();
            assert!(!world.done.contains(&"Launch"), "{slot}: {:?}", world.done);
            assert_eq!(stalled(&world).reason, "VolumeFailed");
        }
    }
    // A person did it: the slot is seeded anew.
    let mut world = ready(3, 0);
    let failed = volume_of(&mut world, M2);
    world.terminate(M2);
    phase(&mut world, M2, VolumePhase::Error);
    world.converge();
    phase(&mut world, M2, VolumePhase::Deleted);
    assert!(world.converge().reports[&key()].ready);
    assert_ne!(volume_of(&mut world, M2), failed);
}

#[test]
fn a_volume_that_could_not_be_made_is_told_apart_from_one_with_data() {
    let mut world = World::new(resolved(1, 0));
    world.passes(10, |_, action| matches!(action, Action::Attach { .. }));
    phase(&mut world, M0, VolumePhase::Error);
    let told = world.plan().reports[&key()].condition(ConditionType::Stalled).cloned().expect("it is stalled");
    assert!(told.message.contains("nothing was ever on it"), "{}", told.message);
}

#[test]
fn a_second_volume_of_a_wanted_slot_is_told_and_left_alone() {
    let mut world = ready(3, 1);
    for slot in [M1, R0] {
        let id = volume_of(&mut world, slot);
        let mut second = world.observed.fleet.volumes[&id].clone();
        second.id = format!("vol-0feedfacefeed000{}", slot.server_id()).parse().expect("valid");
        (second.phase, second.attached_to, second.attempt) = (VolumePhase::Available, None, 9);
        world.observed.fleet.volumes.insert(second.id.clone(), second.clone());
        let plan = world.converge();
        let report = &plan.reports[&key()];
        assert!(report.ready, "what is left alone holds nothing up: {report:#?}");
        let line = format!("{slot}: {} carries the tags of {slot}, whose record names {id}", second.id);
        assert!(report.awaiting.iter().any(|told| told.starts_with(&line)), "{:?}", report.awaiting);
        assert_eq!(volume_of(&mut world, slot), id);
    }
    assert_eq!((world.done.len(), world.live_volumes()), (0, 6), "{:?}", world.done);
}

#[test]
fn a_lost_record_is_rebuilt_around_the_volume_that_was_asked_for_last_and_can_be_used() {
    for (newer, expected) in [(VolumePhase::Available, true), (VolumePhase::Error, false)] {
        let mut world = ready(3, 0);
        world.terminate(M1);
        let id = volume_of(&mut world, M1);
        let mut second = world.observed.fleet.volumes[&id].clone();
        // Sorts before the other: the order of ids decides nothing.
        second.id = "vol-00000000000000000".parse().expect("valid");
        (second.phase, second.attempt) = (newer, 9);
        world.observed.fleet.volumes.insert(second.id.clone(), second.clone());
        world.records().slots.remove(&M1);
        world.passes(1, |_, _| false);
        assert_eq!(volume_of(&mut world, M1) == second.id, expected, "{newer:?}");
    }
}

#[test]
fn a_failed_volume_that_nobody_claims_is_reported() {
    let mut world = ready(1, 0);
    world.terminate(M0);
    phase(&mut world, M0, VolumePhase::Error);
    world.observed.intents.clear();
    let plan = world.plan();
    assert!(matches!(&plan.unclaimed[..], [line] if line.starts_with("vol-")), "{:?}", plan.unclaimed);
}

#[test]
fn a_volume_that_would_be_deleted_with_its_machine_is_kept_and_asked_for_once() {
    let mut world = ready(3, 1);
    for slot in [M0, M1, R0] {
        let id = volume_of(&mut world, slot);
        world.observed.fleet.volumes.get_mut(&id).expect("listed").deleted_with = Some("/dev/sdg".into());
        let asked: Vec<Action> = world.plan().actions[&key()].iter().map(|planned| planned.action.clone()).collect();
        let instance = world.machine(slot).id.clone();
        assert_eq!(asked, [Action::KeepVolume { volume: id, instance, device: "/dev/sdg".into() }]);
        world.converge();
    }
    assert_eq!(world.done, ["KeepVolume"; 3]);
    // A person's machine is the person's.
    let (id, instance) = (volume_of(&mut world, M2), world.machine(M2).id.clone());
    world.observed.fleet.volumes.get_mut(&id).expect("listed").deleted_with = Some("/dev/sdf".into());
    world.observed.fleet.machines.get_mut(&instance).expect("listed").held = true;
    assert!(world.plan().is_quiet(), "{:#?}", world.plan().actions);
}

#[test]
fn a_volume_that_a_person_detached_is_not_attached_again_while_its_machine_is_held() {
    let mut world = ready(3, 0);
    let (id, instance) = (volume_of(&mut world, M1), world.machine(M1).id.clone());
    world.observed.fleet.machines.get_mut(&instance).expect("listed").held = true;
    let volume = world.observed.fleet.volumes.get_mut(&id).expect("listed");
    (volume.phase, volume.attached_to) = (VolumePhase::Available, None);
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    let expected = format!("m1: {instance} carries drover:hold: {id} is not attached to it");
    assert!(plan.reports[&key()].awaiting.contains(&expected), "{:?}", plan.reports[&key()].awaiting);
    world.observed.fleet.machines.get_mut(&instance).expect("listed").held = false;
    assert_eq!(world.plan().count_by_kind(), BTreeMap::from([("Attach", 1)]));
}
