//! Which orders are taken.

use super::*;

#[test]
fn before_it_has_looked_around_it_tells_nothing_and_takes_no_order() {
    let mut world = following();
    let mounted = Mounted {
        volume: volume(),
        record: Recorded::Record(Box::new(world.persisted.clone().expect("it follows"))),
        data: true,
        left: world.left.clone(),
        anew: false,
        minted: minted(7),
    };
    let server = world.up.clone();
    world.state = State::new(me());
    let begun = world.state.step(world.now, Event::Tick);
    assert!(matches!(&begun[..], [Effect::Do(Task::LookAround)]), "{begun:?}");
    let told = world.state.report().expect_err("it has not looked yet");
    assert!(told.contains("not looked around"), "{told}");
    assert_eq!(world.state.health(world.now).replica(world.now, Duration::from_secs(5)), Err("looking around"));
    // What an operator would send to a machine without a volume.
    let closed = Event::Orders { to: 1, orders: Box::new(orders(1, 9, RoleOrder::Closed)) };
    let answered = world.state.step(world.now, closed);
    assert!(
        matches!(&answered[..], [Effect::Reply { reply: OrdersReply::Refused { reason }, .. }] if reason.contains("not looked")),
        "{answered:?}"
    );
    // A look that fails says so.
    let failed = Failure { reason: Reason::LookAroundFailed, message: "systemd does not answer".into() };
    world.state.step(world.now, Event::Failed(failed));
    let told = world.state.report().expect_err("it has not looked yet");
    assert!(told.contains("systemd does not answer"), "{told}");

    world.now = world.now.plus(Duration::from_secs(2));
    world.state.step(world.now, Event::Tick);
    let around = Outcome::Around { server, mounted: Some(Box::new(mounted)), hint: Some(volume()) };
    world.tell(Event::Done(around)).wait(3);
    assert!(matches!(world.report().volume, VolumeReport::Mounted(_)));
    assert!(matches!(world.server(), ServerReport::Running(_)), "{:?}", world.server());
    assert!(world.take_done().is_empty(), "a healthy replica was touched");
}

#[test]
fn orders_are_taken_by_rank_and_only_where_they_contradict_nothing() {
    type Change = fn(&mut Orders);
    let cases: [(&str, Change, &str); 13] = [
        ("the same again", |_| {}, "Accepted"),
        ("a higher seq", |orders| orders.seq = 6, "Accepted"),
        ("a higher fence, a lower seq", |orders| (orders.fence, orders.seq) = (2, 1), "Accepted"),
        ("a lower seq", |orders| orders.seq = 4, "Stale"),
        ("a lower fence, a higher seq", |orders| (orders.fence, orders.seq) = (0, 9), "Stale"),
        ("a lower epoch of a higher fence", |o| (o.fence, o.epoch, o.wanted.epoch) = (2, Epoch(0), Epoch(0)), "Stale"),
        (
            "another claim of the same epoch",
            |o| (o.seq, o.claim, o.wanted.claim) = (6, claim("d"), claim("d")),
            "Refused",
        ),
        ("two epochs in one order", |orders| (orders.seq, orders.epoch) = (6, Epoch(2)), "Refused"),
        ("the same rank, another digest", |orders| orders.digest = "other".into(), "Refused"),
        ("another slot", |orders| (orders.seq, orders.slot) = (6, Slot::Member(1)), "Refused"),
        (
            "another incarnation",
            |o| (o.seq, o.incarnation) = (6, Incarnation::new("zzzzzzzz").expect("valid")),
            "Refused",
        ),
        ("another volume", |o| (o.seq, o.wanted.volume.id) = (6, VolumeId::new("vol-9").expect("valid")), "Refused"),
        (
            "another voter",
            |o| (o.seq, o.wanted.volume.expected) = (6, Some(VoterId::new("voter-x9").expect("valid"))),
            "Refused",
        ),
    ];
    for (case, change, expected) in cases {
        let mut world = World::new();
        let first = orders(1, 5, RoleOrder::Closed);
        world.order(first.clone()).wait(2);
        let mut next = first;
        change(&mut next);
        world.order(next);
        let reply = format!("{:?}", world.replies.last().expect("a reply"));
        assert!(reply.starts_with(expected), "{case}: {reply}");
    }
}

#[test]
fn a_fence_that_was_only_polled_with_shuts_lower_ones_out_for_good() {
    let mut world = World::new();
    world.order(orders(1, 5, RoleOrder::Closed)).wait(2);
    world.tell(Event::Fence { to: 0, fence: 7 });
    assert_eq!(world.persisted.as_ref().map(|record| record.fence), Some(7));
    let stale = OrdersReply::Stale { fence: 7, epoch: Epoch(1), seq: 5 };
    for _ in 0..2 {
        world.order(Orders { fence: 6, ..orders(1, 9, RoleOrder::Closed) });
        assert_eq!(world.replies.pop(), Some(stale.clone()));
        world.restart_agent("boot-2").wait(1);
    }
    world.tell(Event::Fence { to: 0, fence: 3 });
    assert_eq!(world.state.fence(), 7);
    world.order(Orders { fence: 7, ..orders(1, 1, RoleOrder::Closed) });
    assert_eq!(world.replies.pop(), Some(OrdersReply::Accepted));
}

#[test]
fn a_fence_that_was_heard_before_there_was_a_volume_is_kept_on_it() {
    let mut world = World::new();
    world.tell(Event::Fence { to: 0, fence: 7 });
    world.order(orders(1, 1, RoleOrder::Closed));
    assert!(matches!(world.replies.pop(), Some(OrdersReply::Stale { fence: 7, .. })));
    world.order(Orders { fence: 7, ..orders(1, 1, RoleOrder::Closed) }).wait(2);
    assert_eq!(world.persisted.map(|record| record.fence), Some(7));
}

#[test]
fn no_order_is_taken_before_the_volume_that_holds_the_highest_one_is_mounted_again() {
    let mut highest = orders(2, 7, RoleOrder::Closed);
    highest.fence = 5;
    let mut record = Durable::fresh(me().incarnation, me().slot, voter(), UUID.into(), me().boot_id);
    record.orders = Some(highest);
    let reply = |state: &mut State| {
        let stale = Event::Orders { to: 0, orders: Box::new(orders(1, 1, RoleOrder::Closed)) };
        let effects = state.step(Millis(1_000_000), stale);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { reply, .. } => Some(reply),
            _ => None,
        })
    };
    let mut state = State::new(me());
    state.step(Millis(1_000_000), Event::Tick);
    let around = Outcome::Around { server: None, mounted: None, hint: Some(volume()) };
    state.step(Millis(1_000_000), Event::Done(around));
    assert!(matches!(reply(&mut state), Some(OrdersReply::Refused { .. })), "its device is looked for");
    state.step(Millis(1_000_000), Event::Done(Outcome::Volume(VolumeContent::Ours)));
    assert!(matches!(reply(&mut state), Some(OrdersReply::Refused { .. })), "it is being mounted");
    let mounted = Mounted {
        volume: volume(),
        record: Recorded::Record(Box::new(record)),
        data: true,
        left: None,
        anew: true,
        minted: minted(7),
    };
    state.step(Millis(1_000_000), Event::Done(Outcome::Mounted(Box::new(mounted))));
    assert_eq!(reply(&mut state), Some(OrdersReply::Stale { fence: 5, epoch: Epoch(2), seq: 7 }));

    // One that is blank now was never ours, or is not any more: the order decides what becomes of it.
    let mut state = State::new(me());
    state.step(Millis(1_000_000), Event::Tick);
    state.step(Millis(1_000_000), Event::Done(Outcome::Around { server: None, mounted: None, hint: Some(volume()) }));
    state.step(Millis(1_000_000), Event::Done(Outcome::Volume(VolumeContent::Blank)));
    assert_eq!(reply(&mut state), Some(OrdersReply::Accepted));
}
