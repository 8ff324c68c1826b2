//! Two operators and one bucket: one acts (law 7).

mod common;

use std::{sync::atomic::AtomicU64, time::Duration};

use common::{Counting, FakeClock, LEASE, Meanwhile, Process, World, declare};
use drover_api::bucket::RealmKeys;
use drover_cloud::flaky::Counted;
use drover_control::{Entropy, lock::Holding};
use futures::{FutureExt, executor::block_on};

fn is_held_by_other(operator: &mut Process) -> bool {
    matches!(block_on(operator.pass()).holding, Holding::Other { .. })
}

#[test]
fn a_second_operator_only_says_who_acts() {
    let world = World::new();
    let (mut first, _) = world.start();
    let (mut second, faults) = world.start();
    first.declare(declare("orders", 1, 0), vec![]);
    second.declare(declare("orders", 3, 2), vec![]);
    for _ in 0..100 {
        block_on(first.pass());
        assert!(is_held_by_other(&mut second));
        world.fake.advance(Duration::from_secs(3));
    }
    assert_eq!(world.count(), (1, 1));
    assert_eq!(faults.calls(Counted::Mutating), 0);
    let said = second.snapshots().borrow().clone();
    assert_eq!(said.lock.holder, "process 1");
    assert!(!said.looked && said.at.plus(Duration::from_secs(3)) == world.fake.now(), "{said:?}");
    assert!(first.snapshots().borrow().looked, "the one that acts has looked");
}

#[test]
fn a_lock_that_was_given_up_is_taken_at_once() {
    let world = World::new();
    let (mut first, _) = world.start();
    let (mut second, _) = world.start();
    block_on(first.pass());
    assert!(is_held_by_other(&mut second));
    block_on(first.release()).expect("the bucket is there");
    assert!(matches!(block_on(second.pass()).holding, Holding::Us { fence: 2, .. }));
}

#[test]
fn a_holder_that_dies_is_followed_after_its_lease_and_not_before() {
    let world = World::new();
    let (mut first, _) = world.start();
    let (mut second, _) = world.start();
    block_on(first.pass());
    assert!(is_held_by_other(&mut second));
    drop(first);
    world.fake.advance(LEASE - Duration::from_secs(1));
    assert!(is_held_by_other(&mut second));
    world.fake.advance(Duration::from_secs(1));
    assert!(matches!(block_on(second.pass()).holding, Holding::Us { fence: 2, .. }));
}

#[test]
fn a_holder_stopped_past_its_lease_sends_nothing_when_it_goes_on() {
    let world = World::new();
    let (mut first, faults) = world.start();
    let (mut second, _) = world.start();
    first.declare(declare("orders", 3, 0), vec![]);
    second.declare(declare("orders", 3, 0), vec![]);
    world.passes(&mut first, 3);
    assert!(is_held_by_other(&mut second));
    world.fake.advance(LEASE);
    assert!(matches!(block_on(second.pass()).holding, Holding::Us { fence: 2, .. }));
    let before = faults.calls(Counted::Mutating);
    for _ in 0..20 {
        assert!(is_held_by_other(&mut first));
        block_on(second.pass());
        world.fake.advance(Duration::from_secs(3));
    }
    assert_eq!(faults.calls(Counted::Mutating), before, "it sent something");
}

#[test]
fn a_holder_stopped_in_the_middle_of_a_pass_sends_none_of_it() {
    let world = World::new();
    let (mut first, faults) = world.start();
    first.declare(declare("orders", 3, 0), vec![]);
    // It takes the lock and looks; before it acts it is stopped for longer than its lease, and another takes over.
    let (mut second, _) = world.start();
    let fake = world.fake.clone();
    let taken = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = std::sync::Arc::clone(&taken);
    let stopped = Meanwhile(Box::new(move || {
        // The cloud in memory answers at the first poll.
        second.pass().now_or_never().expect("nothing is waited for");
        fake.advance(LEASE);
        *seen.lock().expect("not poisoned") = second.pass().now_or_never().map(|outcome| outcome.holding);
    }));
    *world.agents.meanwhile.lock().expect("not poisoned") = Some(stopped);
    let outcome = block_on(first.pass());
    assert!(matches!(*taken.lock().expect("not poisoned"), Some(Holding::Us { fence: 2, .. })));
    assert!(outcome.plan.is_some_and(|plan| !plan.is_quiet()), "it had nothing to send");
    assert!(outcome.done.is_empty(), "{:?}", outcome.done);
    // Its own taking of the lock, before it was stopped.
    assert_eq!(faults.calls(Counted::Mutating), 1);
    assert_eq!(world.count(), (0, 0));
}

#[test]
fn a_holder_whose_lock_was_another_s_in_between_does_not_go_on_with_its_old_plan() {
    let world = World::new();
    let (mut first, faults) = world.start();
    first.declare(declare("orders", 3, 0), vec![]);
    world.passes(&mut first, 3);
    // In the next pass it is stopped until another has taken the lock, acted and given it up; then it is the keeper of its
    // own lease that runs first, and takes the lock anew.
    let (mut second, _) = world.start();
    second.declare(declare("orders", 3, 0), vec![]);
    let (fake, lease) = (world.fake.clone(), first.lease());
    let stopped = Meanwhile(Box::new(move || {
        second.pass().now_or_never().expect("nothing is waited for");
        fake.advance(LEASE);
        second.pass().now_or_never().expect("nothing is waited for");
        second.release().now_or_never().expect("nothing is waited for").expect("the bucket is there");
        let entropy: &dyn Entropy = &Counting(AtomicU64::new(99 << 32));
        let kept = lease.keep(&fake, &FakeClock(fake.clone()), entropy).now_or_never().expect("nothing is waited for");
        assert!(matches!(kept, Ok(Holding::Us { fence: 3, .. })), "{kept:?}");
    }));
    *world.agents.meanwhile.lock().expect("not poisoned") = Some(stopped);
    let before = faults.calls(Counted::Mutating);
    let outcome = block_on(first.pass());
    assert!(outcome.plan.is_some_and(|plan| !plan.is_quiet()), "it had nothing to send");
    assert_eq!(faults.calls(Counted::Mutating), before, "it went on with a plan from before: {:?}", outcome.done);
    world.settle(&mut first);
    assert_eq!(world.count(), (3, 3));
}

#[test]
fn a_lock_nobody_can_reach_stops_everything() {
    let world = World::new();
    let (mut operator, faults) = world.start();
    operator.declare(declare("orders", 1, 0), vec![]);
    world.fake.look(|world| world.bucket.set_fault(Some(drover_cloud::fake::BucketFault::Missing)));
    world.passes(&mut operator, 10);
    assert_eq!(faults.changes(), 0);
    let snapshot = operator.snapshots().borrow().clone();
    let error = snapshot.lock.error.clone().expect("a reason");
    assert!(error.contains("NoSuchBucket"), "{error}");
    assert!(!snapshot.lock.ours && !snapshot.looked);
}

#[test]
fn what_a_doctor_left_in_a_new_realm_is_no_lock_that_was_removed() {
    let world = World::new();
    let left = RealmKeys::new("", &common::realm()).doctor();
    world.fake.look(|world| world.bucket.set(left, Some(b"{}".into())));
    let (mut operator, _) = world.start();
    assert!(matches!(block_on(operator.pass()).holding, Holding::Us { fence: 1, .. }));
}

/// A person removes the lock.
fn remove_lock(world: &World) {
    let lock = RealmKeys::new("", &common::realm()).lock();
    world.fake.look(|world| world.bucket.set(lock, None));
}

#[test]
fn a_removed_lock_is_waited_out_and_what_agents_have_taken_is_outranked() {
    let world = World::new();
    // Four operators one after the other: agents have taken orders of the fourth.
    for readers in 1..=4 {
        let (mut operator, _) = world.start();
        operator.declare(declare("orders", 3, readers), vec![]);
        world.settle(&mut operator);
        block_on(operator.release()).expect("the bucket is there");
    }
    remove_lock(&world);
    let (mut next, faults) = world.start();
    next.declare(declare("orders", 3, 5), vec![]);
    assert_eq!(block_on(next.pass()).holding, Holding::Unknown);
    let told = next.snapshots().borrow().lock.error.clone().expect("it says why");
    assert!(told.contains("lock.json was removed"), "{told}");
    world.fake.advance(LEASE - Duration::from_secs(1));
    block_on(next.pass());
    assert_eq!(faults.calls(Counted::Mutating), 0, "it acts while the one before may");
    world.fake.advance(Duration::from_secs(1));
    let outcome = block_on(next.pass());
    assert!(outcome.plan.is_none(), "it acts under a number that agents refuse");
    world.settle(&mut next);
    assert!(matches!(block_on(next.pass()).holding, Holding::Us { fence: 5, .. }));
    assert_eq!(world.count(), (8, 8));
}

#[test]
fn a_holder_whose_lock_is_removed_goes_on_under_a_higher_number() {
    let world = World::new();
    let (mut operator, _) = world.start();
    operator.declare(declare("orders", 1, 0), vec![]);
    world.settle(&mut operator);
    remove_lock(&world);
    let (mut other, _) = world.start();
    assert_eq!(block_on(other.pass()).holding, Holding::Unknown);
    // It finds out when it renews, long before the other may take what is not there.
    operator.declare(declare("orders", 1, 1), vec![]);
    world.settle(&mut operator);
    assert!(matches!(block_on(operator.pass()).holding, Holding::Us { fence: 2, .. }));
    assert!(is_held_by_other(&mut other));
    assert_eq!(world.count(), (2, 2));
}
