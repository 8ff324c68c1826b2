//! A leader that died, went back in time, or is not heard; a set of one.

use super::*;

#[test]
fn a_leader_whose_data_went_back_in_time_is_not_opened_again() {
    for members in [1, 3] {
        let mut world = ready(members, 0);
        let base: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9".parse().expect("valid");
        let register = world.records().register.as_mut().expect("a register");
        // Of three, only a set that never let a client in re-opens by itself.
        (register.base, register.opened) = (Some(base.clone()), members == 1);
        die(&mut world, M0, 1);
        let report = world.converge().reports[&key()].clone();
        let stalled = report.condition(ConditionType::Stalled).expect("stalled");
        assert_eq!(stalled.reason, "DataOlder", "{report:#?}");
        assert!(stalled.message.contains(":1-9"), "{stalled:?}");
        let register = world.records().register.clone().expect("a register");
        assert_eq!((register.epoch, register.state), (Epoch(2), RegisterState::Fencing));
        *executed(&mut world, M0) = base;
        assert!(world.converge().reports[&key()].ready);
    }
}

#[test]
fn a_primary_that_is_not_heard_is_not_called_closed() {
    let mut world = ready(3, 0);
    world.silence(M0);
    let report = world.plan().reports[&key()].clone();
    assert!(report.verdict.contains("is open, but its primary m0 is not heard"), "{}", report.verdict);
    // Before it was ever opened it is not open, heard or not.
    let mut world = World::new(resolved(3, 0));
    while world.records().register.as_ref().is_none_or(|register| !register.opened) {
        let report = world.plan().reports[&key()].clone();
        assert!(report.verdict.contains("is not open yet"), "{}", report.verdict);
        let planned = world.plan().actions.values().flatten().next().cloned().expect("work");
        world.live();
        world.apply(planned.action);
    }
}

#[test]
fn a_leader_whose_mysqld_died_stays_closed_and_nothing_is_done_over_it() {
    let mut world = ready(3, 0);
    die(&mut world, M0, 1);
    let plan = world.converge();
    let report = &plan.reports[&key()];
    assert!(
        report.condition(ConditionType::PrimaryLost).is_some_and(|condition| condition.message.contains("m1 holds")),
        "{report:#?}"
    );
    assert_eq!(world.done, ["Tag"], "only the tag says so");
    assert_eq!(world.machine(M0).role, Some((Role::Fenced, Epoch(1))));
}

#[test]
fn a_leader_whose_machine_died_is_never_initialised_or_seeded_again() {
    let mut world = ready(3, 0);
    world.terminate(M0);
    for _ in 0..60 {
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            if let Action::Order { slot: M0, wanted, .. } = &planned.action {
                let drover_api::wire::RoleOrder::Leader(leader) = &wanted.role else {
                    panic!("m0 is told to follow: {wanted:?}")
                };
                assert!(!leader.initialise && !wanted.volume.new && wanted.volume.expected.is_some());
                let life = 2;
                let voter_id = wanted.volume.expected.clone().expect("checked");
                let report = world.report(M0);
                report.volume = VolumeReport::Mounted(drover_api::wire::Voting {
                    voter_id,
                    generation: 1,
                    life,
                    server_uuid: "x".into(),
                });
                report.accepted =
                    Some(drover_api::wire::Accepted { fence: 1, epoch: wanted.epoch, seq: 1, digest: wanted.digest() });
                die(&mut world, M0, 1);
                continue;
            }
            world.apply(planned.action);
        }
    }
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    assert!(plan.reports[&key()].verdict.contains("has lost its primary m0"), "{}", plan.reports[&key()].verdict);
    assert_eq!(world.records().register.as_ref().map(|register| register.epoch), Some(Epoch(1)));
}

#[test]
fn a_lost_leader_is_reported_until_and_while_its_machine_is_replaced_and_when_its_volume_is_gone_too() {
    let mut world = ready(3, 0);
    let lost = |world: &World| {
        let report = world.plan().reports[&key()].clone();
        let lost = report.condition(ConditionType::PrimaryLost).map(|condition| condition.message.clone());
        (lost, report.condition(ConditionType::Stalled).map(|stalled| stalled.reason.clone()))
    };
    let volume = world.records().slots[&M0].volume.clone().expect("a volume");
    world.terminate(M0);
    for _ in 0..40 {
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            let (message, _) = lost(&world);
            assert!(message.is_some_and(|message| message.contains("m1 holds")), "{:#?}", world.plan().reports);
            world.apply(planned.action);
        }
    }
    assert!(world.plan().is_quiet() && world.live_machines() == 3);

    world.report(M0).volume = VolumeReport::Foreign { found: "a blank volume".into() };
    world.report(M0).mysql.server = ServerReport::Stopped;
    assert!(lost(&world).0.is_some_and(|message| message.contains("a blank volume")), "{:?}", lost(&world));

    world.terminate(M0);
    world.observed.fleet.volumes.get_mut(&volume).expect("listed").phase = VolumePhase::Deleted;
    world.converge();
    let (message, stalled) = lost(&world);
    assert!(message.is_some_and(|message| message.contains("m2 holds")));
    assert_eq!(stalled.as_deref(), Some("PrimaryVolumeLost"));
    let verdict = &world.plan().reports[&key()].verdict;
    assert!(verdict.contains("has lost its primary m0") && verdict.contains("restore the set"), "{verdict}");
}

#[test]
fn a_silent_leader_is_not_called_lost() {
    let mut world = ready(3, 0);
    world.silence(M0);
    assert_eq!(world.plan().reports[&key()].condition(ConditionType::PrimaryLost), None);
    world.observed.agents.clear();
    assert_eq!(world.plan().reports[&key()].condition(ConditionType::PrimaryLost), None);
}

#[test]
fn a_leader_whose_volume_came_back_in_another_life_is_lost_and_a_set_of_one_takes_it_under_a_new_epoch() {
    for (members, epoch) in [(3, 1), (1, 2)] {
        let mut world = ready(members, 0);
        let VolumeReport::Mounted(voting) = &mut world.report(M0).volume else { panic!("m0 is not mounted") };
        voting.life += 7;
        let voting = voting.clone();
        if let ServerReport::Running(running) = &mut world.report(M0).mysql.server
            && let RunningRole::Leader { phase, .. } = &mut running.role
        {
            *phase = LeaderPhase::Closed;
        }
        world.mounts(M0, voting.life);
        let report = world.converge().reports[&key()].clone();
        assert_eq!(report.condition(ConditionType::PrimaryLost).is_some(), members == 3, "{report:#?}");
        let register = world.records().register.clone().expect("a register");
        assert_eq!(register.epoch, Epoch(epoch));
        assert_eq!(register.voters[0].life == voting.life, members == 1);
    }
}

#[test]
fn a_set_of_one_does_not_open_with_less_than_its_last_epoch_began_with() {
    let mut world = ready(1, 0);
    let base: GtidSet = "00000002-0000-0000-0000-000000000000:1-9".parse().expect("valid");
    world.records().register.as_mut().expect("a register").base = Some(base.clone());
    die(&mut world, M0, 1);
    let stalled = world.converge().reports[&key()].condition(ConditionType::Stalled).cloned().expect("stalled");
    assert_eq!(stalled.reason, "DataOlder");
    let register = world.records().register.clone().expect("a register");
    assert_eq!((register.state, register.epoch), (RegisterState::Fencing, Epoch(2)));
    *executed(&mut world, M0) = base;
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn a_set_of_one_reopens_on_its_own_volume_under_a_new_epoch() {
    let mut world = ready(1, 1);
    let volume = world.records().slots[&M0].volume.clone();
    die(&mut world, M0, 1);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().register.as_ref().map(|register| register.epoch), Some(Epoch(2)));
    world.terminate(M0);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().slots[&M0].volume, volume);
    assert_eq!(world.records().register.as_ref().map(|register| register.epoch), Some(Epoch(3)));
    assert!(world.records().journal.contains(&Epoch(3)));
}

#[test]
fn a_leaders_lost_volume_stalls_and_a_replicas_is_seeded_anew() {
    let mut world = ready(3, 0);
    let volume_of = |world: &mut World, slot| world.records().slots[&slot].volume.clone().expect("a volume");
    let lost = volume_of(&mut world, M2);
    world.terminate(M2);
    world.observed.fleet.volumes.get_mut(&lost).expect("listed").phase = VolumePhase::Deleted;
    assert!(world.converge().reports[&key()].ready);
    assert_ne!(volume_of(&mut world, M2), lost);
    let leaders = volume_of(&mut world, M0);
    world.terminate(M0);
    world.observed.fleet.volumes.get_mut(&leaders).expect("listed").phase = VolumePhase::Deleted;
    world.done.clear();
    let plan = world.converge();
    assert!(!world.done.contains(&"Launch"), "{:?}", world.done);
    let stalled = plan.reports[&key()].condition(ConditionType::Stalled).cloned().expect("stalled");
    assert_eq!(stalled.reason, "PrimaryVolumeLost");
}

#[test]
fn a_leader_that_lost_its_volume_is_a_lost_primary_and_nothing_of_the_set_is_touched() {
    for members in [1, 3] {
        let mut world = ready(members, 0);
        let epoch = world.records().register.as_ref().map(|register| register.epoch);
        lose_volume(&mut world, M0);
        let report = world.converge().reports[&key()].clone();
        assert_eq!(stalled(&world).as_deref(), Some("PrimaryVolumeLost"));
        assert_eq!((world.done, world.observed.fleet.machines.len()), (vec![], usize::from(members)));
        assert_eq!(report.condition(ConditionType::PrimaryLost).is_some(), members == 3, "{report:#?}");
        let Some(Seen::Known(records)) = world.observed.records.get(&key()) else { panic!("no records") };
        assert_eq!(records.register.as_ref().map(|register| register.epoch), epoch);
    }
}

#[test]
fn the_leaders_volume_is_never_ordered_as_new_although_its_record_was_lost() {
    let mut world = ready(3, 0);
    let voter = world.records().register.as_ref().expect("a register").voters[0].voter_id.clone();
    world.records().slots.remove(&M0);
    world.passes(1, |_, _| false);
    assert_eq!(world.records().slots[&M0].formatted, None);
    world.report(M0).accepted = None;
    let wanted = orders(&world, M0).expect("an order");
    assert_eq!((wanted.volume.new, wanted.volume.expected), (false, Some(voter)));
}
