//! What is found on a volume, and what data on it is worth.

use super::*;

#[test]
fn data_is_never_made_over_data() {
    let mut world = following();
    world.order(orders(2, 1, RoleOrder::Leader(leader(1, false)))).wait(3);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })), "initialise in epoch 2");
    world.order(orders(1, 2, RoleOrder::Leader(leader(1, false)))).wait(3);
    assert!(matches!(world.replies.last(), Some(OrdersReply::Refused { .. })), "initialise over a copy");
    assert!(world.take_done().is_empty());
}

#[test]
fn an_initialise_or_copy_that_was_cut_short_is_begun_again() {
    for role in [RoleOrder::Leader(leader(1, false)), RoleOrder::Replica(replica())] {
        let mut world = World::new();
        world.order(orders(1, 1, role)).wait(3);
        (world.data, world.up) = (false, None);
        world.persisted.as_mut().expect("a record").start = None;
        world.take_done();
        world.restart_agent("boot-1").wait(3);
        let made = world.take_done();
        assert!(made[1] == "Initialise" || made[1] == "Seed", "{made:?}");
    }
}

#[test]
fn a_voter_whose_data_was_taken_away_is_another_when_it_was_seeded_again() {
    let mut world = following();
    (world.data, world.up) = (false, None);
    world.restart_agent("boot-1").wait(3);
    let done = world.take_done();
    assert!(done.contains(&"Seed".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");
    let VolumeReport::Mounted(voting) = &world.report().volume else { panic!("not mounted") };
    assert_eq!((voting.generation, voting.life), (2, 2));
}

#[test]
fn a_first_leader_whose_data_was_taken_away_does_not_begin_anew() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(leader(1, false)))).wait(3);
    (world.data, world.up) = (false, None);
    world.take_done();
    world.restart_agent("boot-1").wait(3);
    assert_eq!(world.take_done(), ["LookAround"]);
    assert_eq!(world.problems(), [Reason::DataVanished]);
}

#[test]
fn what_is_found_on_a_volume_decides_whether_it_is_touched() {
    let foreign = VolumeContent::Foreign { found: "xfs".into() };
    let cases = [
        ("blank and new", VolumeContent::Blank, true, None, true),
        ("half made by us and new", VolumeContent::HalfMade, true, None, true),
        ("blank, not new", VolumeContent::Blank, false, None, false),
        ("half made, not new", VolumeContent::HalfMade, false, None, false),
        ("blank, a voter expected", VolumeContent::Blank, true, Some(voter()), false),
        ("foreign", foreign.clone(), true, None, false),
        ("foreign, not new", foreign, false, None, false),
    ];
    for (case, content, new, expected, formatted) in cases {
        let mut world = World::new();
        world.content = content;
        let mut order = orders(1, 1, RoleOrder::Closed);
        order.wanted.volume = VolumeOrder { new, expected, ..order.wanted.volume };
        world.order(order).wait(10);
        assert_eq!(world.done.contains(&"Format".to_owned()), formatted, "{case}");
        assert_eq!(world.done.contains(&"Mount".to_owned()), formatted, "{case}");
        assert_eq!(matches!(world.report().volume, VolumeReport::Foreign { .. }), !formatted, "{case}");
    }
}

#[test]
fn a_volume_of_ours_with_other_contents_is_let_go_and_reported() {
    let record = |change: fn(&mut Durable)| {
        let mut record = Durable::fresh(me().incarnation, me().slot, voter(), UUID.into(), "boot-0".into());
        change(&mut record);
        Recorded::Record(Box::new(record))
    };
    let cases = [
        ("another incarnation", record(|r| r.incarnation = Incarnation::new("zzzzzzzz").expect("valid"))),
        ("another slot", record(|r| r.slot = Slot::Member(3))),
        ("an older voter", record(|r| r.voting.voter_id = VoterId::new("voter-old1").expect("valid"))),
        ("no record", Recorded::Unreadable { found: "files, but no record".into() }),
        ("nothing", Recorded::Empty),
    ];
    for (case, recorded) in cases {
        let mut world = World::new();
        (world.content, world.recorded, world.data) = (VolumeContent::Ours, recorded, true);
        let mut order = orders(1, 1, RoleOrder::Replica(replica()));
        order.wanted.volume = VolumeOrder { new: false, expected: Some(voter()), ..order.wanted.volume };
        world.order(order).wait(5);
        assert_eq!(world.take_done(), ["LookAround", "LookAtVolume", "Mount", "Unmount"], "{case}");
        assert!(matches!(world.report().volume, VolumeReport::Foreign { .. }), "{case}");
        assert_eq!(world.persisted, None, "{case}");
    }
}

#[test]
fn the_life_is_raised_by_an_unclean_boot_and_by_a_volume_that_is_not_as_this_machine_left_it() {
    let here = Some("boot-1");
    let cases = [
        ("same boot", "boot-1", here, false, Durability::Standard, 1),
        ("same boot, not noted yet", "boot-1", None, false, Durability::Standard, 1),
        ("same boot, mounted again", "boot-1", here, false, Durability::Standard, 8),
        ("same boot, mounted again, strict", "boot-1", here, false, Durability::Strict, 1),
        ("same boot, mounted again, and nothing noted", "boot-1", None, false, Durability::Standard, 8),
        ("another boot", "boot-2", here, false, Durability::Standard, 8),
        ("another boot after a clean end", "boot-2", here, true, Durability::Standard, 1),
        ("another boot, strict", "boot-2", here, false, Durability::Strict, 1),
        ("another machine after a clean end", "boot-2", None, true, Durability::Standard, 8),
        ("another machine, strict", "boot-2", None, false, Durability::Strict, 8),
        ("an older copy, of a clean end", "boot-3", Some("boot-2"), true, Durability::Standard, 8),
        ("an older copy, strict", "boot-3", Some("boot-2"), false, Durability::Strict, 8),
    ];
    for (case, boot, left, clean, durability, life) in cases {
        let anew = case.contains("mounted again");
        let mut record = Durable::fresh(me().incarnation, me().slot, voter(), UUID.into(), "boot-1".into());
        let mut order = orders(1, 1, RoleOrder::Closed);
        order.wanted.mysql.durability = durability;
        (record.orders, record.clean) = (Some(order), clean);
        record.begin_boot(boot, left, anew, minted(7).life_step);
        assert_eq!((record.voting.life, record.clean), (life, false), "{case}");
    }
}

#[test]
fn an_older_copy_of_a_volume_never_votes_as_the_voter_that_is_registered() {
    let life = |world: &World| world.persisted.as_ref().expect("a record").voting.life;
    for ends_in_order in [true, false] {
        let mut world = following();
        if ends_in_order {
            world.tell(Event::HostShutdown);
        }
        let copy = world.persisted.clone();
        (world.up, world.life_step) = (None, 7);
        world.restart_agent("boot-2").wait(5);
        let registered = life(&world);
        world.order(orders(1, 9, RoleOrder::Replica(ReplicaOrder { life: registered, ..replica() }))).wait(2);
        assert!(world.seen.replica_semi_sync, "it votes as life {registered}");
        world.tell(Event::HostShutdown);

        (world.persisted, world.up, world.life_step) = (copy, None, 9);
        world.take_done();
        world.restart_agent("boot-3").wait(5);
        assert_ne!(life(&world), registered);
        world.order(orders(1, 10, RoleOrder::Replica(ReplicaOrder { life: registered, ..replica() }))).wait(10);
        let done = world.take_done();
        assert!(done.contains(&"Start".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");
    }
}

#[test]
fn a_leader_whose_volume_went_to_another_machine_does_not_open_in_the_same_epoch() {
    let mut world = opened();
    world.tell(Event::HostShutdown);
    assert!(world.persisted.as_ref().is_some_and(|record| record.clean && record.dirty.is_none()));
    world.take_done();
    (world.left, world.up) = (None, None);
    world.restart_agent("boot-2").wait(10);
    assert_eq!(world.phase(), Some(LeaderPhase::Closed));
    assert!(world.problems().contains(&Reason::RegisterObjects) && !world.take_done().contains(&"Unseal".into()));
}

#[test]
fn data_that_is_made_anew_under_a_voter_is_another_generation_and_does_not_vote() {
    let mut world = following();
    (world.data, world.up, world.seen.channel) = (false, None, None);
    world.restart_agent("boot-1").wait(10);
    let voting = &world.persisted.as_ref().expect("a record").voting;
    assert_eq!((voting.generation, voting.life), (2, 2));
    let done = world.take_done();
    assert!(done.contains(&"Seed".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");
}

#[test]
fn a_device_that_comes_late_is_waited_for() {
    let mut world = World::new();
    world.content = VolumeContent::NoDevice;
    world.order(orders(1, 1, RoleOrder::Closed)).wait(5);
    assert_eq!(world.report().volume, VolumeReport::Waiting);
    assert!(world.problems().contains(&Reason::WaitingForDevice));
    world.content = VolumeContent::Blank;
    world.wait(3);
    assert!(matches!(world.report().volume, VolumeReport::Mounted(_)));
}
