//! Where clients connect, what conditions say of it, and what an installation allows.

use super::*;

/// The slots that writers and readers are sent to.
fn served(world: &World) -> (Vec<String>, Vec<String>) {
    let report = &world.plan().reports[&key()];
    let endpoints = report.endpoints.clone().expect("known");
    let slots = |all: Vec<drover_plan::Endpoint>| all.into_iter().map(|endpoint| endpoint.slot.to_string()).collect();
    (slots(endpoints.primary), slots(endpoints.replicas))
}

fn lag(world: &mut World, slot: Slot, ms: Option<u64>) {
    match &mut world.report(slot).mysql.server {
        ServerReport::Running(running) => match &mut running.role {
            RunningRole::Replica { lag_ms, .. } => *lag_ms = ms,
            other => panic!("{slot} is {other:?}"),
        },
        other => panic!("{slot} is {other:?}"),
    }
}

fn fresh(world: &mut World) {
    for slot in [M1, M2, R0] {
        lag(world, slot, Some(10));
    }
}

fn condition(world: &World, kind: ConditionType) -> Option<(bool, String)> {
    let report = &world.plan().reports[&key()];
    report.condition(kind).map(|condition| (condition.status, condition.reason.clone()))
}

#[test]
fn readers_are_sent_to_whoever_is_fresh_and_to_the_primary_where_nobody_is() {
    let mut world = ready(3, 1);
    fresh(&mut world);
    assert_eq!(served(&world), (vec!["m0".into()], vec!["m1".into(), "m2".into(), "r0".into()]));
    lag(&mut world, M1, Some(2_001));
    lag(&mut world, M2, None);
    assert_eq!(served(&world).1, ["r0"]);
    lag(&mut world, R0, Some(60_000));
    assert_eq!(served(&world), (vec!["m0".into()], vec!["m0".into()]));
}

#[test]
fn a_silent_follower_is_left_out_after_a_while_and_nobody_is_when_all_are_silent() {
    let mut world = ready(3, 1);
    fresh(&mut world);
    let now = world.observed.now;
    world.observed.agents.values_mut().for_each(|agent| agent.heard = Some(now));
    world.silence(M1);
    later(&mut world, 9);
    assert_eq!(served(&world).1, ["m1", "m2", "r0"]);
    later(&mut world, 2);
    assert_eq!(served(&world).1, ["m2", "r0"]);
    // The operator is cut off from all of them: that says nothing about them.
    for slot in [M0, M2, R0] {
        world.silence(slot);
    }
    later(&mut world, 3600);
    assert_eq!(served(&world), (vec!["m0".into()], vec!["m1".into(), "m2".into(), "r0".into()]));
}

#[test]
fn a_primary_that_died_takes_no_clients_and_conditions_say_so() {
    let mut world = ready(3, 0);
    lag(&mut world, M1, Some(1));
    assert_eq!(condition(&world, ConditionType::Available), Some((true, "PrimaryOpen".into())));
    assert_eq!(condition(&world, ConditionType::QuorumHeld), Some((true, "Acknowledging".into())));
    assert_eq!(condition(&world, ConditionType::ReplicationHealthy), Some((true, "AllReplicating".into())));
    die(&mut world, M0, 1);
    assert_eq!(served(&world), (Vec::<String>::new(), vec!["m1".into(), "m2".into()]));
    assert_eq!(condition(&world, ConditionType::Available), Some((false, "PrimaryClosed".into())));
    assert_eq!(condition(&world, ConditionType::QuorumHeld), None, "a leader that does not run says nothing of it");
}

#[test]
fn missing_acknowledgers_are_a_condition_and_a_set_of_one_asks_nobody() {
    let mut world = ready(3, 0);
    match &mut world.report(M0).mysql.server {
        ServerReport::Running(running) => match &mut running.role {
            RunningRole::Leader { acknowledgers, .. } => acknowledgers.clear(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    assert_eq!(condition(&world, ConditionType::QuorumHeld), Some((false, "AcknowledgersMissing".into())));
    let single = ready(1, 0);
    assert_eq!(condition(&single, ConditionType::QuorumHeld), None);
    assert_eq!(condition(&single, ConditionType::ReplicationHealthy), None);
}

#[test]
fn a_primary_that_a_list_does_not_show_keeps_its_clients_until_it_is_sure_to_be_gone() {
    let mut world = ready(3, 0);
    let id = world.machine(M0).id.clone();
    world.observed.fleet.machines.remove(&id);
    let mut absence = Absence { lists: 1, since: world.observed.now, not_found_by_id: false };
    world.observed.fleet.absent.insert(id.clone(), absence);
    assert_eq!(world.plan().reports[&key()].endpoints, None);
    assert_eq!(condition(&world, ConditionType::Available), Some((true, "PrimaryOpen".into())));
    absence.lists = 100;
    absence.not_found_by_id = true;
    world.observed.fleet.absent.insert(id, absence);
    later(&mut world, 3600);
    assert_eq!(served(&world).0, Vec::<String>::new());
    assert_eq!(condition(&world, ConditionType::Available), Some((false, "PrimaryClosed".into())));
}

#[test]
fn what_is_not_known_says_nothing_of_where_clients_connect() {
    let mut world = ready(3, 0);
    world.observed.records.insert(key(), Seen::Unknown { why: "the bucket does not answer".into() });
    let report = world.plan().reports[&key()].clone();
    assert_eq!(report.endpoints, None);
    assert!(report.condition(ConditionType::Available).is_none());
}

#[test]
fn no_machine_is_launched_beyond_the_limit_and_two_sets_share_it() {
    let mut world = World::new(resolved(3, 2));
    world.observed.operator.machines_max = Some(4);
    let report = world.converge().reports[&key()].clone();
    assert_eq!(world.live_machines(), 4);
    assert!(report.awaiting.iter().any(|line| line.contains("limits.maxMachines")), "{:?}", report.awaiting);
    world.observed.operator.machines_max = Some(5);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.live_machines(), 5);
}

#[test]
fn a_subnet_that_a_namespace_may_not_use_is_not_used() {
    let mut world = World::new(resolved(1, 0));
    let Some(Seen::Known(catalog)) = world.observed.catalogs.get(&key()) else { panic!("a catalog") };
    let last = catalog.subnets.as_ref().expect("subnets").last().expect("three").clone();
    world.set(|set| set.subnets_allowed = Some(vec![last.id.to_string()]));
    world.converge();
    assert_eq!(world.machine(M0).zone, last.zone);
    let mut world = World::new(resolved(1, 0));
    world.set(|set| set.subnets_allowed = Some(vec!["subnet-other".into()]));
    let report = world.converge().reports[&key()].clone();
    assert_eq!(world.live_machines(), 0);
    assert!(report.awaiting.iter().any(|line| line.contains("`allow`")), "{:?}", report.awaiting);
}

#[test]
fn a_deletion_is_over_when_nothing_was_ever_made_or_everything_was_seen_to_end() {
    let mut world = ready(1, 0);
    delete(&mut world);
    assert!(world.plan().ended.is_empty());
    world.converge();
    assert_eq!(world.plan().ended.into_iter().collect::<Vec<_>>(), [key()]);
    let mut never = World::new(resolved(1, 0));
    delete(&mut never);
    assert_eq!(never.plan().ended.len(), 1);
    never.observed.fleet.machines_listed = None;
    assert!(never.plan().ended.is_empty(), "nobody has looked");
}
