//! A set's life, decided: born, kept, mended, scaled, ended.

#![allow(clippy::panic, reason = "a broken expectation ends the test")]

mod world;

use drover_api::{
    Epoch, GtidSet, Incarnation, Slot,
    conditions::ConditionType,
    records::{IncarnationState, RegisterState},
    set::ZoneSpread,
    tags::Role,
    wire::{BuildReport, LeaderPhase, RunningRole, ServerReport, VolumeReport},
};
use drover_plan::{
    Action,
    observed::{Absence, Failure, FailureKind, Fleet, Phase, Seen, SetRecords, Sources, VolumePhase},
};
use world::{World, key, resolved, zones};

const M0: Slot = Slot::Member(0);
const M1: Slot = Slot::Member(1);
const M2: Slot = Slot::Member(2);
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

#[test]
fn a_new_set_becomes_ready_with_one_machine_and_volume_for_each_slot() {
    for (members, readers) in [(1, 0), (1, 2), (3, 0), (3, 1), (5, 3)] {
        let mut world = World::new(resolved(members, readers));
        let report = world.converge().reports[&key()].clone();
        assert!(report.ready, "{report:#?}");
        assert_eq!(report.primary, Some(M0));
        let slots = usize::from(members) + usize::from(readers);
        assert_eq!((world.live_machines(), world.live_volumes()), (slots, slots));
        assert_eq!(world.machine(M0).role, Some((Role::Primary, Epoch(1))));
        let register = world.records().register.clone().expect("a register");
        assert_eq!(
            (register.state, register.k, register.voters.len()),
            (RegisterState::Active, members / 2, usize::from(members))
        );
    }
}

#[test]
fn nothing_is_sent_to_ec2_that_is_not_in_the_slots_record_first() {
    let mut world = World::new(resolved(3, 1));
    for _ in 0..60 {
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            let records = world.records().clone();
            match &planned.action {
                Action::Launch { slot, request } => {
                    assert_eq!(records.slots[slot].launch.as_ref(), Some(request.as_ref()))
                }
                Action::CreateVolume { slot, request } => {
                    assert_eq!(records.slots[slot].volume_request.as_ref(), Some(request.as_ref()));
                }
                _ => {}
            }
            world.apply(planned.action);
        }
    }
    assert!(world.plan().is_quiet());
}

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
fn clients_are_let_in_only_when_k_members_acknowledge() {
    let mut world = World::new(resolved(3, 0));
    for _ in 0..60 {
        for planned in world.plan().actions.values().flatten().cloned().collect::<Vec<_>>() {
            if matches!(planned.action, Action::Order { slot: M1 | M2, .. })
                && world.records().register.as_ref().is_some_and(|register| register.state == RegisterState::Active)
            {
                continue; // The two acknowledgers never get their orders.
            }
            world.apply(planned.action);
        }
    }
    let register = world.records().register.clone().expect("a register");
    assert_eq!((register.state, register.opened), (RegisterState::Active, false));
    let ServerReport::Running(running) = &world.report(M0).mysql.server else { panic!("m0 does not run") };
    assert!(matches!(running.role, RunningRole::Leader { phase: LeaderPhase::Closed, .. }));
}

#[test]
fn members_stand_in_different_zones() {
    let world = ready(3, 0);
    let mut zones: Vec<_> = [M0, M1, M2].into_iter().map(|slot| world.machine(slot).zone.clone()).collect();
    zones.sort();
    zones.dedup();
    assert_eq!(zones.len(), 3);
}

#[test]
fn required_spread_waits_for_zones_and_preferred_places() {
    let mut world = World::new(resolved(3, 0));
    world.observed.catalogs.insert(key(), Seen::Known(zones(1)));
    let report = world.converge().reports[&key()].clone();
    assert_eq!(world.live_machines(), 0);
    assert!(report.awaiting.iter().any(|line| line.contains("3 members need subnets in 3 zones")), "{report:#?}");
    world.set(|set| set.zone_spread = ZoneSpread::Preferred);
    let report = world.converge().reports[&key()].clone();
    assert!(report.ready);
    assert_eq!(report.awaiting, ["3 of 3 members stand in z-a (m0, m1, m2): the set is lost with that zone"]);
    assert_eq!(world.plan().reports[&key()].awaiting, report.awaiting, "said once, although it is still so");
    assert_eq!(ready(3, 0).plan().reports[&key()].awaiting, Vec::<String>::new());
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
fn a_paused_set_is_not_called_reconciling() {
    let mut world = ready(1, 0);
    world.set(|set| (set.paused, set.read_replicas) = (true, 2));
    let report = world.plan().reports[&key()].clone();
    assert!(!report.ready && report.condition(ConditionType::Suspended).is_some(), "{report:#?}");
    assert_eq!(report.condition(ConditionType::Reconciling), None);
}

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
    assert!(plan.reports[&key()].awaiting.iter().any(|line| line.contains("start it, or terminate it")));
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
fn an_empty_or_wrong_bucket_beside_living_machines_stalls_and_changes_nothing() {
    let mut world = ready(3, 1);
    let good = world.records().clone();
    *world.records() = SetRecords::default();
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    assert_eq!(
        plan.reports[&key()].condition(ConditionType::Stalled).map(|stalled| stalled.reason.as_str()),
        Some("RegisterLost")
    );
    *world.records() = SetRecords { register: None, ..good.clone() };
    assert!(world.plan().is_quiet());
    *world.records() = SetRecords { secret: None, ..good.clone() };
    assert!(world.plan().is_quiet());
    let mut other = good;
    other.incarnation.as_mut().expect("there").incarnation = Incarnation::new("inc00002").expect("valid");
    *world.records() = other;
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    assert_eq!(
        plan.reports[&key()].condition(ConditionType::Stalled).map(|stalled| stalled.reason.as_str()),
        Some("OtherIncarnation")
    );
}

#[test]
fn absence_of_a_manifest_ends_nothing_and_reports_the_machines() {
    let mut world = ready(3, 1);
    let intent = world.observed.intents.remove(&key()).expect("there");
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    assert_eq!(plan.unclaimed.len(), 4);
    world.observed.intents.insert(key(), intent);
    let plan = world.plan();
    assert!(plan.is_quiet() && plan.unclaimed.is_empty(), "adoption changes nothing");
}

#[test]
fn nothing_is_said_of_a_set_whose_records_or_machines_were_not_seen() {
    let world = ready(3, 1);
    let verdict = |change: &dyn Fn(&mut World), said: &str| {
        let mut world = ready(3, 1);
        change(&mut world);
        let check = |world: &World| {
            let report = &world.plan().reports[&key()];
            assert_eq!(report.verdict, format!("default/shop: it is not known how it is: {said}"));
            assert!(!report.is_known());
        };
        check(&world);
        world.observed.intents.clear();
        check(&world);
        world.observed.sources = Sources::NotAsked;
        check(&world);
    };
    assert!(world.plan().reports[&key()].is_known());
    verdict(
        &|world| {
            world.observed.fleet = Fleet { failing: Some("EC2 is down".into()), ..Fleet::default() };
            world.observed.agents.clear();
        },
        "EC2 is down",
    );
    verdict(
        &|world| {
            world.observed.records.insert(key(), Seen::Unknown { why: "no bucket".into() });
        },
        "no bucket",
    );
}

#[test]
fn a_set_is_not_called_undeclared_where_no_source_was_asked() {
    let mut world = ready(3, 1);
    world.observed.intents.clear();
    world.observed.sources = Sources::NotAsked;
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    assert_eq!(plan.unclaimed, Vec::<String>::new());
    let report = &plan.reports[&key()];
    assert_eq!(report.verdict, "default/shop is ready: m0 is primary, 4/4 machines ready");
    // Nobody works on it either, as far as is known here.
    world.terminate(Slot::Member(1));
    let report = &world.plan().reports[&key()];
    assert_eq!(report.verdict, "default/shop serves, m0 is primary, 3/4 machines ready");
    assert_eq!(report.condition(ConditionType::Reconciling), None);
    world.observed.sources = Sources::Read;
    let verdict = &world.plan().reports[&key()].verdict;
    assert!(verdict.contains("is declared by nobody"), "{verdict}");
}

#[test]
fn deletion_ends_everything_and_a_namesake_is_another_incarnation() {
    let mut world = ready(3, 1);
    let intent = world.observed.intents.remove(&key()).expect("there");
    world.observed.deletions.insert(key());
    world.converge();
    assert_eq!((world.live_machines(), world.live_volumes()), (0, 0));
    let life = world.records().incarnation.clone().expect("kept");
    assert_eq!(life.state, IncarnationState::Dead);
    world.observed.deletions.clear();
    world.observed.operator.minted.insert(key(), Incarnation::new("inc00002").expect("valid"));
    world.observed.intents.insert(key(), intent);
    world.converge();
    assert_eq!((world.live_machines(), world.live_volumes()), (4, 4));
    assert_ne!(world.records().incarnation.as_ref().map(|now| now.incarnation.clone()), Some(life.incarnation));
}

#[test]
fn a_deletion_goes_on_without_being_asked_for_again() {
    let mut world = ready(1, 0);
    world.observed.intents.clear();
    world.observed.deletions.insert(key());
    let plan = world.plan();
    let first = plan.actions[&key()][0].action.clone();
    world.apply(first);
    world.observed.deletions.clear();
    world.converge();
    assert_eq!((world.live_machines(), world.live_volumes()), (0, 0));
}

#[test]
fn a_paused_set_is_only_looked_at() {
    let mut world = ready(3, 1);
    world.set(|set| set.paused = true);
    world.terminate(R0);
    let plan = world.plan();
    assert!(plan.is_quiet());
    assert!(plan.reports[&key()].condition(ConditionType::Suspended).is_some());
}

#[test]
fn a_held_machine_is_not_ended() {
    let mut world = ready(3, 1);
    let id = world.machine(R0).id.clone();
    world.observed.fleet.machines.get_mut(&id).expect("listed").held = true;
    world.set(|set| set.read_replicas = 0);
    world.converge();
    assert_eq!(world.machine(R0).phase, Phase::Running);
}

#[test]
fn changed_settings_wait_for_new_machines() {
    let mut world = ready(3, 1);
    world.set(|set| drop(set.settings.insert("max_connections".into(), "77".into())));
    let plan = world.converge();
    assert!(world.done.is_empty(), "{:?}", world.done);
    assert!(plan.reports[&key()].condition(ConditionType::ChangePending).is_some());
    world.terminate(R0);
    world.converge();
    assert_eq!(world.records().slots[&R0].mysql.settings["max_connections"], "77");
    assert!(world.records().slots[&M1].mysql.settings.is_empty());
}

#[test]
fn a_member_keeps_its_volume_and_the_change_stays_pending_on_a_new_machine() {
    let mut world = ready(3, 1);
    let pending = |world: &World| {
        let pending = world.plan().reports[&key()].condition(ConditionType::ChangePending).cloned();
        pending.map(|pending| (pending.reason, pending.message))
    };
    assert_eq!(pending(&world), None);
    world.set(|set| {
        set.data_volume.size_gib = 1000;
        set.data_volume.iops = Some(6000);
    });
    let (reason, message) = pending(&world).expect("pending");
    assert_eq!(reason, "NewMachinesOnly");
    assert!(message.starts_with("m0, m1, m2, r0 were launched with other settings"), "{message}");
    for slot in [M1, M2, R0] {
        world.terminate(slot);
        world.converge();
    }
    let differs = "is 20 GiB, 3000 iops instead of 1000 GiB, 6000 iops";
    let all = format!("data volumes that exist are kept as they are: m0's {differs}; m1's {differs}; m2's {differs}");
    let (_, message) = pending(&world).expect("pending");
    assert_eq!(message, format!("m0 were launched with other settings; only new machines get the present ones; {all}"));
    // A read replica's volume goes with its machine.
    let reader = world.records().slots[&R0].volume.clone().expect("a volume");
    assert_eq!(world.observed.fleet.volumes[&reader].shape.size_gib, 1000);
    let present = world.records().slots[&M1].spec.clone();
    world.records().slots.get_mut(&M0).expect("there").spec = present;
    assert_eq!(pending(&world), Some(("VolumesKept".into(), all)));
    // Somebody changes them in EC2.
    for volume in world.observed.fleet.volumes.values_mut() {
        volume.shape.size_gib = 1000;
        volume.shape.iops = Some(6000);
    }
    assert_eq!(pending(&world), None);
    world.set(|set| set.data_volume.kms_key_id = Some("alias/mine".into()));
    let (_, message) = pending(&world).expect("pending");
    assert!(message.ends_with("m2's is EBS's own key instead of key alias/mine"), "{message}");
}

#[test]
fn members_and_version_cannot_be_changed() {
    let mut world = ready(3, 0);
    world.set(|set| set.members = 5);
    let plan = world.plan();
    assert!(plan.is_quiet());
    assert_eq!(
        plan.reports[&key()].condition(ConditionType::Stalled).map(|stalled| stalled.reason.as_str()),
        Some("MembersImmutable")
    );
    world.set(|set| (set.members, set.version) = (3, "9.8".into()));
    assert_eq!(
        world.plan().reports[&key()].condition(ConditionType::Stalled).map(|stalled| stalled.reason.as_str()),
        Some("VersionImmutable")
    );
}

#[test]
fn capacity_refused_cleanly_moves_to_the_next_type_in_the_same_zone() {
    let mut world = World::new(resolved(1, 0));
    let token = loop {
        let planned = world.plan().actions.values().flatten().next().cloned().expect("work");
        if let Action::Launch { request, .. } = &planned.action {
            break request.clone();
        }
        world.apply(planned.action);
    };
    world.observed.refused.insert((token.instance_type.clone(), token.zone.clone()));
    let send = world.observed.sends.get_mut(&token.token).expect("minted");
    send.count = 1;
    send.failure = Some(Failure {
        at: world.observed.now,
        kind: FailureKind::Capacity,
        message: "InsufficientInstanceCapacity".into(),
    });
    world.converge();
    assert_eq!(world.live_machines(), 1);
    assert_eq!(world.records().slots[&M0].attempt, 2);
}

#[test]
fn a_refusal_after_a_possibly_sent_request_is_not_believed_for_five_minutes() {
    let mut world = World::new(resolved(1, 0));
    let request = loop {
        let planned = world.plan().actions.values().flatten().next().cloned().expect("work");
        if let Action::Launch { request, .. } = &planned.action {
            break request.clone();
        }
        world.apply(planned.action);
    };
    let at = world.observed.now;
    let send = world.observed.sends.get_mut(&request.token).expect("minted");
    send.count = 2;
    send.ambiguous = true;
    send.failure = Some(Failure { at, kind: FailureKind::Capacity, message: "InsufficientInstanceCapacity".into() });
    let action = |world: &World| world.plan().actions.get(&key()).map(|planned| planned[0].action.kind());
    assert_eq!(action(&world), Some("FindByToken"));
    let send = world.observed.sends.get_mut(&request.token).expect("minted");
    (send.looked_up_empty_since, send.last_lookup) = (Some(at), Some(at.plus(std::time::Duration::from_secs(299))));
    world.observed.now = at.plus(std::time::Duration::from_secs(302));
    assert_eq!(action(&world), None, "one look-up after 299 s is believed for longer than it looked");
    world.observed.now = at.plus(std::time::Duration::from_secs(309));
    assert_eq!(action(&world), Some("FindByToken"));
    let send = world.observed.sends.get_mut(&request.token).expect("minted");
    send.last_lookup = Some(at.plus(std::time::Duration::from_secs(309)));
    assert_eq!(action(&world), Some("PutSlot"));
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
fn agents_are_upgraded_one_at_a_time_the_leader_last() {
    let mut world = ready(3, 1);
    let build = drover_api::BuildId::new("b".repeat(64)).expect("valid");
    world.observed.operator.builds.insert("arm64".into(), build);
    let mut order = Vec::new();
    for _ in 0..10 {
        let upgrades: Vec<Action> =
            world.plan().actions.values().flatten().map(|planned| planned.action.clone()).collect();
        assert!(upgrades.len() <= 1, "{upgrades:?}");
        let Some(Action::Upgrade { slot, .. }) = upgrades.first() else { break };
        order.push(*slot);
        world.apply(upgrades[0].clone());
    }
    assert_eq!(order, [R0, M1, M2, M0]);
}

#[test]
fn a_build_that_was_sent_back_is_ordered_nowhere_and_stalls_and_another_build_is_ordered() {
    let upgrades = |world: &World| -> Vec<Slot> {
        let plan = world.plan();
        let upgrade = |planned: &drover_plan::Planned| match planned.action {
            Action::Upgrade { slot, .. } => Some(slot),
            _ => None,
        };
        plan.actions.values().flatten().filter_map(upgrade).collect()
    };
    let build = |digit: &str| drover_api::BuildId::new(digit.repeat(64)).expect("valid");
    let mut world = ready(3, 1);
    world.observed.operator.builds.insert("arm64".into(), build("b"));
    assert_eq!(upgrades(&world), [R0]);
    world.report(R0).ordered_build = Some(BuildReport::SentBack { build: build("b") });
    assert_eq!(upgrades(&world), []);
    let stalled = world.plan().reports[&key()].condition(ConditionType::Stalled).cloned().expect("stalled");
    assert_eq!(stalled.reason, "BuildRejected");
    world.observed.operator.builds.insert("arm64".into(), build("c"));
    assert_eq!(upgrades(&world), [R0]);
    assert!(world.plan().reports[&key()].condition(ConditionType::Stalled).is_none());
}

#[test]
fn a_silent_agent_stops_an_upgrade_and_keeps_its_tag() {
    let mut world = ready(3, 0);
    let build = drover_api::BuildId::new("b".repeat(64)).expect("valid");
    world.observed.operator.builds.insert("arm64".into(), build);
    world.silence(M2);
    let plan = world.plan();
    assert!(plan.is_quiet(), "{:#?}", plan.actions);
    assert!(!plan.reports[&key()].ready);
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
