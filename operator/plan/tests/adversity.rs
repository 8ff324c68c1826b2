//! What goes wrong and must not hold a set up for ever, leave anything behind, or let a vote count that must not.

#![allow(clippy::panic, reason = "a broken expectation ends the test")]

mod world;

use drover_api::{
    Epoch, ImageId, InstanceId, Slot,
    conditions::ConditionType,
    problems::{Problem, Reason},
    records::{IncarnationState, RegisterState},
    wire::{BuildReport, DataReport, RoleOrder, RunningRole, ServerReport, ThreadReport, VolumeReport, Wanted},
};
use drover_plan::{
    Action,
    observed::{CatalogSubnet, Failure, FailureKind, Phase, Seen, Send, VolumePhase},
};
use world::{World, fresh_send, key, resolved, zones};

const M0: Slot = Slot::Member(0);
const M1: Slot = Slot::Member(1);
const M2: Slot = Slot::Member(2);
const R0: Slot = Slot::Reader(0);

fn ready(members: u8, readers: u16) -> World {
    let mut world = World::new(resolved(members, readers));
    let plan = world.converge();
    assert!(plan.reports[&key()].ready, "{:#?}", plan.reports[&key()]);
    world.done.clear();
    world
}

fn passes(world: &mut World, passes: usize, held: impl FnMut(&mut World, &Action) -> bool) {
    world.passes(passes, held);
}

fn stalled(world: &World) -> Option<String> {
    world.plan().reports[&key()].condition(ConditionType::Stalled).map(|stalled| stalled.reason.clone())
}

fn refused(world: &World, kind: FailureKind, ambiguous: bool) -> Send {
    let failure = Failure { at: world.observed.now, kind, message: "no".into() };
    Send { count: 1, ambiguous, failure: Some(failure), ..fresh_send() }
}

/// Every launch is refused like this, without reaching EC2.
fn refuse_launches(world: &mut World, kind: FailureKind) {
    passes(world, 4, |world, action| match action {
        Action::Launch { request, .. } => {
            let refused = refused(world, kind, false);
            world.observed.sends.insert(request.token.clone(), refused);
            true
        }
        _ => false,
    });
}

fn refuse_volumes(world: &mut World, kind: FailureKind, ambiguous: bool) {
    passes(world, 10, |world, action| match action {
        Action::CreateVolume { request, .. } => {
            let refused = refused(world, kind, ambiguous);
            world.observed.sends.insert(request.token.clone(), refused);
            true
        }
        _ => false,
    });
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

// Requests that were refused.

#[test]
fn a_volume_that_may_have_been_sent_is_given_up_when_lists_stay_without_it_for_five_minutes() {
    let mut world = World::new(resolved(1, 0));
    refuse_volumes(&mut world, FailureKind::TokenMismatch, true);
    later(&mut world, 290);
    world.observed.fleet.volumes_listed = Some(world.observed.now);
    assert!(world.plan().is_quiet(), "{:#?}", world.plan().actions);
    later(&mut world, 20);
    assert!(world.plan().is_quiet(), "a list from before says nothing");
    world.observed.fleet.volumes_listed = Some(world.observed.now);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.live_volumes(), 1);
    assert_eq!(world.records().slots[&M0].volume_attempt, 2);
}

#[test]
fn a_volume_that_may_have_been_sent_does_not_hold_up_a_deletion_for_ever() {
    let mut world = World::new(resolved(1, 0));
    refuse_volumes(&mut world, FailureKind::TokenMismatch, true);
    delete(&mut world);
    world.converge();
    later(&mut world, 301);
    world.observed.fleet.volumes_listed = Some(world.observed.now);
    world.converge();
    assert_eq!(world.records().incarnation.as_ref().map(|life| life.state), Some(IncarnationState::Dead));
}

#[test]
fn a_volume_that_finds_no_room_is_asked_for_again_under_the_same_token() {
    let mut world = World::new(resolved(1, 0));
    refuse_volumes(&mut world, FailureKind::Capacity, false);
    assert_eq!(world.records().slots[&M0].volume_attempt, 1);
    assert!(world.plan().is_quiet(), "{:#?}", world.plan().actions);
    later(&mut world, 61);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().slots[&M0].volume_attempt, 1);
}

#[test]
fn a_volume_refused_as_invalid_is_asked_anew_when_its_manifest_changes() {
    let mut world = World::new(resolved(1, 0));
    refuse_volumes(&mut world, FailureKind::Invalid, false);
    assert_eq!(stalled(&world).as_deref(), Some("VolumeRefused"));
    world.set(|set| set.data_volume.size_gib = 30);
    assert!(world.converge().reports[&key()].ready);
    let request = world.records().slots[&M0].volume_request.clone().expect("kept");
    assert_eq!(request.size_gib, 30);
}

#[test]
fn a_launch_refused_as_invalid_is_made_anew_when_its_selectors_find_something_else() {
    let mut world = World::new(resolved(1, 0));
    refuse_launches(&mut world, FailureKind::Invalid);
    assert_eq!(stalled(&world).as_deref(), Some("LaunchRefused"));
    let mut catalog = zones(3);
    let image: ImageId = "ami-2".parse().expect("valid");
    catalog.image.as_mut().expect("resolved").id = image.clone();
    world.observed.catalogs.insert(key(), Seen::Known(catalog));
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().slots[&M0].launch.as_ref().map(|request| request.image.clone()), Some(image));
}

#[test]
fn a_launch_over_a_quota_follows_the_manifest() {
    let mut world = World::new(resolved(1, 0));
    refuse_launches(&mut world, FailureKind::Quota);
    world.set(|set| set.instance_types = vec!["t4g.small".into()]);
    world.observed.catalogs.insert(
        key(),
        Seen::Known({
            let mut catalog = zones(3);
            catalog.instance_types = Ok(vec!["t4g.small".into()]);
            catalog
        }),
    );
    assert!(world.converge().reports[&key()].ready);
    let launch = world.records().slots[&M0].launch.clone().expect("kept");
    assert_eq!((launch.instance_type.as_str(), world.live_machines()), ("t4g.small", 1));
}

#[test]
fn a_launch_that_was_refused_for_sure_does_not_hold_up_a_deletion() {
    for kind in [FailureKind::Quota, FailureKind::Denied, FailureKind::Retry, FailureKind::Capacity] {
        let mut world = World::new(resolved(1, 0));
        refuse_launches(&mut world, kind);
        delete(&mut world);
        world.done.clear();
        world.converge();
        assert!(!world.done.contains(&"Launch"), "{kind:?}: launched to be ended: {:?}", world.done);
        assert_eq!(world.records().incarnation.as_ref().map(|life| life.state), Some(IncarnationState::Dead));
    }
}

/// Whoever recorded it is gone, and may have sent it: only sending it again tells the id by which it is ended.
#[test]
fn a_launch_whose_outcome_is_not_known_is_sent_again_as_it_was_and_ended_by_id_with_its_slot() {
    for is_deleted in [true, false] {
        let mut world = World::new(resolved(1, 1));
        passes(&mut world, 40, |_, action| matches!(action, Action::Launch { slot: R0, .. }));
        let request = world.records().slots[&R0].launch.clone().expect("recorded");
        world.observed.sends.remove(&request.token);
        // What would be asked for now is another request.
        world.observed.operator.user_data = "#!/bin/sh\n# of another build".into();
        world.set(|set| {
            set.instance_types = vec!["t4g.small".into()];
            set.read_replicas = 0;
        });
        if is_deleted {
            delete(&mut world);
        }
        let mut sent = Vec::new();
        passes(&mut world, 5, |_, action| match action {
            Action::Launch { request, .. } => {
                sent.push((**request).clone());
                true
            }
            _ => false,
        });
        assert!(sent.len() >= 2 && sent.iter().all(|again| *again == request), "{sent:#?}");
        let record = &world.records().slots[&R0];
        assert!(record.retired && record.launch.is_some(), "it is forgotten before its id is known: {record:?}");
        // Its answer is a machine, and that is ended.
        world.done.clear();
        world.converge();
        assert_eq!(world.done.iter().filter(|kind| **kind == "Launch").count(), 1, "{:?}", world.done);
        let left = if is_deleted { 0 } else { 1 };
        assert_eq!((world.live_machines(), world.live_volumes()), (left, left), "deleted: {is_deleted}");
    }
}

#[test]
fn an_instance_profile_that_stays_unknown_stalls_with_the_field_to_change_and_one_that_comes_heals() {
    let mut world = World::new(resolved(1, 0));
    refuse_launches(&mut world, FailureKind::NotVisibleYet);
    assert_eq!(stalled(&world), None, "a new profile is not visible at once");
    let token = world.records().slots[&M0].launch.clone().expect("recorded").token;
    let first = world.observed.now;
    later(&mut world, 600);
    let failure =
        Failure { at: world.observed.now, kind: FailureKind::NotVisibleYet, message: "Invalid profile".into() };
    let send = world.observed.sends.get_mut(&token).expect("sent");
    (send.failure, send.failing_since) = (Some(failure), Some(first));
    let report = world.plan().reports[&key()].clone();
    let condition = report.condition(ConditionType::Stalled).cloned().expect("stalled");
    assert_eq!(condition.reason, "InstanceProfileUnknown");
    assert!(condition.message.contains("change spec.machine.instanceProfile"), "{}", condition.message);
    assert!(world.plan().is_quiet(), "{:#?}", world.plan().actions);
    later(&mut world, 60);
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn a_full_subnet_is_avoided_for_another_of_its_zone_and_one_that_is_the_last_is_waited_for() {
    let mut world = World::new(resolved(3, 0));
    let mut catalog = zones(3);
    let subnets = catalog.subnets.as_mut().expect("resolved");
    let full = subnets[0].clone();
    let second = CatalogSubnet { id: "subnet-spare".parse().expect("valid"), ..full.clone() };
    subnets.insert(1, second.clone());
    world.observed.catalogs.insert(key(), Seen::Known(catalog));
    world.observed.full_subnets.insert(full.id.clone());
    assert!(world.converge().reports[&key()].ready);
    let launches = |world: &mut World| {
        let slots = world.records().slots.values().filter_map(|slot| slot.launch.clone());
        slots.map(|request| request.subnet).collect::<Vec<_>>()
    };
    let asked = launches(&mut world);
    assert!(asked.contains(&second.id) && !asked.contains(&full.id), "{asked:?}");

    // All of the zone's are full: a spread that is Required waits, with the reason, and asks nothing of EC2.
    let mut world = World::new(resolved(3, 0));
    world.observed.full_subnets.insert(full.id.clone());
    let report = world.converge().reports[&key()].clone();
    assert_eq!(world.live_machines(), 2);
    assert!(report.awaiting.iter().any(|line| line.contains("no free address")), "{report:#?}");
    world.observed.full_subnets.clear();
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn a_launch_goes_on_in_its_subnet_when_another_has_more_free_addresses_by_now() {
    let mut world = World::new(resolved(1, 0));
    refuse_launches(&mut world, FailureKind::Denied);
    let asked = world.records().slots[&M0].launch.clone().expect("recorded");
    let mut catalog = zones(3);
    let subnets = catalog.subnets.as_mut().expect("resolved");
    let index = subnets.iter().position(|subnet| subnet.id == asked.subnet).expect("one of them");
    let other = CatalogSubnet { id: "subnet-spare".parse().expect("valid"), ..subnets[index].clone() };
    subnets.insert(index, other);
    world.observed.catalogs.insert(key(), Seen::Known(catalog));
    later(&mut world, 31);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().slots[&M0].launch, Some(asked));
}

// Machines and volumes that show up late.

#[test]
fn a_machine_that_shows_up_after_it_was_given_up_is_kept_and_no_second_is_launched() {
    let mut world = ready(3, 0);
    let machine = world.machine(M1).clone();
    let agent = world.observed.agents.remove(&machine.id).expect("an agent");
    world.observed.fleet.machines.get_mut(&machine.id).expect("listed").phase = Phase::Terminated;
    passes(&mut world, 1, |_, _| false);
    assert_eq!(world.records().slots[&M1].instance, None);
    world.observed.fleet.machines.insert(machine.id.clone(), machine.clone());
    world.observed.agents.insert(machine.id.clone(), agent);
    assert!(world.converge().reports[&key()].ready);
    assert!(!world.done.contains(&"Launch"), "{:?}", world.done);
    assert_eq!(world.records().slots[&M1].instance, Some(machine.id));
}

#[test]
fn a_machine_that_shows_up_while_its_replacement_is_recorded_is_kept_and_nothing_is_sent() {
    for is_of_another_process in [false, true] {
        let mut world = ready(3, 0);
        let machine = world.machine(M1).clone();
        let agent = world.observed.agents.remove(&machine.id).expect("an agent");
        world.observed.fleet.machines.get_mut(&machine.id).expect("listed").phase = Phase::Terminated;
        passes(&mut world, 2, |_, action| matches!(action, Action::Launch { .. }));
        let request = world.records().slots[&M1].launch.clone().expect("recorded");
        if is_of_another_process {
            world.observed.sends.remove(&request.token);
        }
        world.observed.fleet.machines.insert(machine.id.clone(), machine.clone());
        world.observed.agents.insert(machine.id.clone(), agent);
        if is_of_another_process {
            // Whether it was sent is not known: only look-ups tell, from one to another five minutes later.
            for seconds in (0..=300).step_by(10) {
                let actions: Vec<_> = world.plan().actions.values().flatten().map(|it| it.action.clone()).collect();
                assert_eq!(actions, [Action::FindByToken { token: request.token.clone() }], "after {seconds} s");
                let now = world.observed.now;
                let send = world.observed.sends.entry(request.token.clone()).or_insert(fresh_send());
                send.minted_here = false;
                (send.looked_up_empty_since, send.last_lookup) = (send.looked_up_empty_since.or(Some(now)), Some(now));
                later(&mut world, 10);
            }
        }
        assert!(world.converge().reports[&key()].ready);
        assert!(!world.done.contains(&"Launch"), "{:?}", world.done);
        assert_eq!(world.records().slots[&M1].instance, Some(machine.id));
    }
}

#[test]
fn what_shows_up_in_a_slot_that_has_ended_is_ended_too() {
    for deleted in [false, true] {
        let mut world = ready(1, 1);
        let mut machine = world.machine(R0).clone();
        let mut volume = world.observed.fleet.volumes.values().find(|volume| volume.slot == R0).expect("one").clone();
        world.set(|set| set.read_replicas = 0);
        world.converge();
        (machine.id, machine.attempt) = ("i-0feedfacefeedface".parse().expect("valid"), 7);
        (volume.id, volume.attached_to, volume.phase) =
            ("vol-0feedfacefeedface".parse().expect("valid"), Some(machine.id.clone()), VolumePhase::Attached);
        if deleted {
            delete(&mut world);
            passes(&mut world, 1, |_, _| false);
        }
        world.observed.fleet.machines.insert(machine.id.clone(), machine);
        world.observed.fleet.volumes.insert(volume.id.clone(), volume);
        world.converge();
        let left = if deleted { (0, 0) } else { (1, 1) };
        assert_eq!((world.live_machines(), world.live_volumes()), left, "deleted: {deleted}");
    }
}

fn lose_volume(world: &mut World, slot: Slot) {
    let id = world.records().slots[&slot].volume.clone().expect("a volume");
    let volume = world.observed.fleet.volumes.get_mut(&id).expect("listed");
    (volume.phase, volume.attached_to) = (VolumePhase::Deleted, None);
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
fn a_bundle_that_was_lost_is_made_again_before_its_machine_is_replaced() {
    let mut world = ready(3, 1);
    world.records().bundles.clear();
    world.terminate(M1);
    passes(&mut world, 1, |_, _| false);
    assert_eq!(world.records().bundles.len(), 4);
    assert!(!world.done.contains(&"Launch"), "{:?}", world.done);
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn the_leaders_volume_is_never_ordered_as_new_although_its_record_was_lost() {
    let mut world = ready(3, 0);
    let voter = world.records().register.as_ref().expect("a register").voters[0].voter_id.clone();
    world.records().slots.remove(&M0);
    passes(&mut world, 1, |_, _| false);
    assert_eq!(world.records().slots[&M0].formatted, None);
    world.report(M0).accepted = None;
    let wanted = orders(&world, M0).expect("an order");
    assert_eq!((wanted.volume.new, wanted.volume.expected), (false, Some(voter)));
}

// Lives and votes.

#[test]
fn no_member_is_told_to_acknowledge_before_it_is_known_in_which_life_its_volume_came_back() {
    let mut world = ready(3, 0);
    world.terminate(M1);
    passes(&mut world, 60, |world, action| {
        if let Action::Order { slot: M1, wanted, .. } = action {
            let known = matches!(world.report(M1).volume, VolumeReport::Mounted(_));
            assert!(known || matches!(wanted.role, RoleOrder::Closed), "{wanted:?}");
        }
        false
    });
    assert!(world.plan().reports[&key()].ready);
}

#[test]
fn the_leaders_accounts_do_not_change_while_a_returned_life_is_silent() {
    let mut world = ready(3, 0);
    world.terminate(M1);
    passes(
        &mut world,
        40,
        |_, action| matches!(action, Action::PutRegister { register, .. } if register.joining.is_some()),
    );
    world.silence(M1);
    assert!(orders(&world, M0).is_none(), "{:?}", orders(&world, M0));
}

#[test]
fn a_returned_life_is_admitted_only_when_it_follows_by_a_learners_account() {
    let mut world = ready(3, 0);
    world.terminate(M1);
    for _ in 0..60 {
        passes(&mut world, 1, |_, _| false);
        if world.live_machines() == 3
            && let ServerReport::Running(running) = &mut world.report(M1).mysql.server
            && let RunningRole::Replica { receiving, .. } = &mut running.role
        {
            *receiving = ThreadReport::Connecting { error: None };
        }
    }
    let register = world.records().register.clone().expect("a register");
    assert!(register.joining.is_none() && register.voters[1].life == 1, "{register:?}");
    if let ServerReport::Running(running) = &mut world.report(M1).mysql.server
        && let RunningRole::Replica { receiving, .. } = &mut running.role
    {
        *receiving = ThreadReport::Running;
    }
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().register.as_ref().map(|register| register.voters[1].life), Some(2));
}

#[test]
fn a_returned_life_is_admitted_only_when_the_leader_has_seen_the_old_one_gone() {
    let shut_out = |world: &mut World, is: bool| {
        if let ServerReport::Running(running) = &mut world.report(M0).mysql.server
            && let RunningRole::Leader { accounts_made, .. } = &mut running.role
        {
            *accounts_made = is;
        }
    };
    let mut world = ready(3, 0);
    world.terminate(M1);
    for _ in 0..60 {
        passes(&mut world, 1, |_, _| false);
        shut_out(&mut world, false);
    }
    let follows = matches!(&world.report(M1).mysql.server, ServerReport::Running(running)
        if matches!(running.role, RunningRole::Replica { receiving: ThreadReport::Running, .. }));
    let register = world.records().register.clone().expect("a register");
    assert!(follows && register.joining.is_none() && register.voters[1].life == 1, "{register:?}");
    shut_out(&mut world, true);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().register.as_ref().map(|register| register.voters[1].life), Some(2));
}

#[test]
fn a_joiner_that_was_lost_is_taken_back_with_a_marker_it_cannot_have_acknowledged() {
    let mut world = ready(3, 0);
    let before = world.records().register.clone().expect("a register");
    world.terminate(M1);
    passes(&mut world, 60, |world, action| {
        let is_joint = world.records().register.as_ref().is_some_and(|register| register.joining.is_some());
        is_joint && matches!(action, Action::PutRegister { .. })
    });
    let ServerReport::Running(running) = world.report(M0).mysql.server.clone() else { panic!("m0 does not run") };
    assert!(
        matches!(running.role, RunningRole::Leader { marker, .. } if marker == Some(before.marker + 1)),
        "the joint set was to be proven: {running:?}"
    );
    world.terminate(M1);
    passes(&mut world, 60, |world, action| {
        let is_joint = world.records().register.as_ref().is_some_and(|register| register.joining.is_some());
        !is_joint && matches!(action, Action::PutRegister { .. })
    });
    let after = world.records().register.clone().expect("a register");
    assert_eq!((after.voters, after.joining), (before.voters, None));
    assert_eq!(after.marker, before.marker + 2);
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn a_set_whose_voters_came_back_in_another_life_before_it_opened_still_opens() {
    let mut world = World::new(resolved(3, 0));
    let is_active = |world: &mut World| {
        world.records().register.as_ref().is_some_and(|register| register.state == RegisterState::Active)
    };
    passes(&mut world, 60, |world, action| matches!(action, Action::Order { slot: M1 | M2, .. }) && is_active(world));
    assert!(is_active(&mut world));
    world.terminate(M1);
    world.terminate(M2);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().register.as_ref().map(|register| register.epoch), Some(Epoch(2)));
}

// Agents.

#[test]
fn an_agent_that_makes_data_is_not_told_to_become_another() {
    let mut world = ready(1, 2);
    world.report(R0).mysql.data = DataReport::Seeding { donor: M0, started: world.observed.now };
    let build = drover_api::BuildId::new("b".repeat(64)).expect("valid");
    world.observed.operator.builds.insert("arm64".into(), build);
    let told: Vec<Slot> = world
        .plan()
        .actions
        .values()
        .flatten()
        .filter_map(|planned| match planned.action {
            Action::Upgrade { slot, .. } => Some(slot),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Slot::Reader(1)]);
}

#[test]
fn a_build_that_was_sent_back_holds_up_that_build_and_no_other() {
    let build = |letter: &str| drover_api::BuildId::new(letter.repeat(64)).expect("valid");
    let upgraded = |world: &World| {
        let actions = world.plan().actions.into_values().flatten();
        let builds = actions.filter_map(|planned| match planned.action {
            Action::Upgrade { slot, build, .. } => Some((slot, build)),
            _ => None,
        });
        builds.collect::<Vec<_>>()
    };
    let mut world = ready(1, 2);
    world.observed.operator.builds.insert("arm64".into(), build("b"));
    let cases = [
        (BuildReport::SentBack { build: build("b") }, false, Some("BuildRejected".to_owned())),
        (BuildReport::Fetching { build: build("b") }, false, None),
        (BuildReport::Failed { build: build("b"), why: "no answer".into() }, true, None),
        (BuildReport::SentBack { build: build("c") }, true, None),
    ];
    for (report, sent, stall) in cases {
        world.report(R0).ordered_build = Some(report.clone());
        let expected = if sent { vec![(R0, build("b"))] } else { vec![] };
        assert_eq!((upgraded(&world), stalled(&world)), (expected, stall), "{report:?}");
    }
}

#[test]
fn what_only_a_person_can_mend_on_a_machine_stalls_the_set() {
    for (reason, stalls) in [
        (Reason::ForeignVolume, Some("ForeignVolume")),
        (Reason::OtherMysqlVersion, Some("OtherMysqlVersion")),
        (Reason::MysqldEnded, None),
        (Reason::Other("FromTheFuture".into()), None),
    ] {
        let mut world = ready(3, 0);
        world.report(M2).problems = vec![Problem { reason, message: "why".into() }];
        assert_eq!(stalled(&world).as_deref(), stalls);
    }
}

#[test]
fn instance_types_that_nobody_knows_stall_the_set_and_name_what_to_change() {
    let mut world = World::new(resolved(1, 0));
    let mut catalog = zones(3);
    catalog.instance_types = Err("EC2 knows none of the instance types m9x.large in this Region".into());
    world.observed.catalogs.insert(key(), Seen::Known(catalog));
    let plan = world.converge();
    let stalled = plan.reports[&key()].condition(ConditionType::Stalled).expect("stalled");
    assert_eq!(stalled.reason, "InstanceTypesUnresolved");
    let expected =
        "m0: change spec.machine.instanceTypes: EC2 knows none of the instance types m9x.large in this Region";
    assert_eq!(stalled.message, expected);
    world.observed.catalogs.insert(key(), Seen::Known(zones(3)));
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn a_volume_without_a_machine_is_reported_too_and_a_deletion_under_way_is_not() {
    let mut world = ready(1, 0);
    let id: InstanceId = world.machine(M0).id.clone();
    world.terminate(M0);
    world.observed.intents.clear();
    let plan = world.plan();
    assert!(matches!(&plan.unclaimed[..], [line] if line.starts_with("vol-")), "{id}: {:?}", plan.unclaimed);
    delete(&mut world);
    passes(&mut world, 1, |_, _| false);
    world.observed.deletions.clear();
    assert_eq!(world.plan().unclaimed, Vec::<String>::new());
}
