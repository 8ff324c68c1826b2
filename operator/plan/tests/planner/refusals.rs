//! Requests that were refused, or whose outcome is not known.

use super::*;

fn refused(world: &World, kind: FailureKind, ambiguous: bool) -> Send {
    let failure = Failure { at: world.observed.now, kind, message: "no".into() };
    Send { count: 1, ambiguous, failure: Some(failure), ..fresh_send() }
}

/// Every launch is refused like this, without reaching EC2.
fn refuse_launches(world: &mut World, kind: FailureKind) {
    world.passes(4, |world, action| match action {
        Action::Launch { request, .. } => {
            let refused = refused(world, kind, false);
            world.observed.sends.insert(request.token.clone(), refused);
            true
        }
        _ => false,
    });
}

fn refuse_volumes(world: &mut World, kind: FailureKind, ambiguous: bool) {
    world.passes(10, |world, action| match action {
        Action::CreateVolume { request, .. } => {
            let refused = refused(world, kind, ambiguous);
            world.observed.sends.insert(request.token.clone(), refused);
            true
        }
        _ => false,
    });
}

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
        world.passes(40, |_, action| matches!(action, Action::Launch { slot: R0, .. }));
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
        world.passes(5, |_, action| match action {
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
fn machines_that_no_agent_is_published_for_are_not_launched_and_the_set_says_what_to_do() {
    let build = drover_api::BuildId::new("b".repeat(64)).expect("valid");
    let mut world = World::new(resolved(3, 0));
    world.observed.operator.builds = std::collections::BTreeMap::from([("x86_64".to_owned(), build.clone())]);
    world.converge();
    let report = &world.plan().reports[&key()];
    let stalled = report.condition(ConditionType::Stalled).expect("stalled");
    assert_eq!(stalled.reason, "NoAgentForArchitecture");
    let said = &stalled.message;
    assert!(said.contains("give the operator an agent for arm64") && said.contains("an image for x86_64"), "{said}");
    assert_eq!((world.live_machines(), world.live_volumes()), (0, 0));
    world.observed.operator.builds.insert("arm64".into(), build);
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn before_any_operator_has_published_an_agent_nothing_is_refused_for_the_want_of_one() {
    let mut world = World::new(resolved(1, 0));
    world.observed.operator.builds.clear();
    assert!(world.converge().reports[&key()].ready);
}
