//! Kill the operator before and after every call that changes something, while a set of 3 + 1 is launched and while it is
//! deleted. The world is kept at each of these moments, and goes on from there with another process that knows nothing: what
//! a crash leaves is the cloud, the bucket and the machines as they are then. A crash beside a call that only reads leaves
//! what the crash after the change before it left.

use std::time::Duration;

use drover_api::{ResourceKey, Slot, records::Lock};
use drover_cloud::ec2::Credentials;
use drover_sim::{
    Declared, Process, Sim, each,
    laws::{BUSY, converge, delete, rest, slots},
    world::{Fork, keys},
};

const LIMIT: Duration = Duration::from_secs(30 * 60);
const REVOKED: Duration = Duration::from_secs(10 * 60);

/// What is otherwise when the next operator starts.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    /// The one before had given the lock up.
    Released,
    ManifestEdited,
    BuildChanged,
    CredentialsRevoked,
}

/// What is wanted in the end.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Set,
    Deletion,
}

fn shop() -> Declared {
    Declared::new("shop", 3, 1)
}

fn wanted() -> [(ResourceKey, Vec<Slot>); 1] {
    [(shop().key(), slots(3, 1))]
}

/// Every moment of an undisturbed launch.
fn launch() -> Vec<Fork> {
    let sim = Sim::new(7);
    sim.record();
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(shop().intents(), vec![]);
    converge(&sim, &mut operator, &wanted(), LIMIT);
    sim.recorded()
}

/// Every moment of an undisturbed deletion.
fn deletion() -> Vec<Fork> {
    let sim = Sim::new(8);
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(shop().intents(), vec![]);
    converge(&sim, &mut operator, &wanted(), LIMIT);
    sim.record();
    delete(&sim, &mut operator, &shop().key(), LIMIT);
    sim.recorded()
}

fn go_on(fork: &Fork, meanwhile: Meanwhile, asked: Asked) {
    let sim = Sim::of(fork.world.fork());
    let build = if matches!(meanwhile, Meanwhile::BuildChanged) { 'b' } else { 'a' };
    let mut operator = Process::start(&sim, build);
    operator.operator.declare(shop().intents(), vec![]);
    match meanwhile {
        Meanwhile::Nothing | Meanwhile::BuildChanged => {}
        Meanwhile::Released => release(&sim),
        Meanwhile::ManifestEdited => operator.operator.declare(shop().edited().intents(), vec![]),
        Meanwhile::CredentialsRevoked => without_credentials(&sim, &mut operator),
    }
    match asked {
        Asked::Set => converge(&sim, &mut operator, &wanted(), LIMIT),
        Asked::Deletion => return delete(&sim, &mut operator, &shop().key(), LIMIT),
    }
    if let Meanwhile::BuildChanged = meanwhile {
        let world = sim.lock();
        let all = world.machines.values().filter_map(|machine| machine.build.as_ref());
        assert!(all.clone().count() == 4 && all.clone().all(|build| build.as_str().starts_with('b')));
    }
}

fn release(sim: &Sim) {
    let fake = sim.lock().fake.clone();
    fake.look(|world| {
        let Some(body) = world.bucket.object(&keys().lock()) else { return };
        let lock: Lock = serde_json::from_slice(body).expect("a lock");
        let body = serde_json::to_vec(&Lock { released: true, ..lock }).expect("it serialises");
        world.bucket.set(keys().lock(), Some(body));
    });
}

fn without_credentials(sim: &Sim, operator: &mut Process) {
    let set = |credentials| sim.lock().fake.look(|world| world.ec2.faults().credentials = credentials);
    set(Credentials::Revoked);
    let until = sim.lock().now().plus(REVOKED);
    while sim.lock().now() < until {
        operator.pass();
        sim.lock().check();
        sim.advance(BUSY * 3);
    }
    set(Credentials::Valid);
}

fn walk(forks: &[Fork], meanwhiles: &[Meanwhile], asked: Asked) {
    let cases: Vec<(usize, Meanwhile)> =
        (0..forks.len()).flat_map(|at| meanwhiles.iter().map(move |meanwhile| (at, *meanwhile))).collect();
    each(
        &cases,
        |(at, meanwhile)| {
            let call = &forks[*at].call;
            format!("crash {} of {}, {call}, then {meanwhile:?}, and asked for {asked:?}", at + 1, forks.len())
        },
        |(at, meanwhile)| go_on(&forks[*at], *meanwhile, asked),
    );
}

#[test]
fn a_crash_beside_every_call_of_a_launch_ends_in_exactly_what_was_asked() {
    walk(&launch(), &[Meanwhile::Nothing, Meanwhile::Released], Asked::Set);
}

#[test]
fn so_it_does_when_the_manifest_is_edited_meanwhile() {
    walk(&launch(), &[Meanwhile::ManifestEdited], Asked::Set);
}

#[test]
fn so_it_does_when_the_build_is_changed_meanwhile() {
    walk(&launch(), &[Meanwhile::BuildChanged], Asked::Set);
}

#[test]
fn so_it_does_when_the_credentials_are_revoked_for_a_while() {
    walk(&launch(), &[Meanwhile::CredentialsRevoked], Asked::Set);
}

#[test]
fn a_deletion_after_a_crash_beside_every_call_of_a_launch_leaves_nothing() {
    walk(&launch(), &[Meanwhile::Nothing], Asked::Deletion);
}

#[test]
fn so_it_does_when_manifest_build_or_credentials_change_before_it() {
    let changes = [Meanwhile::ManifestEdited, Meanwhile::BuildChanged, Meanwhile::CredentialsRevoked];
    walk(&launch(), &changes, Asked::Deletion);
}

#[test]
fn a_crash_beside_every_call_of_a_deletion_leaves_nothing() {
    walk(&deletion(), &[Meanwhile::Nothing, Meanwhile::Released, Meanwhile::BuildChanged], Asked::Deletion);
}

/// What is revoked for ten minutes is declared again all the while: a deletion that is written down goes on nevertheless.
#[test]
fn a_deletion_ends_under_changes_and_what_is_declared_again_is_whole() {
    let forks = deletion();
    let changes = [Meanwhile::ManifestEdited, Meanwhile::CredentialsRevoked];
    walk(&forks, &changes, Asked::Deletion);
    walk(&forks, &changes, Asked::Set);
}

#[test]
fn a_namesake_of_a_deleted_set_is_another_set() {
    let sim = Sim::new(9);
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(shop().intents(), vec![]);
    converge(&sim, &mut operator, &wanted(), LIMIT);
    let first = sim.lock().incarnation(&shop().key()).expect("it lives").incarnation;
    delete(&sim, &mut operator, &shop().key(), LIMIT);
    operator.operator.declare(shop().intents(), vec![]);
    converge(&sim, &mut operator, &wanted(), LIMIT);
    assert_ne!(sim.lock().incarnation(&shop().key()).expect("it lives").incarnation, first);
    rest(&sim, &mut operator);
}
