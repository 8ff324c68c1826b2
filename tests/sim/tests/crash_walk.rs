//! Kill the operator before and after every call that changes something, while a set of 3 + 1 is launched and while it is
//! deleted. The world is kept at each of these moments, and goes on from there with another process that knows nothing: what
//! a crash leaves is the cloud, the bucket and the machines as they are then. A crash beside a call that only reads leaves
//! what the crash after the change before it left.

use std::time::Duration;

use drover_api::{ResourceKey, Slot, records::Lock};
use drover_cloud::ec2::Credentials;
use drover_sim::{
    Declared, Process, Sim, each,
    laws::{BUSY, converge, delete, pass_for, rest, slots},
    world::{Fork, keys},
};

const LIMIT: Duration = Duration::from_secs(30 * 60);
const REVOKED: Duration = Duration::from_secs(10 * 60);
/// How long lists do not show what was made: longer than a lease, so that whoever comes next does not see what the one
/// before it launched last.
const LAG: Duration = Duration::from_secs(60);
/// Shorter than [`LAG`].
const REVOKED_WHILE_HIDDEN: Duration = Duration::from_secs(40);
/// How long an edited manifest is there before the end of its set is asked for. Shorter than [`LAG`].
const EDITED: Duration = Duration::from_secs(20);

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

/// What EC2's lists show to the next operator.
#[derive(Clone, Copy, Debug)]
enum Lists {
    AllThatIs,
    /// Nothing of the last [`LAG`]: the outcome of the last launch is not known, and only sending it again tells.
    Behind,
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

fn go_on(fork: &Fork, meanwhile: Meanwhile, lists: Lists, asked: Asked) {
    let sim = Sim::of(fork.world.fork());
    let revoked = match lists {
        Lists::AllThatIs => REVOKED,
        Lists::Behind => {
            sim.lock().fake.look(|world| world.ec2.faults().visibility_lag = LAG);
            REVOKED_WHILE_HIDDEN
        }
    };
    let build = if matches!(meanwhile, Meanwhile::BuildChanged) { 'b' } else { 'a' };
    let mut operator = Process::start(&sim, build);
    operator.operator.declare(shop().intents(), vec![]);
    match meanwhile {
        Meanwhile::Nothing | Meanwhile::BuildChanged => {}
        Meanwhile::Released => release(&sim),
        Meanwhile::ManifestEdited => {
            operator.operator.declare(shop().edited().intents(), vec![]);
            if let Asked::Deletion = asked {
                // Acted on before the end is asked for, and sooner than lists that are behind show anything.
                release(&sim);
                pass_for(&sim, &mut operator, EDITED);
            }
        }
        Meanwhile::CredentialsRevoked => without_credentials(&sim, &mut operator, revoked),
    }
    match asked {
        Asked::Set => {
            if let Lists::Behind = lists {
                // A set is ready before all that it stands on is shown.
                pass_for(&sim, &mut operator, LAG);
            }
            converge(&sim, &mut operator, &wanted(), LIMIT);
        }
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

fn without_credentials(sim: &Sim, operator: &mut Process, time: Duration) {
    let set = |credentials| sim.lock().fake.look(|world| world.ec2.faults().credentials = credentials);
    set(Credentials::Revoked);
    let until = sim.lock().now().plus(time);
    while sim.lock().now() < until {
        operator.pass();
        sim.lock().check();
        sim.advance(BUSY * 3);
    }
    set(Credentials::Valid);
}

fn walk(forks: &[Fork], meanwhiles: &[Meanwhile], lists: Lists, asked: Asked) {
    let cases: Vec<(usize, Meanwhile)> =
        (0..forks.len()).flat_map(|at| meanwhiles.iter().map(move |meanwhile| (at, *meanwhile))).collect();
    each(
        &cases,
        |(at, meanwhile)| {
            let call = &forks[*at].call;
            let crash = format!("crash {} of {}, {call}", at + 1, forks.len());
            format!("{crash}, then {meanwhile:?}, lists show {lists:?}, and asked for {asked:?}")
        },
        |(at, meanwhile)| go_on(&forks[*at], *meanwhile, lists, asked),
    );
}

#[test]
fn a_crash_beside_every_call_of_a_launch_ends_in_exactly_what_was_asked() {
    walk(&launch(), &[Meanwhile::Nothing, Meanwhile::Released], Lists::AllThatIs, Asked::Set);
}

#[test]
fn so_it_does_when_the_manifest_is_edited_meanwhile() {
    walk(&launch(), &[Meanwhile::ManifestEdited], Lists::AllThatIs, Asked::Set);
}

#[test]
fn so_it_does_when_the_build_is_changed_meanwhile() {
    walk(&launch(), &[Meanwhile::BuildChanged], Lists::AllThatIs, Asked::Set);
}

#[test]
fn so_it_does_when_the_credentials_are_revoked_for_a_while() {
    walk(&launch(), &[Meanwhile::CredentialsRevoked], Lists::AllThatIs, Asked::Set);
}

#[test]
fn a_deletion_after_a_crash_beside_every_call_of_a_launch_leaves_nothing() {
    walk(&launch(), &[Meanwhile::Nothing], Lists::AllThatIs, Asked::Deletion);
}

#[test]
fn so_it_does_when_manifest_build_or_credentials_change_before_it() {
    let changes = [Meanwhile::ManifestEdited, Meanwhile::BuildChanged, Meanwhile::CredentialsRevoked];
    walk(&launch(), &changes, Lists::AllThatIs, Asked::Deletion);
}

/// The moments beside a call whose outcome nothing but its answer tells.
fn unanswered() -> Vec<Fork> {
    let mut forks = launch();
    forks.retain(|fork| fork.call.contains("RunInstances") || fork.call.contains("CreateVolume"));
    assert_eq!(forks.len(), 2 * 2 * 4, "before and after both calls of each slot");
    forks
}

#[test]
fn a_launch_whose_machine_no_list_shows_yet_is_sent_again_and_not_twice() {
    let changes =
        [Meanwhile::Released, Meanwhile::ManifestEdited, Meanwhile::BuildChanged, Meanwhile::CredentialsRevoked];
    walk(&unanswered(), &changes, Lists::Behind, Asked::Set);
}

/// What the record holds is sent again, byte for byte, and what that answers is ended by its id.
#[test]
fn a_deletion_ends_a_launch_whose_machine_no_list_shows_yet() {
    walk(&launch(), &[Meanwhile::Released], Lists::Behind, Asked::Deletion);
}

#[test]
fn so_it_does_when_manifest_build_or_credentials_change_before_it_and_no_list_shows_it_yet() {
    let changes =
        [Meanwhile::Nothing, Meanwhile::ManifestEdited, Meanwhile::BuildChanged, Meanwhile::CredentialsRevoked];
    walk(&unanswered(), &changes, Lists::Behind, Asked::Deletion);
}

#[test]
fn a_crash_beside_every_call_of_a_deletion_leaves_nothing() {
    walk(
        &deletion(),
        &[Meanwhile::Nothing, Meanwhile::Released, Meanwhile::BuildChanged],
        Lists::AllThatIs,
        Asked::Deletion,
    );
}

/// What is revoked for ten minutes is declared again all the while: a deletion that is written down goes on nevertheless.
#[test]
fn a_deletion_ends_under_changes_and_what_is_declared_again_is_whole() {
    let forks = deletion();
    let changes = [Meanwhile::ManifestEdited, Meanwhile::CredentialsRevoked];
    walk(&forks, &changes, Lists::AllThatIs, Asked::Deletion);
    walk(&forks, &changes, Lists::AllThatIs, Asked::Set);
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
