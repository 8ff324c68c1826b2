//! What people ask for once.

use drover_api::{Millis, requests::Request, wire::Running};

use super::*;

/// Asks, and answers what becomes of it once plans are quiet.
fn ask(world: &mut World, verb: &str, text: &str) -> String {
    let requests = vec![Request::read(verb, text)];
    world.observed.intents.get_mut(&key()).expect("declared").requests = requests;
    let plan = world.converge();
    let handled = plan.reports[&key()].handled.get(verb).cloned().expect("an answer");
    world.observed.intents.get_mut(&key()).expect("declared").requests = vec![];
    assert_eq!(Some(handled.token.as_str()), text.split(' ').next());
    handled.outcome
}

#[test]
fn a_machine_is_held_and_released_once_and_the_answer_says_which() {
    let mut world = ready(3, 1);
    let id = world.machine(M1).id.to_string();
    let said = ask(&mut world, "hold", "t1 m1 r0");
    assert!(said.starts_with("done: m1 (") && said.contains(&id), "{said}");
    assert!(world.machine(M1).held && world.machine(R0).held && !world.machine(M2).held);
    assert_eq!(world.done, ["Hold", "Hold"]);
    let report = world.plan().reports[&key()].clone();
    let suspended = report.condition(ConditionType::Suspended).expect("a person has two of its machines");
    assert!(suspended.reason == "MachinesHeld" && suspended.message.contains(&id), "{suspended:?}");
    ask(&mut world, "release", "t2 m1");
    assert!(!world.machine(M1).held && world.machine(R0).held);
    for (verb, text, told) in [
        ("hold", "t3 m4", "there is no machine in m4"),
        ("hold", "t4", "name the slots"),
        ("restart", "t6 m1 m4", "there is no machine in m4"),
        ("restart", "t7 r0", "carries drover:hold: release it first"),
        ("explode", "t5 m1", "not known"),
    ] {
        let said = ask(&mut world, verb, text);
        assert!(said.starts_with("refused: ") && said.contains(told), "{said}");
    }
    assert_eq!(world.done.len(), 3, "nothing else was done: {:?}", world.done);
}

#[test]
fn nothing_is_done_and_the_answer_says_so_while_a_set_is_paused() {
    let mut world = ready(1, 0);
    world.set(|set| set.paused = true);
    let said = ask(&mut world, "hold", "t1 m0");
    assert!(said.starts_with("refused: ") && said.contains("spec.paused"), "{said}");
    assert!(!world.machine(M0).held);
}

/// The slots in the order in which they are told to restart, and how many at a time.
fn restarts(world: &mut World, text: &str) -> (Vec<Slot>, Vec<String>) {
    world.observed.intents.get_mut(&key()).expect("declared").requests = vec![Request::read("restart", text)];
    let mut told = Vec::new();
    for _ in 0..60 {
        world.passes(1, |_, action| {
            if let Action::Order { slot, wanted, .. } = action
                && wanted.restart.is_some()
            {
                told.push(*slot);
            }
            false
        });
    }
    (told, world.plan().reports[&key()].awaiting.clone())
}

#[test]
fn mysqld_is_restarted_on_one_machine_after_another_and_on_the_primarys_last() {
    let mut world = ready(3, 1);
    let (told, _) = restarts(&mut world, "t1");
    assert_eq!(told, [R0, M1, M2, M0]);
    let said = ask(&mut world, "restart", "t1");
    assert!(said.starts_with("done: mysqld of m0 (") && said.ends_with("has begun anew"), "{said}");
    assert_eq!(restarts(&mut world, "t2 m0 m2").0, [M2, M0], "those that are named");
    assert_eq!(restarts(&mut ready(1, 0), "t1").0, [M0], "a set of one is alone in its quorum");
}

#[test]
fn nobody_is_restarted_whom_the_primary_needs_to_commit() {
    let mut world = ready(3, 0);
    let silence = |world: &mut World| match &mut world.report(M2).mysql.server {
        ServerReport::Running(Running { role: RunningRole::Replica { receiving, .. }, .. }) => {
            *receiving = ThreadReport::Connecting { error: None };
        }
        other => panic!("{other:?}"),
    };
    silence(&mut world);
    let (told, awaiting) = restarts(&mut world, "t1 m1");
    assert_eq!(told, []);
    assert!(awaiting.iter().any(|line| line.contains("1 other members acknowledge; 0 do")), "{awaiting:#?}");
    // The one that does not serve may: what is in the way of it is maybe cured by that.
    assert_eq!(restarts(&mut world, "t2 m2").0, [M2]);
}

#[test]
fn the_next_one_waits_until_a_restarted_one_serves_again() {
    let mut world = ready(3, 0);
    world.report(M1).mysql.restarted = Some("t1".into());
    match &mut world.report(M1).mysql.server {
        ServerReport::Running(Running { role: RunningRole::Replica { applying, .. }, .. }) => {
            *applying = ThreadReport::Stopped;
        }
        other => panic!("{other:?}"),
    }
    let (told, awaiting) = restarts(&mut world, "t1");
    assert_eq!(told, []);
    assert!(awaiting.iter().any(|line| line.contains("is to serve before the next one")), "{awaiting:#?}");
}

#[test]
fn what_cannot_be_closed_is_told_and_not_tried_again_and_what_has_begun_anew_is_told_too() {
    let mut world = ready(3, 0);
    world.report(M1).mysql.restarted = Some("t1".into());
    world.report(M0).mysql.restart_failed = Some("t1".into());
    let said = ask(&mut world, "restart", "t1");
    assert!(said.starts_with("failed: m0 cannot be closed") && said.ends_with("; m1 have begun anew"), "{said}");
    assert_eq!(restarts(&mut world, "t1").0, []);
}

#[test]
fn a_donor_is_not_restarted_while_a_copy_is_made_from_it() {
    let mut world = ready(3, 1);
    world.report(R0).mysql.data = DataReport::Seeding { donor: M1, started: Millis(1) };
    world.observed.intents.get_mut(&key()).expect("declared").requests = vec![Request::read("restart", "t1 m1")];
    let plan = world.plan();
    let restarts = |action: &Action| matches!(action, Action::Order { wanted, .. } if wanted.restart.is_some());
    assert!(!plan.actions.values().flatten().any(|planned| restarts(&planned.action)), "{:#?}", plan.actions);
    let awaiting = &plan.reports[&key()].awaiting;
    assert!(awaiting.iter().any(|line| line.contains("r0 has copied its data")), "{awaiting:#?}");
}

#[test]
fn no_is_said_when_nothing_can_happen_any_more_and_yes_when_it_is_known() {
    let mut world = super::users::with_users();
    let awaited = |world: &mut World, verb: &str, text: &str| {
        world.observed.intents.get_mut(&key()).expect("declared").requests = vec![Request::read(verb, text)];
        let report = world.plan().reports[&key()].clone();
        report.handled.get(verb).map(|handled| handled.outcome.clone()).ok_or(report.awaiting)
    };
    world.report(M0).mysql.asked = true;
    let told = awaited(&mut world, "drop-database", "t1 shop").expect_err("it may still be dropped");
    assert!(told.iter().any(|line| line.contains("is taken back")), "{told:?}");
    world.report(M0).mysql.asked = false;
    assert!(awaited(&mut world, "drop-database", "t1 shop").is_ok_and(|said| said.starts_with("refused: ")));
    world.set(|set| set.paused = true);
    let quiet = world.plan();
    assert!(quiet.actions.values().all(Vec::is_empty), "a paused set is told to drop something");
    world.set(|set| {
        set.paused = false;
        set.users.clear();
        set.databases.clear();
    });
    super::users::clients(&mut world).databases_known = false;
    let told = awaited(&mut world, "drop-database", "t2 nothing").expect_err("nobody has looked");
    assert!(told.iter().any(|line| line.contains("open and heard")), "{told:?}");
    super::users::clients(&mut world).databases_known = true;
    assert!(awaited(&mut world, "drop-database", "t2 nothing").is_ok_and(|said| said.starts_with("done: ")));
    let id = world.machine(M0).id.clone();
    world.observed.fleet.machines.get_mut(&id).expect("listed").held = true;
    let held = awaited(&mut world, "drop-database", "t3 shop");
    assert!(held.as_ref().is_ok_and(|said| said.contains("carries drover:hold")), "{held:?}");
}

#[test]
fn users_and_databases_are_dropped_when_it_is_asked_for_and_nobody_declares_them() {
    let mut world = super::users::with_users();
    for (verb, text, told) in [
        ("drop-user", "t1 report app", "user report is declared: take it out of spec.mysql.users first"),
        ("drop-database", "t2 shop", "database shop is declared: take it out of spec.mysql.databases first"),
    ] {
        let said = ask(&mut world, verb, text);
        assert!(said.starts_with("refused: ") && said.contains(told), "{said}");
    }
    world.set(|set| {
        set.users.remove("report");
    });
    world.converge();
    assert_eq!(world.plan().reports[&key()].kept_users, ["report"]);
    let said = ask(&mut world, "drop-user", "t3 report app");
    assert!(said.starts_with("refused: user app is declared"), "all or none: {said}");
    let said = ask(&mut world, "drop-user", "t4 report");
    assert_eq!(said, "done: there is no user of Drover's called report in MySQL");
    let report = world.plan().reports[&key()].clone();
    assert!(report.kept_users.is_empty() && report.users.iter().all(|user| user.ready), "{report:#?}");
    world.set(|set| {
        set.users.clear();
        set.databases.clear();
    });
    let said = ask(&mut world, "drop-database", "t5 shop");
    assert!(said.starts_with("done: there is no database"), "{said}");
    let report = world.plan().reports[&key()].clone();
    assert_eq!((report.kept_users, report.kept_databases), (vec!["app".to_owned()], vec![]));
}

#[test]
fn what_is_wanted_and_not_done_is_asked_for_again_once_its_time_is_over() {
    let mut world = ready(1, 0);
    world.observed.intents.get_mut(&key()).expect("declared").requests = vec![Request::read("restart", "t1")];
    let order = |world: &World| {
        let plan = world.plan();
        plan.actions.into_values().flatten().find_map(|planned| match planned.action {
            Action::Order { wanted, .. } => Some(wanted),
            _ => None,
        })
    };
    let wanted = order(&world).expect("it is told to restart");
    assert_eq!(wanted.restart.as_deref(), Some("t1"));
    // Taken, and not begun yet.
    let report = world.report(M0);
    report.accepted.as_mut().expect("it has orders").digest = wanted.digest();
    report.mysql.asked = true;
    assert!(order(&world).is_none());
    world.report(M0).mysql.asked = false;
    assert_eq!(order(&world).map(|again| again.digest()), Some(wanted.digest()));
}
