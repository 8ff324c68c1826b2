//! What is declared by nobody, deleted, paused or held; a bucket that is lost.

use drover_plan::SetReport;

use super::*;

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

/// Deletes the set, and holds what is said of it in every pass until it is gone.
fn ends_without_a_loss(mut world: World, check: impl Fn(&SetReport)) {
    world.observed.intents.clear();
    world.observed.deletions.insert(key());
    // From then on it is being deleted.
    world.passes(1, |_, _| false);
    let mut seen = 0;
    for _ in 0..60 {
        let plan = world.plan();
        let report = &plan.reports[&key()];
        for kind in [ConditionType::Stalled, ConditionType::PrimaryLost] {
            assert_eq!(report.condition(kind), None, "{}", report.verdict);
        }
        seen += usize::from(report.verdict.contains("is being deleted"));
        check(report);
        world.passes(1, |_, _| false);
    }
    assert!(seen > 0 && world.live_machines() == 0, "seen {seen} times");
}

#[test]
fn a_set_that_is_being_deleted_asks_nobody_to_restore_it() {
    ends_without_a_loss(ready(3, 1), |_| ());
    // One that was lost before stays closed: what runs in the leader's place never led.
    let mut lost = ready(3, 0);
    lost.terminate(M0);
    lost.passes(5, |_, _| false);
    assert!(lost.plan().reports[&key()].condition(ConditionType::PrimaryLost).is_some());
    assert_eq!(lost.machine(M0).phase, Phase::Running, "its replacement");
    lost.silence(M0);
    ends_without_a_loss(lost, |report| {
        let endpoints = report.endpoints.iter().flat_map(|endpoints| &endpoints.primary);
        assert_eq!(endpoints.count(), 0, "{}", report.verdict);
        let available = report.condition(ConditionType::Available);
        assert!(available.is_none_or(|available| !available.status), "{available:?}");
    });
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
fn a_volume_without_a_machine_is_reported_too_and_a_deletion_under_way_is_not() {
    let mut world = ready(1, 0);
    let id: InstanceId = world.machine(M0).id.clone();
    world.terminate(M0);
    world.observed.intents.clear();
    let plan = world.plan();
    assert!(matches!(&plan.unclaimed[..], [line] if line.starts_with("vol-")), "{id}: {:?}", plan.unclaimed);
    delete(&mut world);
    world.passes(1, |_, _| false);
    world.observed.deletions.clear();
    assert_eq!(world.plan().unclaimed, Vec::<String>::new());
}
