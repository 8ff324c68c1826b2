//! A person asks for the end of a set: until that is written down it is a word that can be taken back, and nothing stays armed.

mod common;

use std::collections::BTreeMap;

use common::{LEASE, Process, World, declare, key};
use drover_cloud::fake::BucketFault;
use drover_control::{deletions::Deletions, lock::Holding};
use futures::executor::block_on;
use tokio::sync::oneshot;

type Answer = oneshot::Receiver<Result<(), String>>;

/// A set of one that is there and that nobody declares any more.
fn left_behind(world: &World) -> (Process, Holding) {
    let (mut operator, _) = world.start();
    operator.declare(declare("orders", 1, 0), vec![]);
    world.settle(&mut operator);
    operator.declare(BTreeMap::new(), vec![]);
    let holding = block_on(operator.pass()).holding;
    (operator, holding)
}

fn ask(deletions: &mut Deletions, operator: &mut Process, holding: &Holding) -> Answer {
    let (reply, answer) = oneshot::channel();
    deletions.take(operator, holding, (key("orders"), reply));
    answer
}

fn bucket(world: &World, fault: Option<BucketFault>) {
    world.fake.look(|world| world.bucket.set_fault(fault));
}

/// What was asked for does not happen later.
fn check_nothing_is_armed(world: &World, operator: &mut Process) {
    operator.declare(BTreeMap::new(), vec![]);
    bucket(world, None);
    world.passes(operator, 40);
    assert!(!operator.ends(&key("orders")), "it ends although whoever asked was not told so");
    assert_eq!(world.count(), (1, 1));
}

#[test]
fn whoever_waits_is_told_once_it_is_written_down() {
    let world = World::new();
    let (mut operator, holding) = left_behind(&world);
    let mut deletions = Deletions::default();
    let mut answer = ask(&mut deletions, &mut operator, &holding);
    deletions.answer(&mut operator, &holding);
    assert!(answer.try_recv().is_err(), "told before it is written down");
    let holding = block_on(operator.pass()).holding;
    deletions.answer(&mut operator, &holding);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    world.passes(&mut operator, 100);
    assert_eq!(world.count(), (0, 0));
}

#[test]
fn a_deletion_that_nobody_waits_for_any_more_is_taken_back() {
    let world = World::new();
    let (mut operator, holding) = left_behind(&world);
    let mut deletions = Deletions::default();
    let gone = ask(&mut deletions, &mut operator, &holding);
    let mut waits = ask(&mut deletions, &mut operator, &holding);
    // It cannot be written, and the first gives up.
    bucket(&world, Some(BucketFault::Unavailable));
    block_on(operator.pass());
    drop(gone);
    deletions.answer(&mut operator, &holding);
    bucket(&world, None);
    world.passes(&mut operator, 2);
    deletions.answer(&mut operator, &holding);
    assert_eq!(waits.try_recv(), Ok(Ok(())), "the second asker's wish went with the first");

    let world = World::new();
    let (mut operator, holding) = left_behind(&world);
    let only = ask(&mut deletions, &mut operator, &holding);
    bucket(&world, Some(BucketFault::Unavailable));
    block_on(operator.pass());
    drop(only);
    deletions.answer(&mut operator, &holding);
    check_nothing_is_armed(&world, &mut operator);
}

#[test]
fn a_deletion_is_forgotten_with_the_lock() {
    let world = World::new();
    let (mut operator, holding) = left_behind(&world);
    let mut deletions = Deletions::default();
    let mut answer = ask(&mut deletions, &mut operator, &holding);
    let (mut other, _) = world.start();
    block_on(other.pass());
    world.fake.advance(LEASE);
    assert!(matches!(block_on(other.pass()).holding, Holding::Us { .. }));
    let holding = block_on(operator.pass()).holding;
    deletions.answer(&mut operator, &holding);
    assert!(answer.try_recv().is_ok_and(|answer| answer.is_err()), "nobody told the person");
    block_on(other.release()).expect("the bucket is there");
    check_nothing_is_armed(&world, &mut operator);
}

#[test]
fn a_set_that_is_declared_meanwhile_is_not_deleted_when_it_is_removed_again() {
    let world = World::new();
    let (mut operator, holding) = left_behind(&world);
    let mut deletions = Deletions::default();
    let mut answer = ask(&mut deletions, &mut operator, &holding);
    operator.declare(declare("orders", 1, 0), vec![]);
    deletions.answer(&mut operator, &holding);
    let told = answer.try_recv().expect("an answer").expect_err("a refusal");
    assert!(told.contains("declared by a manifest"), "{told}");
    check_nothing_is_armed(&world, &mut operator);
}

#[test]
fn nothing_is_deleted_while_a_manifest_is_not_understood() {
    let world = World::new();
    let (mut operator, holding) = left_behind(&world);
    let mut deletions = Deletions::default();
    // Broken before it was asked for.
    let broken = || vec!["a.yaml:3:1: spec.members must be 1, 3 or 5".to_owned()];
    operator.declare(BTreeMap::new(), broken());
    let mut answer = ask(&mut deletions, &mut operator, &holding);
    let told = answer.try_recv().expect("an answer").expect_err("a refusal");
    assert!(told.contains("a.yaml:3:1"), "{told}");
    // Broken after it was asked for.
    operator.declare(BTreeMap::new(), vec![]);
    let mut answer = ask(&mut deletions, &mut operator, &holding);
    operator.declare(BTreeMap::new(), broken());
    deletions.answer(&mut operator, &holding);
    let told = answer.try_recv().expect("an answer").expect_err("a refusal");
    assert!(told.contains("a.yaml:3:1"), "{told}");
    check_nothing_is_armed(&world, &mut operator);
}
