//! Lives and votes of members that came back.

use super::*;

#[test]
fn no_member_is_told_to_acknowledge_before_it_is_known_in_which_life_its_volume_came_back() {
    let mut world = ready(3, 0);
    world.terminate(M1);
    world.passes(60, |world, action| {
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
    world.passes(40, |_, action| matches!(action, Action::PutRegister { register, .. } if register.joining.is_some()));
    world.silence(M1);
    assert!(orders(&world, M0).is_none(), "{:?}", orders(&world, M0));
}

#[test]
fn a_returned_life_is_admitted_only_when_it_follows_by_a_learners_account() {
    let mut world = ready(3, 0);
    world.terminate(M1);
    for _ in 0..60 {
        world.passes(1, |_, _| false);
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
        world.passes(1, |_, _| false);
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
    world.passes(60, |world, action| {
        let is_joint = world.records().register.as_ref().is_some_and(|register| register.joining.is_some());
        is_joint && matches!(action, Action::PutRegister { .. })
    });
    let ServerReport::Running(running) = world.report(M0).mysql.server.clone() else { panic!("m0 does not run") };
    assert!(
        matches!(running.role, RunningRole::Leader { marker, .. } if marker == Some(before.marker + 1)),
        "the joint set was to be proven: {running:?}"
    );
    world.terminate(M1);
    world.passes(60, |world, action| {
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
    world.passes(60, |world, action| matches!(action, Action::Order { slot: M1 | M2, .. }) && is_active(world));
    assert!(is_active(&mut world));
    world.terminate(M1);
    world.terminate(M2);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(world.records().register.as_ref().map(|register| register.epoch), Some(Epoch(2)));
}
