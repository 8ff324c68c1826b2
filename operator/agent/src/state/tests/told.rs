//! Builds, reports, and what load balancers hear.

use super::*;

#[test]
fn a_build_that_does_not_understand_the_record_leaves_mysqld_and_its_volume_alone() {
    let world = opened();
    let up = world.up.clone().expect("runs");
    let found = "the agent's record is of another build".to_owned();
    let record = Recorded::Unreadable { found: found.clone() };
    let mounted =
        Some(Box::new(Mounted { volume: volume(), record, data: true, left: None, anew: false, minted: minted(7) }));
    let mut state = State::new(me());
    state.step(world.now, Event::Tick);
    let around = Outcome::Around { server: Some(up.clone()), mounted, hint: Some(volume()) };
    let mut effects = state.step(world.now, Event::Done(around));
    let seen = Box::new(Observation { start: up.start.clone(), offline: false, ..world.seen.clone() });
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::Observe { ticket } => Some(*ticket),
        _ => None,
    });
    effects
        .extend(state.step(world.now, Event::Observed { ticket: asked.expect("it is looked at"), result: Ok(seen) }));
    effects.extend(state.step(world.now.plus(Duration::from_secs(60)), Event::Tick));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Do(_))), "{effects:?}");
    let report = state.report().expect("it has looked around");
    assert_eq!(report.volume, VolumeReport::Foreign { found });
    assert!(report.problems.iter().any(|problem| problem.reason == Reason::ForeignVolume));

    state.step(world.now, Event::Ended { start: up.start, how: "killed".into() });
    let effects = state.step(world.now.plus(Duration::from_secs(120)), Event::Tick);
    assert!(effects.contains(&Effect::Do(Task::Unmount)), "{effects:?}");
}

#[test]
fn a_build_stays_only_when_it_found_the_mysqld_that_was_left() {
    let mut world = opened();
    let left = world.state.recorded_start().expect("it was started here").to_owned();
    let up = world.up.take();
    world.restart_agent("boot-1").wait(3);
    assert!(!world.state.is_settled(Some(&left)), "it looked, and found none");

    let mut world = opened();
    world.restart_agent("boot-1").wait(1);
    assert!(world.state.is_settled(Some(&left)));
    assert!(!world.state.is_settled(Some("another")));
    world.kill_mysqld();
    assert!(world.state.is_settled(Some(&left)), "it was found, and ended since");

    let record = Recorded::Unreadable { found: "a record of another build".into() };
    let mounted =
        Some(Box::new(Mounted { volume: volume(), record, data: true, left: None, anew: false, minted: minted(7) }));
    let mut state = State::new(me());
    state.step(world.now, Event::Tick);
    state.step(world.now, Event::Done(Outcome::Around { server: up, mounted, hint: None }));
    state.step(world.now, Event::Ended { start: left.clone(), how: "killed".into() });
    assert!(!state.is_settled(Some(&left)), "it does not understand the record");
    assert!(state.is_settled(None), "nothing was left to be found");
}

#[test]
fn one_build_is_fetched_at_a_time_and_what_came_of_it_is_told() {
    let mut world = opened();
    let build = |letter: &str| BuildId::new(letter.repeat(64)).expect("valid");
    let order = |letter| BuildOrder { fence: 1, build: build(letter) };
    let (now, minute) = (world.now, Duration::from_secs(60));
    assert_eq!(world.state.order_build(now, &order("a")), Ok(false), "it is that build");
    assert_eq!(world.state.order_build(now, &order("b")), Ok(true));
    assert_eq!(world.state.order_build(now, &order("b")), Ok(false), "it is on its way");
    assert!(world.state.order_build(now, &order("c")).is_err(), "another is on its way");

    let failed = BuildReport::Failed { build: build("b"), why: "no answer".into() };
    world.state.build_is(now, failed.clone());
    assert_eq!(world.report().ordered_build, Some(failed));
    assert_eq!(world.problems(), [Reason::BuildFetchFailed]);
    assert_eq!(world.state.order_build(now.plus(minute / 2), &order("b")), Ok(false), "so soon again");
    assert_eq!(world.state.order_build(now.plus(minute), &order("b")), Ok(true));

    world.state.build_is(now, BuildReport::SentBack { build: build("b") });
    assert_eq!(world.problems(), [Reason::BuildRejected]);
    assert_eq!(world.state.order_build(now.plus(minute * 60), &order("b")), Ok(false), "it was sent back");
    world.tell(Event::Fence { to: 0, fence: 2 });
    assert!(world.state.order_build(now, &order("c")).is_err(), "by an operator that was replaced");
    assert_eq!(world.state.order_build(now, &BuildOrder { fence: 2, ..order("c") }), Ok(true));
}

/// systemd has sent its signal to this process, and sends no second: the next one would open a leader again.
#[test]
fn while_the_host_goes_down_no_other_build_takes_over() {
    let mut world = opened();
    let order = BuildOrder { fence: 1, build: BuildId::new("b".repeat(64)).expect("valid") };
    assert_eq!((world.state.order_build(world.now, &order), world.state.stays()), (Ok(true), None));
    world.tell(Event::HostShutdown);
    assert!(world.state.stays().is_some(), "one that was fetched meanwhile");
    assert!(world.state.order_build(world.now, &order).is_err());
}

/// Who connects to acknowledge may have all that waits, and acknowledges only what it is sent.
#[test]
fn whoever_comes_to_acknowledge_is_sent_something() {
    let mut world = opened();
    let nudges = |world: &mut World| world.take_done().iter().filter(|done| *done == "Nudge").count();
    let dump = |id, semi_sync| Dump { id, user: "drover_voter_m1".into(), semi_sync };
    world.acknowledged = false;
    world.seen.dumps = vec![dump(7, false)];
    world.wait(10);
    assert_eq!(nudges(&mut world), 0);
    world.seen.dumps.push(dump(8, true));
    world.wait(3);
    assert_eq!(nudges(&mut world), 1);
    world.wait(10);
    assert_eq!(nudges(&mut world), 2, "it may be lost");
    world.acknowledged = true;
    world.wait(3);
    nudges(&mut world);
    world.wait(10);
    assert_eq!(nudges(&mut world), 0, "it has acknowledged");
    world.seen.dumps = vec![dump(9, true)];
    world.wait(3);
    assert_eq!(nudges(&mut world), 1, "another connection");
}

#[test]
fn a_report_grows_when_something_is_worth_saying() {
    let mut world = opened();
    let mut grew = world.report().seq;
    let mut waited = Vec::new();
    for second in 0..11 {
        world.wait(1);
        if world.report().seq > grew {
            grew = world.report().seq;
            waited.push(second);
        }
    }
    assert_eq!((waited.len(), waited[1] - waited[0]), (2, 5), "positions alone: {waited:?}");
    let seq = world.report().seq;
    world.kill_mysqld();
    assert!(world.report().seq > seq);
}

#[test]
fn load_balancers_hear_yes_only_while_it_is_so() {
    let second = Duration::from_secs(1);
    let mut world = opened();
    let health = world.state.health(world.now);
    assert_eq!(health.primary(world.now), Ok(()));
    assert_eq!(health.replica(world.now, second), Err("primary"));
    assert_eq!(health.primary(world.now.plus(second * 10)), Err("stale"));
    world.kill_mysqld();
    assert_eq!(world.state.health(world.now).primary(world.now), Err("stopped"));

    let mut world = following();
    world.seen.heartbeat = Some(world.now);
    world.wait(3);
    let health = world.state.health(world.now);
    assert_eq!(health.replica(world.now, second * 5), Ok(()));
    assert_eq!(health.replica(world.now, second), Err("lagging"));
    assert_eq!(health.primary(world.now), Err("replica"));
    if let Some(channel) = &mut world.seen.channel {
        channel.applying = ThreadReport::Failed { error: "1062".into() };
    }
    world.wait(2);
    assert_eq!(world.state.health(world.now).replica(world.now, second * 60), Err("not replicating"));
}

#[test]
fn a_wall_clock_that_is_set_back_stops_nothing_and_shows_in_what_is_told() {
    let mut world = following();
    let hour = Duration::from_secs(3600);
    let wall = |world: &World, ahead: Duration| world.now.plus(ahead);
    world.state.wall_is(world.now, wall(&world, hour * 2));
    world.wait(3);
    let told = world.report().clock;
    world.state.wall_is(world.now, wall(&world, hour));
    world.kill_mysqld().wait(5);
    assert_eq!(world.take_done(), ["Start", "Acknowledge", "Resume", "Expose"]);
    assert!(world.report().clock < told, "what is told is the wall clock");
    let health = world.state.health(world.now);
    assert_eq!(health.primary(world.now.plus(Duration::from_secs(5))), Err("stale"));
}

#[test]
fn a_replica_is_not_fresh_by_another_machines_clock() {
    let second = Duration::from_secs(1);
    let mut world = following();
    let wall = |world: &World| world.now.plus(second * 100_000);
    let fresh = |world: &World| world.state.health(world.now).replica(world.now, second * 5);
    let lag = |world: &World| match world.server() {
        ServerReport::Running(Running { role: RunningRole::Replica { lag_ms, .. }, .. }) => *lag_ms,
        other => panic!("{other:?}"),
    };
    world.state.wall_is(world.now, wall(&world));
    world.seen.heartbeat = Some(wall(&world));
    world.wait(3);
    assert_eq!(fresh(&world), Ok(()), "equal clocks");
    world.seen.heartbeat = Some(Millis(wall(&world).0 - 3_600_000));
    world.wait(1);
    assert_eq!(fresh(&world), Err("lagging"), "an hour behind, on a host that booted later");
    // The primary's clock is an hour ahead.
    world.seen.heartbeat = Some(wall(&world).plus(second * 3600));
    world.wait(3);
    assert_eq!(fresh(&world), Ok(()));
    world.wait(8);
    assert_eq!(fresh(&world), Err("lagging"), "no newer beat was applied, whatever the clocks say");
    assert!(lag(&world) > Some(3000), "{:?}", lag(&world));
}
