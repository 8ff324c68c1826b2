//! Deaths and shut-downs of mysqld, the agent and the host.

use super::*;

#[test]
fn a_dead_leader_stays_closed_until_a_later_epoch() {
    let mut world = opened();
    world.kill_mysqld().wait(30);
    assert!(world.take_done().is_empty());
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));
    world.order(orders(1, 9, RoleOrder::Leader(leader(1, true)))).wait(30);
    world.restart_agent("boot-1").wait(5);
    assert_eq!(world.take_done(), ["LookAround"]);
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));

    let again = LeaderOrder { initialise: false, ..leader(0, false) };
    world.order(orders(2, 1, RoleOrder::Leader(again.clone()))).wait(2);
    // Its accounts are as they were.
    assert_eq!(world.take_done(), ["Start"]);
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
    world.register = Some(register(2, me().slot));
    world.order(orders(2, 2, RoleOrder::Leader(LeaderOrder { open: true, ..again }))).wait(2);
    assert_eq!(world.take_done(), ["ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"]);
    assert_eq!(world.phase(), Some(LeaderPhase::Open));
}

#[test]
fn a_mysqld_that_someone_else_started_after_the_leaders_ended_does_not_hide_its_death() {
    let mut world = opened();
    world.up = Some(Up { start: "by-hand".into(), pid: 7, since: world.now });
    world.seen = Observation { offline: false, ..closed("by-hand") };
    world.restart_agent("boot-1").wait(3);
    assert_eq!(world.take_done(), ["LookAround", "Close"]);
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));

    world.register = Some(register(2, me().slot));
    let again = LeaderOrder { initialise: false, ..leader(1, true) };
    world.order(orders(2, 1, RoleOrder::Leader(again))).wait(3);
    assert_eq!(world.phase(), Some(LeaderPhase::Open), "{:?}", world.done);
    assert_eq!(world.starts, 1);
}

#[test]
fn who_led_is_never_simply_wired_as_a_replica() {
    let mut world = opened();
    world.kill_mysqld();
    world.order(orders(2, 1, RoleOrder::Replica(replica()))).wait(5);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })));
    assert!(world.take_done().is_empty());
}

#[test]
fn a_host_that_went_down_under_a_leader_is_a_death_and_another_life() {
    let mut world = opened();
    world.up = None;
    world.restart_agent("boot-2").wait(5);
    assert!(matches!(world.server(), ServerReport::Died { epoch: Epoch(1), .. }));
    let VolumeReport::Mounted(voting) = &world.report().volume else { panic!("not mounted") };
    assert_eq!((voting.life, voting.generation), (2, 1));
}

#[test]
fn an_agent_that_is_killed_or_stopped_changes_nothing() {
    for event in [None, Some(Event::Stop)] {
        let mut world = opened();
        if let Some(event) = event {
            world.tell(event);
            assert!(world.exited);
        }
        let pid = world.up.clone().expect("runs").pid;
        world.restart_agent("boot-1").wait(3);
        assert_eq!(world.take_done(), ["LookAround"]);
        assert_eq!(world.phase(), Some(LeaderPhase::Open));
        assert!(matches!(world.server(), ServerReport::Running(running) if running.pid == pid));
    }
}

#[test]
fn a_host_shutdown_closes_before_it_ends_mysqld_and_the_leader_resumes_with_a_new_marker() {
    let mut world = opened();
    world.tell(Event::HostShutdown);
    assert_eq!(world.take_done(), ["Close", "Terminate", "Flush"]);
    let record = world.persisted.clone().expect("persisted");
    assert!(world.exited && record.clean && record.dirty.is_none() && record.died.is_none());

    world.restart_agent("boot-2").wait(5);
    let resumed = ["LookAround", "Start", "SemiSync", "ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"];
    assert_eq!(world.take_done(), resumed);
    assert_eq!(world.persisted.map(|record| record.voting.life), Some(1));
}

#[test]
fn a_close_that_does_not_get_through_is_tried_again_while_the_host_goes_down() {
    let mut world = opened();
    world.failing_closes = 2;
    world.tell(Event::HostShutdown).wait(3);
    assert_eq!(world.take_done(), ["Close", "Close", "Close", "Terminate", "Flush"]);
    let record = world.persisted.clone().expect("persisted");
    assert!(world.exited && record.clean && record.dirty.is_none());
}

#[test]
fn one_that_never_gets_through_ends_nothing_and_proves_nothing() {
    let mut world = opened();
    world.failing_closes = u32::MAX;
    world.tell(Event::HostShutdown);
    let begun = world.now;
    // An operator that asks again and again makes it last no longer.
    for seq in 10..50 {
        if !world.exited {
            world.order(orders(1, seq, RoleOrder::Leader(leader(1, true)))).wait(1);
        }
    }
    let closes = world.take_done();
    assert!(closes.len() > 3 && closes.iter().all(|done| done == "Close"), "{closes:?}");
    assert!(world.now.since(begun) <= CLOSES + Duration::from_secs(1), "it is tried for ever");
    let record = world.persisted.clone().expect("persisted");
    assert!(world.exited && !record.clean && record.dirty == Some(Epoch(1)));
}

#[test]
fn what_fails_when_the_host_begins_to_go_down_keeps_nobody_from_closing() {
    let mut world = opened();
    let changed = LeaderOrder { admin: credential("another"), ..leader(1, true) };
    let changed = orders(1, 9, RoleOrder::Leader(changed));
    let effects = world.state.step(world.now, Event::Orders { to: 0, orders: Box::new(changed) });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Do(_))), "{effects:?}");
    world.take_done();
    world.tell(Event::HostShutdown);
    assert!(world.take_done().is_empty());
    world.tell(Event::Failed(no_answer())).wait(2);
    assert_eq!(world.take_done(), ["Close", "Terminate", "Flush"]);
    assert!(world.exited && world.persisted.clone().expect("persisted").clean);
}

#[test]
fn what_may_still_open_it_after_it_was_given_up_leaves_it_uncertain() {
    let mut world = opened();
    let changed = LeaderOrder { accounts: vec![], k: 1, ..leader(1, true) };
    let effects = world
        .state
        .step(world.now, Event::Orders { to: 0, orders: Box::new(orders(1, 9, RoleOrder::Leader(changed))) });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Do(Task::Accounts { .. }))), "{effects:?}");
    world.take_done();
    world.tell(Event::HostShutdown).tell(Event::Failed(no_answer())).wait(40);
    assert_eq!(world.take_done(), Vec::<String>::new());
    assert!(world.exited && !world.persisted.clone().expect("persisted").clean);
}

#[test]
fn a_shutdown_with_a_waiting_commit_ends_nothing_by_sigterm() {
    let mut world = opened();
    world.close_returns = false;
    world.tell(Event::HostShutdown);
    assert_eq!(world.take_done(), ["Close"]);
    let record = world.persisted.clone().expect("persisted");
    assert!(world.exited && !record.clean && record.dirty == Some(Epoch(1)));
    world.up = None;
    world.restart_agent("boot-2").wait(5);
    assert!(matches!(world.server(), ServerReport::Died { .. }));
}

#[test]
fn only_the_ordered_mysqld_is_started() {
    for (installed, reason) in [
        (None, Reason::NoMysqld),
        (Some("9.6.0"), Reason::OtherMysqlVersion),
        (Some("9.70.1"), Reason::OtherMysqlVersion),
    ] {
        let mut world = World::new();
        world.state = State::new(Me { installed: installed.map(Into::into), ..me() });
        world.order(orders(1, 1, RoleOrder::Leader(leader(1, true)))).wait(5);
        assert!(world.problems().contains(&reason), "{installed:?}: {:?}", world.problems());
        assert_eq!(world.starts, 0);
        assert!(!world.data);
    }
}

#[test]
fn a_mysqld_that_keeps_ending_is_started_ever_less_often() {
    let mut world = following();
    let mut starts = Vec::new();
    for _ in 0..4 {
        let before = world.now;
        let count = world.starts;
        world.kill_mysqld();
        while world.starts == count {
            world.wait(1);
        }
        starts.push(world.now.since(before).as_secs());
    }
    assert!(starts.windows(2).all(|pair| pair[0] <= pair[1]) && starts[3] >= 4 * starts[0].max(1), "{starts:?}");
}

#[test]
fn a_death_that_was_recorded_is_not_recorded_again() {
    let mut world = opened();
    world.seen.executed = format!("{UUID}:1-7").parse().expect("valid");
    world.wait(1).kill_mysqld();
    let died = world.persisted.clone().and_then(|record| record.died);
    let executed = Some(world.seen.executed.clone());
    assert_eq!(died, Some(Died { epoch: Epoch(1), how: "killed by signal 9".into(), executed }));
    world.restart_agent("boot-2");
    assert_eq!(world.persisted.and_then(|record| record.died), died);
}

fn restarting(seq: u64, token: &str, role: RoleOrder) -> Orders {
    let mut orders = orders(1, seq, role);
    orders.wanted.restart = Some(token.into());
    orders.digest = orders.wanted.digest();
    orders
}

#[test]
fn a_restart_closes_a_leader_first_and_it_opens_again_in_the_same_epoch() {
    let mut world = opened();
    world.order(restarting(2, "t1", RoleOrder::Leader(leader(1, true)))).wait(3);
    let expected =
        ["Close", "Terminate", "Start", "SemiSync", "ReadRegister", "Unseal", "Marker 1", "ReadRegister", "Admit"];
    assert_eq!(world.take_done(), expected);
    assert_eq!((world.phase(), world.starts), (Some(LeaderPhase::Open), 2));
    assert_eq!(world.report().mysql.restarted.as_deref(), Some("t1"));
    // Once, whoever asks again and whatever is killed.
    world.order(restarting(3, "t1", RoleOrder::Leader(leader(1, true)))).wait(3);
    world.restart_agent("boot-1").wait(3);
    assert_eq!(world.take_done(), ["LookAround"]);
    world.order(restarting(4, "t2", RoleOrder::Leader(leader(1, true)))).wait(3);
    assert_eq!(world.starts, 3);
    assert_eq!(world.problems(), []);
}

#[test]
fn a_leader_whose_commit_waits_is_not_told_to_end_and_lets_clients_in_again() {
    let mut world = opened();
    world.close_returns = false;
    world.order(restarting(2, "t1", RoleOrder::Leader(leader(1, true)))).wait(20);
    assert_eq!(world.take_done(), ["Close", "ReadRegister", "Admit"]);
    assert_eq!((world.phase(), world.starts), (Some(LeaderPhase::Open), 1));
    let mysql = &world.report().mysql;
    assert_eq!((mysql.restart_failed.as_deref(), mysql.restarted.as_deref()), (Some("t1"), None));
    // Whoever asks anew is heard.
    world.close_returns = true;
    world.order(restarting(3, "t2", RoleOrder::Leader(leader(1, true)))).wait(5);
    assert_eq!((world.phase(), world.starts), (Some(LeaderPhase::Open), 2), "{:?}", world.done);
}

/// What waits then ends when the one that connected has acknowledged a beat that was written after; no close returns before.
#[test]
fn a_leader_is_not_closed_while_commits_wait_for_who_has_just_connected() {
    for acknowledges in [true, false] {
        let mut world = opened();
        world.acknowledged = false;
        world.seen.dumps = vec![Dump { id: 8, user: "drover_voter_m1".into(), semi_sync: true }];
        world.wait(2).order(restarting(2, "t1", RoleOrder::Leader(leader(1, true)))).wait(4);
        assert!(world.take_done().iter().all(|done| done == "Nudge"));
        assert_eq!(world.problems(), [Reason::MysqldRestarts]);
        // One that comes again and again is not waited for anew.
        world.seen.dumps[0].id += 1;
        world.acknowledged = acknowledges;
        world.wait(2);
        assert_eq!(world.take_done().contains(&"Close".into()), acknowledges);
        // Who does not acknowledge is not waited for: what is asked for has an answer.
        world.wait(10);
        assert_eq!(world.starts, 2, "{:?}", world.done);
    }
}

#[test]
fn a_leader_that_only_reads_as_closed_is_closed_before_it_is_told_to_end() {
    let mut world = opened();
    // As an agent leaves it that is killed while its close waits.
    (world.seen.offline, world.seen.super_read_only, world.seen.read_only) = (true, true, true);
    world.register = None;
    world.restart_agent("boot-1");
    assert_eq!(world.take_done(), ["LookAround", "ReadRegister"]);
    world.order(restarting(2, "t1", RoleOrder::Leader(leader(1, true))));
    assert_eq!(world.take_done()[..2], ["Close", "Terminate"]);
}

#[test]
fn what_is_asked_for_once_is_good_for_half_a_minute_and_for_the_process_that_took_it() {
    let asked = |world: &World| world.report().mysql.asked;
    let mut world = opened();
    world.close_returns = false;
    world.order(restarting(2, "t1", RoleOrder::Leader(leader(1, true)))).wait(29);
    assert!(asked(&world));
    world.wait(2);
    assert!(!asked(&world));
    let mut world = opened();
    // Taken, and the agent dies before it did anything.
    let orders = restarting(2, "t1", RoleOrder::Leader(leader(1, true)));
    world.persisted.as_mut().expect("it leads").orders = Some(orders.clone());
    world.restart_agent("boot-1").wait(30);
    assert_eq!(world.take_done(), ["LookAround"]);
    assert!(!asked(&world));
    world.order(Orders { seq: 3, ..orders }).wait(5);
    assert_eq!(world.starts, 2, "{:?}", world.done);
}

#[test]
fn a_host_that_goes_down_while_mysqld_ends_for_a_restart_is_left_clean() {
    let mut world = opened();
    let end = world.up.clone().expect("it runs").start;
    world.ends_at_once = false;
    world.order(restarting(2, "t1", RoleOrder::Leader(leader(1, true)))).wait(2);
    assert_eq!(world.take_done(), ["Close", "Terminate"]);
    assert_eq!(world.problems(), [Reason::MysqldRestarts]);
    assert_eq!(world.report().mysql.restarted, None, "it is not told before it has ended");
    assert!(world.state.recorded_start().is_none(), "a build that comes now need not find it");
    world.tell(Event::HostShutdown);
    world.up = None;
    world.tell(Event::Ended { start: end, how: "exited".into() });
    assert_eq!(world.take_done(), ["Flush"]);
    assert!(world.exited && world.persisted.as_ref().is_some_and(|record| record.clean && record.died.is_none()));
}

#[test]
fn a_restart_of_a_replica_keeps_its_channel_and_one_that_ended_meanwhile_is_not_ended_again() {
    let mut world = following();
    world.order(restarting(2, "t1", RoleOrder::Replica(replica()))).wait(8);
    let done = world.take_done();
    assert_eq!(done[..3], ["Close", "Terminate", "Start"], "{done:?}");
    assert!(done.contains(&"Resume".to_owned()) && !done.contains(&"Follow".to_owned()), "{done:?}");
    assert!(matches!(world.server(), ServerReport::Running(_)));
    let end = world.up.take().expect("it runs").start;
    world.order(restarting(3, "t2", RoleOrder::Replica(replica())));
    world.tell(Event::Ended { start: end, how: "killed by signal 9".into() }).wait(8);
    assert_eq!((world.starts, world.report().mysql.restarted.as_deref()), (3, Some("t2")), "{:?}", world.done);
}
