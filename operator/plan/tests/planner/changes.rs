//! Changed manifests, and builds of the agent.

use super::*;

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
