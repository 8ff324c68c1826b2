//! How a replica comes to be one, and stays one.

use super::*;

#[test]
fn a_new_replica_copies_then_forgets_then_follows_and_only_then_serves() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Replica(replica()))).wait(2);
    let begin = ["LookAround", "LookAtVolume", "Format", "Mount"];
    let then = ["Seed", "Start", "Discard", "Follow", "Acknowledge", "Expose"];
    assert_eq!(world.take_done(), [&begin[..], &then[..]].concat());
    assert!(world.seen.super_read_only);
}

#[test]
fn a_replica_without_data_waits_for_a_donor() {
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Replica(ReplicaOrder { donor: None, ..replica() }))).wait(5);
    assert!(world.problems().contains(&Reason::NoDonor));
    assert_eq!(world.report().mysql.data, DataReport::Absent);
}

#[test]
fn a_crashed_replica_resumes_by_itself_and_throws_nothing_away() {
    let mut world = following();
    world.kill_mysqld().wait(5);
    assert_eq!(world.take_done(), ["Start", "Acknowledge", "Resume", "Expose"]);
}

#[test]
fn a_life_that_was_not_admitted_does_not_acknowledge() {
    let mut world = following();
    world.kill_mysqld().restart_agent("boot-2").wait(10);
    let done = world.take_done();
    assert!(done.contains(&"Start".into()) && !done.contains(&"Acknowledge".into()), "{done:?}");

    let admitted = ReplicaOrder { life: 2, ..replica() };
    world.order(orders(1, 9, RoleOrder::Replica(admitted))).wait(2);
    assert_eq!(world.take_done(), ["Acknowledge"]);
}

#[test]
fn a_voter_stops_acknowledging_before_it_connects_as_a_learner() {
    let mut world = following();
    let credential = credential("drover_learner_m0");
    let learner = ReplicaOrder { acknowledges: false, credential, ..replica() };
    world.order(orders(1, 9, RoleOrder::Replica(learner))).wait(2);
    assert_eq!(world.take_done(), ["Acknowledge", "Follow"]);
}

#[test]
fn a_replica_is_pointed_elsewhere_with_its_relay_log_kept() {
    let mut world = following();
    let elsewhere = ReplicaOrder { source: source(2), ..replica() };
    world.order(orders(2, 1, RoleOrder::Replica(elsewhere))).wait(2);
    assert_eq!(world.take_done(), ["Follow"]);
    assert_eq!(world.seen.channel.as_ref().and_then(|channel| channel.address), Some([10, 0, 0, 2].into()));
}

#[test]
fn a_replica_whose_applier_stands_is_not_pointed_elsewhere() {
    let elsewhere = || RoleOrder::Replica(ReplicaOrder { source: source(2), ..replica() });
    let mut world = following();
    let failed = ThreadReport::Failed { error: "1062".into() };
    world.seen.channel.as_mut().expect("it follows").applying = failed;
    world.wait(2).order(orders(2, 1, elsewhere())).wait(12);
    let done = world.take_done();
    assert!(!done.contains(&"Follow".into()) && done.last().is_some_and(|done| done == "Apply"), "{done:?}");
    assert!(world.problems().contains(&Reason::ApplierFailed));

    // After a restart it only has to be started, without connecting to whom it followed before.
    world.seen.channel.as_mut().expect("it follows").applying = ThreadReport::Stopped;
    world.wait(6);
    assert_eq!(world.take_done(), ["Apply", "Follow"]);
}
