//! Machines that are gone or unknown are replaced or not; read replicas come and go.

use super::*;

#[test]
fn a_machine_that_is_gone_is_replaced_on_its_own_volume_and_votes_again() {
    let mut world = ready(3, 1);
    let volume = world.records().slots[&M1].volume.clone();
    let before = world.records().register.clone().expect("a register");
    *executed(&mut world, M0) = "00000002-0000-0000-0000-000000000000:1-9".parse().expect("valid");
    world.terminate(M1);
    let report = world.converge().reports[&key()].clone();
    assert!(report.ready, "{report:#?}");
    assert_eq!(world.records().slots[&M1].volume, volume);
    assert_eq!((world.live_machines(), world.live_volumes()), (4, 4));
    let after = world.records().register.clone().expect("a register");
    assert_eq!(after.epoch, before.epoch);
    assert_eq!(after.voters[1].life, before.voters[1].life + 1);
    assert!(after.marker > before.marker, "the new voter was proven by a marker");
}

#[test]
fn a_returned_voter_acknowledges_only_after_the_joint_register() {
    let mut world = ready(3, 0);
    world.terminate(M1);
    for _ in 0..80 {
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            if let Action::Order { slot: M1, wanted, .. } = &planned.action
                && let drover_api::wire::RoleOrder::Replica(replica) = &wanted.role
            {
                let register = world.records().register.clone().expect("a register");
                let voting = match &world.report(M1).volume {
                    VolumeReport::Mounted(voting) => Some(voting.life),
                    _ => None,
                };
                let named = register
                    .joining
                    .as_ref()
                    .unwrap_or(&register.voters)
                    .iter()
                    .any(|voter| voter.slot == M1 && Some(voter.life) == voting);
                assert!(!replica.acknowledges || named, "a life that the register does not name may acknowledge");
            }
            world.apply(planned.action);
        }
    }
    assert!(world.plan().reports[&key()].ready);
}

#[test]
fn an_unknown_machine_is_not_replaced_and_a_gone_one_is() {
    let mut world = ready(3, 0);
    let id = world.machine(M2).id.clone();
    let machine = world.observed.fleet.machines.remove(&id).expect("listed");
    let since = world.observed.now;
    let later = |seconds| since.plus(std::time::Duration::from_secs(seconds));
    let quiet = |world: &World| world.plan().actions.values().flatten().all(|planned| planned.action.is_look_up());
    world.observed.fleet.failing = Some("zone z-c does not answer".into());
    assert!(quiet(&world), "{:#?}", world.plan().actions);
    world.observed.fleet.absent.insert(id.clone(), Absence { lists: 9, since, not_found_by_id: false });
    world.observed.now = later(299);
    assert!(world.plan().is_quiet(), "absent for less than five minutes");
    world.observed.now = later(301);
    let asked = world.plan();
    assert!(
        matches!(&asked.actions[&key()][..], [planned] if planned.action == Action::LookUpMachine { instance: id.clone() })
    );
    world.observed.fleet.absent.insert(id.clone(), Absence { lists: 2, since, not_found_by_id: true });
    assert!(quiet(&world), "absent from two lists only");
    world.observed.fleet.absent.insert(id, Absence { lists: 3, since, not_found_by_id: true });
    world
        .observed
        .fleet
        .volumes
        .values_mut()
        .filter(|volume| volume.attached_to.as_ref() == Some(&machine.id))
        .for_each(|volume| {
            volume.attached_to = None;
            volume.phase = VolumePhase::Available;
        });
    assert!(world.converge().reports[&key()].ready);
    assert_ne!(world.machine(M2).id, machine.id);
}

#[test]
fn a_stopped_machine_is_left_to_its_owner() {
    let mut world = ready(3, 0);
    let id = world.machine(M1).id.clone();
    world.observed.fleet.machines.get_mut(&id).expect("listed").phase = Phase::Stopped;
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    assert!(plan.reports[&key()].awaiting.iter().any(|line| line.contains("is stopped: start it, or terminate it")));
}

#[test]
fn read_replicas_come_and_go_with_their_volumes() {
    let mut world = ready(3, 1);
    for (count, total) in [(3, 6), (1, 4), (0, 3), (2, 5)] {
        world.set(|set| set.read_replicas = count);
        assert!(world.converge().reports[&key()].ready);
        assert_eq!((world.live_machines(), world.live_volumes()), (total, total), "at {count} read replicas");
    }
    let attempts: Vec<u32> = [R0, Slot::Reader(1)].iter().map(|slot| world.records().slots[slot].attempt).collect();
    assert_eq!(attempts, [2, 2], "a slot that is filled again uses a token of its own");
}

#[test]
fn a_lost_slot_record_is_rebuilt_from_tags() {
    let mut world = ready(3, 1);
    let old = world.records().slots.remove(&M1).expect("there");
    world.converge();
    let new = world.records().slots[&M1].clone();
    assert_eq!(
        (new.instance, new.volume, new.attempt, new.formatted),
        (old.instance, old.volume, old.attempt, old.formatted)
    );
    assert_eq!(world.live_machines(), 4);
    assert!(!world.done.contains(&"Launch"));
}

#[test]
fn a_second_machine_of_a_slot_is_ended_only_without_data() {
    let mut world = ready(3, 0);
    let mut double = world.machine(M1).clone();
    double.id = "i-0feedfacefeedface".parse().expect("valid");
    (double.token, double.attempt) = (None, 9);
    world.observed.fleet.machines.insert(double.id.clone(), double.clone());
    world.converge();
    assert_eq!(world.observed.fleet.machines[&double.id].phase, Phase::Terminated);
    assert_eq!(world.live_machines(), 3);

    world.observed.fleet.machines.insert(double.id.clone(), double.clone());
    let mut volume = world.observed.fleet.volumes.values().find(|volume| volume.slot == M1).expect("there").clone();
    volume.id = "vol-0feedfacefeedface".parse().expect("valid");
    volume.attached_to = Some(double.id.clone());
    world.observed.fleet.volumes.insert(volume.id.clone(), volume);
    let plan = world.converge();
    assert_eq!(world.observed.fleet.machines[&double.id].phase, Phase::Running);
    assert_eq!(
        plan.reports[&key()].condition(ConditionType::Stalled).map(|stalled| stalled.reason.as_str()),
        Some("SecondMachine")
    );
}

#[test]
fn what_is_not_known_is_waited_for() {
    let mut world = World::new(resolved(3, 0));
    world.observed.fleet.volumes_listed = None;
    assert!(world.plan().is_quiet());
    world.observed.fleet.volumes_listed = Some(world.observed.now);
    world.observed.records.insert(key(), Seen::Unknown { why: "the bucket does not answer".into() });
    let plan = world.plan();
    assert!(plan.is_quiet());
    assert!(plan.reports[&key()].awaiting[0].contains("the bucket does not answer"));
}

#[test]
fn whoever_lost_its_volume_under_a_running_machine_gets_both_anew_and_the_others_go_on() {
    let mut world = ready(3, 1);
    let before = [M0, M1, M2, R0].map(|slot| world.machine(slot).id.clone());
    lose_volume(&mut world, M1);
    lose_volume(&mut world, R0);
    assert!(world.converge().reports[&key()].ready);
    let after = [M0, M1, M2, R0].map(|slot| world.machine(slot).id.clone());
    let same: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before == after).collect();
    assert_eq!((same, world.live_machines(), world.live_volumes()), (vec![true, false, true, false], 4, 4));
}

#[test]
fn a_bundle_that_was_lost_is_made_again_before_its_machine_is_replaced() {
    let mut world = ready(3, 1);
    world.records().bundles.clear();
    world.terminate(M1);
    world.passes(1, |_, _| false);
    assert_eq!(world.records().bundles.len(), 4);
    assert!(!world.done.contains(&"Launch"), "{:?}", world.done);
    assert!(world.converge().reports[&key()].ready);
}
