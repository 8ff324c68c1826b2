//! How a set comes to be, and where its machines stand.

use drover_api::{Millis, wire::MysqlReport};

use super::*;

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
fn a_paused_set_is_not_called_reconciling() {
    let mut world = ready(1, 0);
    world.set(|set| (set.paused, set.read_replicas) = (true, 2));
    let report = world.plan().reports[&key()].clone();
    assert!(!report.ready && report.condition(ConditionType::Suspended).is_some(), "{report:#?}");
    assert_eq!(report.condition(ConditionType::Reconciling), None);
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

/// What a person reads while a set comes up: one word for each step of a machine, as soon as it is known.
#[test]
fn each_step_of_a_machine_is_told() {
    let said = |world: &World, slot: Slot| {
        let report = world.plan().reports.remove(&key()).expect("a report");
        report.members.into_iter().find(|row| row.slot == slot).map(|row| row.state)
    };
    let mut new = World::new(resolved(3, 0));
    let mut steps = Vec::new();
    for _ in 0..40 {
        steps.extend(said(&new, M1));
        new.passes(1, |_, action| matches!(action, Action::Launch { .. }));
    }
    steps.dedup();
    assert_eq!(steps, ["to be launched", "launching"]);

    let world = |change: &dyn Fn(&mut World)| {
        let mut world = ready(3, 0);
        change(&mut world);
        said(&world, M1).expect("a row")
    };
    let reported = |change: &dyn Fn(&mut MysqlReport)| world(&|world| change(&mut world.report(M1).mysql));
    let connecting = |mysql: &mut MysqlReport| match &mut mysql.server {
        ServerReport::Running(running) => match &mut running.role {
            RunningRole::Replica { receiving, .. } => *receiving = ThreadReport::Connecting { error: None },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let steps = [
        world(&|world| {
            let id = world.machine(M1).id.clone();
            world.observed.fleet.machines.get_mut(&id).expect("listed").phase = Phase::Pending;
        }),
        world(&|world| {
            let id = world.machine(M1).id.clone();
            world.observed.agents.remove(&id);
        }),
        world(&|world| world.report(M1).volume = VolumeReport::Waiting),
        world(&|world| world.report(M1).volume = VolumeReport::Formatting),
        reported(&|mysql| mysql.data = DataReport::Initialising),
        reported(&|mysql| mysql.data = DataReport::Seeding { donor: M2, started: Millis(0) }),
        reported(&|mysql| mysql.server = ServerReport::Starting),
        reported(&connecting),
        reported(&|_| ()),
    ];
    let expected = [
        "machine starting",
        "booting (cloud-init)",
        "awaiting its data volume",
        "formatting its data volume",
        "initialising MySQL",
        "copying from m2",
        "starting MySQL",
        "connecting",
        "replicating",
    ];
    assert_eq!(steps, expected);
    assert_eq!(said(&ready(3, 0), M0).as_deref(), Some("open"));
}
