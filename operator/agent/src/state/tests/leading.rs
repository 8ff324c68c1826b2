//! How a leader is made, opened and closed.

use super::*;

#[test]
fn a_first_leader_is_made_closed_and_opened_only_after_register_and_marker() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, false)))).wait(3);
    assert_eq!(world.take_done(), TO_CLOSED);
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
    assert!(world.seen.super_read_only && world.seen.offline);

    world.order(orders(1, 2, RoleOrder::Leader(leader(1, true)))).wait(3);
    assert_eq!(world.take_done(), ["ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"]);
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
    assert_eq!(world.persisted.as_ref().map(|record| record.dirty), Some(Some(Epoch(1))));
}

#[test]
fn a_set_of_one_runs_without_semi_sync() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(leader(0, true)))).wait(3);
    assert!(!world.done.contains(&"SemiSync".to_owned()));
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn nobody_is_let_in_before_the_marker_is_acknowledged() {
    let mut world = World::new();
    world.acknowledged = false;
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(30);
    assert_eq!(world.phase(), Some(LeaderPhase::Marking));
    assert!(world.seen.offline);
    assert!(world.problems().contains(&Reason::MarkerWaits));
    assert_eq!(world.done.iter().filter(|done| *done == "Marker 1").count(), 1);
    let start = world.up.clone().expect("runs").start;
    world.tell(Event::MarkerAcknowledged { start, epoch: Epoch(1), n: 1 });
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn a_register_that_does_not_name_this_very_data_keeps_it_closed() {
    let other_voter =
        |register: &mut Register| register.voters[0].voter_id = VoterId::new("voter-00000002").expect("valid");
    type Change = fn(&mut Register);
    let cases: [(&str, Change); 8] = [
        ("fencing", |register| register.state = RegisterState::Fencing),
        ("another epoch", |register| register.epoch = Epoch(2)),
        ("another claim", |register| register.claim = claim("d")),
        ("another leader", |register| register.leader = Slot::Member(1)),
        ("another voter", other_voter),
        ("data that is older", |register| register.base = Some(format!("{UUID}:1-3").parse().expect("valid"))),
        ("another generation", |register| register.voters[0].generation = 2),
        ("another life", |register| register.voters[0].life = 2),
    ];
    for (case, change) in cases {
        let mut world = World::new();
        change(world.register.as_mut().expect("there is one"));
        world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(10);
        assert_eq!(world.phase(), Some(LeaderPhase::Closed), "{case}");
        assert!(world.problems().contains(&Reason::RegisterObjects), "{case}: {:?}", world.problems());
        assert!(!world.done.contains(&"Unseal".to_owned()), "{case}");
        assert_eq!(world.persisted.as_ref().and_then(|record| record.dirty), None, "{case}");
    }
    let mut world = World::new();
    world.register = None;
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(10);
    assert!(world.problems().contains(&Reason::RegisterMissing));
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
}

#[test]
fn lost_acknowledgers_switch_nothing_off() {
    let mut world = opened();
    world.acknowledged = false;
    let before = world.seen.clone();
    world.wait(600);
    assert!(world.take_done().is_empty());
    assert_eq!(world.seen, before);
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn a_higher_epoch_closes_an_open_leader_before_it_opens_again() {
    let mut world = opened();
    world.register = Some(register(2, me().slot));
    world.order(orders(2, 1, RoleOrder::Leader(LeaderOrder { initialise: false, ..leader(2, true) }))).wait(3);
    let expected = ["Close", "SemiSync", "ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"];
    assert_eq!(world.take_done(), expected);
}

#[test]
fn a_leader_whose_semi_sync_was_changed_by_someone_is_closed_before_that_is_put_right() {
    for k in [0, 2, u8::MAX] {
        let mut world = opened();
        world.seen.source_k = k;
        world.wait(3);
        let expected = ["Close", "SemiSync", "ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"];
        assert_eq!(world.take_done(), expected, "{k}");
        assert_eq!(world.phase(), Some(LeaderPhase::Open));
    }
}

#[test]
fn accounts_are_told_when_they_are_made_and_not_when_they_are_ordered() {
    let made = |world: &World| match world.server() {
        ServerReport::Running(Running { role: RunningRole::Leader { accounts_made, .. }, .. }) => *accounts_made,
        other => panic!("{other:?}"),
    };
    let mut world = opened();
    assert!(made(&world));
    let without = Event::Orders {
        to: 0,
        orders: Box::new(orders(1, 2, RoleOrder::Leader(LeaderOrder { accounts: vec![], ..leader(1, true) }))),
    };
    let effects = world.state.step(world.now, without);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Do(Task::Accounts { .. }))), "{effects:?}");
    assert!(!made(&world));
    world.tell(Event::Done(Outcome::Plain));
    assert!(made(&world));
}

#[test]
fn k_is_never_changed_while_open() {
    let mut world = opened();
    world.order(orders(1, 2, RoleOrder::Leader(leader(2, true)))).wait(3);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })));
    assert!(world.take_done().is_empty());
}

#[test]
fn a_closed_order_closes_what_runs_and_starts_nothing() {
    let mut world = opened();
    world.order(orders(2, 1, RoleOrder::Closed)).wait(3);
    assert_eq!(world.take_done(), ["Close"]);
    world.kill_mysqld().wait(30);
    assert!(world.take_done().is_empty());
    assert_eq!(*world.server(), ServerReport::Stopped);
}
