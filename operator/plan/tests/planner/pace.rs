//! Slots whose machines end soon after their launch: filled again ever less often, by the slot's record alone.

use super::{M0, M1};
use crate::world::{World, fresh_send, key, resolved};
use drover_api::{Millis, Slot, conditions::ConditionType};
use drover_plan::{
    Action,
    observed::{Failure, FailureKind, Phase, StateReason},
};

const QUOTA: &str = "Client.VolumeLimitExceeded";
const PERSON: &str = "Client.UserInitiatedShutdown";

/// So many passes, `step` seconds apart; every machine launched meanwhile ends at once like this. When launches were sent.
fn launches(world: &mut World, passes: u64, step: u64, code: &str) -> Vec<u64> {
    let mut sent = Vec::new();
    for _ in 0..passes {
        world.live();
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            let Action::Launch { slot, .. } = planned.action else {
                world.apply(planned.action);
                continue;
            };
            sent.push(world.observed.now);
            world.apply(planned.action);
            end(world, slot, code);
        }
        later(world, step);
    }
    let first = sent.first().copied().unwrap_or(Millis(0));
    sent.into_iter().map(|at| at.since(first).as_secs()).collect()
}

fn end(world: &mut World, slot: Slot, code: &str) {
    let id = world.machine(slot).id.clone();
    world.terminate(slot);
    let machine = world.observed.fleet.machines.get_mut(&id).expect("listed");
    machine.state_reason = Some(StateReason { code: code.into(), message: "EC2 says why".into() });
}

fn later(world: &mut World, seconds: u64) {
    world.observed.now = world.observed.now.plus(std::time::Duration::from_secs(seconds));
}

fn gaps(sent: &[u64]) -> Vec<u64> {
    sent.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[track_caller]
fn assert_near(gaps: &[u64], expected: &[u64], step: u64) {
    // A record, a launch, a name and an end: a pass each.
    let near = |(gap, expected): (&u64, &u64)| (*expected..=expected + 5 * step).contains(gap);
    assert!(gaps.len() == expected.len() && gaps.iter().zip(expected).all(near), "{gaps:?}, expected {expected:?}");
}

#[test]
fn launches_that_ec2_gives_up_are_made_ever_less_often_and_stall_with_what_to_do() {
    let mut world = World::new(resolved(1, 0));
    let sent = launches(&mut world, 90, 1, QUOTA);
    assert_near(&gaps(&sent), &[0, 15, 30], 1);
    let report = world.plan().reports.remove(&key()).expect("a report");
    assert!(report.condition(ConditionType::Stalled).is_none(), "{report:#?}");
    assert!(report.awaiting.iter().any(|line| line.contains(QUOTA) && line.contains("EC2 says why")), "{report:#?}");

    let sent = launches(&mut world, 1_440, 10, QUOTA);
    assert_near(&gaps(&sent)[..4], &[120, 240, 480, 960], 10);
    assert!(sent.len() <= 12, "a launch an hour at last: {sent:?}");
    let stalled = world.plan().reports[&key()].condition(ConditionType::Stalled).cloned().expect("it is stalled");
    assert_eq!(stalled.reason, "LaunchesFail");
    assert!(stalled.message.starts_with("m0: have the account's quota of EBS storage raised"), "{}", stalled.message);
    assert!(stalled.message.contains(QUOTA), "{}", stalled.message);
    // The quota was raised: nobody need say so.
    for _ in 0..370 {
        world.live();
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            world.apply(planned.action);
        }
        later(&mut world, 10);
    }
    assert!(world.plan().reports[&key()].ready);
}

#[test]
fn another_operator_keeps_the_pause_and_a_change_of_the_machine_ends_it() {
    let mut world = World::new(resolved(1, 0));
    launches(&mut world, 90, 1, QUOTA);
    world.observed.sends.clear();
    assert!(world.plan().is_quiet(), "{:#?}", world.plan().actions);
    world.set(|set| set.data_volume.size_gib = 30);
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn a_machine_that_a_person_ends_is_replaced_at_once_and_never_stalls_its_set() {
    let mut world = World::new(resolved(3, 0));
    assert!(world.converge().reports[&key()].ready);
    let before = world.observed.now;
    end(&mut world, M1, PERSON);
    assert!(world.converge().reports[&key()].ready);
    assert!(world.observed.now.since(before).as_secs() < 60, "replaced without a pause");
    end(&mut world, M1, PERSON);
    let sent = launches(&mut world, 360, 10, PERSON);
    assert_near(&gaps(&sent)[..3], &[30, 60, 120], 10);
    assert!(world.plan().reports[&key()].condition(ConditionType::Stalled).is_none());
}

#[test]
fn a_machine_that_was_of_use_begins_the_count_anew() {
    let mut world = World::new(resolved(1, 0));
    launches(&mut world, 90, 1, QUOTA);
    assert_eq!(world.records().slots[&M0].early_ends.as_ref().map(|ends| ends.count), Some(4));
    later(&mut world, 120);
    assert!(world.converge().reports[&key()].ready);
    later(&mut world, 601);
    end(&mut world, M0, PERSON);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().slots[&M0].early_ends, None);
}

#[test]
fn a_launch_whose_machine_ended_unseen_is_one_more() {
    let mut world = World::new(resolved(1, 0));
    for _ in 0..40 {
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            let Action::Launch { request, .. } = &planned.action else {
                world.apply(planned.action);
                continue;
            };
            let message = "IdempotentInstanceTerminated: it has ended".to_owned();
            let failure = Failure { at: world.observed.now, kind: FailureKind::TokenSpent, message };
            let send = drover_plan::observed::Send { count: 1, failure: Some(failure), ..fresh_send() };
            world.observed.sends.insert(request.token.clone(), send);
        }
        later(&mut world, 1);
    }
    assert!(world.records().slots[&M0].attempt <= 4, "{:?}", world.records().slots[&M0]);
    assert!(world.plan().reports[&key()].awaiting[0].contains("IdempotentInstanceTerminated"));
}

#[test]
fn a_slot_that_is_ended_and_wanted_again_begins_the_count_anew() {
    let mut world = World::new(resolved(1, 1));
    assert!(world.converge().reports[&key()].ready);
    end(&mut world, Slot::Reader(0), QUOTA);
    launches(&mut world, 90, 1, QUOTA);
    assert!(world.plan().is_quiet());
    world.set(|set| set.read_replicas = 0);
    world.converge();
    world.set(|set| set.read_replicas = 1);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.machine(Slot::Reader(0)).phase, Phase::Running);
}
