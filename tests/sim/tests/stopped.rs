//! A holder of the lock is stopped for longer than its lease, as SIGSTOP does it, at every moment of a launch, of a scale-in,
//! of a deletion and of an upgrade, while another takes over and acts. When it goes on it sends nothing of what it had planned
//! (law 7): the next call that it would make asks the lease first, whichever call that is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use drover_api::Slot;
use drover_control::deletions::DeleteRefused;
use drover_sim::{
    Declared, Process, Sim, World, each,
    laws::{BUSY, converge, pass_for, settled, slots},
    process::{LEASE, Moment},
};

const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Of an undisturbed history, at most.
const PASSES_MAX: u64 = 600;
/// Passes that want nothing, one after the other: longer than anything that a pass waits for.
const AT_REST: u64 = 60;

/// What is asked of the one that is stopped, and of the one that goes on.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// Of an empty world.
    Launch,
    /// The read replica of a set at rest ends, and a volume that a person lets go with its machine is kept.
    ScaleIn,
    Deletion,
    /// Every agent of a set at rest becomes another build.
    Upgrade,
}

fn shop() -> Declared {
    Declared::new("shop", 3, 1)
}

fn without_reader() -> Declared {
    Declared { readers: 0, generation: 2, ..shop() }
}

impl Asked {
    fn world(self) -> World {
        if let Asked::Launch = self {
            return Sim::new(5).lock().fork();
        }
        let (sim, operator) = settled(5, &shop(), LIMIT);
        operator.release().expect("the bucket is there");
        if let Asked::ScaleIn = self {
            let member = sim.lock().machine_in(&shop().key(), Slot::Member(1)).expect("it is filled");
            sim.lock().let_volume_go(&member);
        }
        sim.lock().fork()
    }

    fn start(self, sim: &Sim) -> Process {
        let mut process = Process::start(sim, if let Asked::Upgrade = self { 'b' } else { 'a' });
        let intents = match self {
            Asked::Launch | Asked::Upgrade => shop().intents(),
            Asked::ScaleIn => without_reader().intents(),
            Asked::Deletion => BTreeMap::new(),
        };
        process.operator.declare(intents, vec![]);
        process
    }

    /// Whether nothing is wanted any more.
    fn pass(self, process: &mut Process) -> bool {
        if let Asked::Deletion = self {
            // Asked until it is written down. Whoever does not act refuses.
            let asked = process.operator.delete(&shop().key());
            assert!(!matches!(asked, Err(DeleteRefused::Declared { .. })), "nobody declares it any more");
        }
        process.pass().plan.is_some_and(|plan| plan.is_quiet())
    }
}

/// Every moment of an undisturbed history: before each pass acts, and after each change. A pass that changes nothing had nothing to send.
#[expect(clippy::panic, reason = "a history that does not end says which")]
fn moments(asked: Asked, world: &World) -> Vec<(u64, Moment)> {
    let sim = Sim::of(world.fork());
    let mut process = asked.start(&sim);
    let mut moments = Vec::new();
    let mut at_rest = 0;
    for pass in 0..PASSES_MAX {
        at_rest = if asked.pass(&mut process) { at_rest + 1 } else { 0 };
        let reached = process.reached();
        if reached.iter().any(|moment| matches!(moment, Moment::Changed(_))) {
            moments.extend(reached.into_iter().map(|moment| (pass, moment)));
        }
        if at_rest == AT_REST {
            return moments;
        }
        sim.advance(BUSY);
    }
    panic!("{asked:?} does not end");
}

fn stop(asked: Asked, world: &World, (pass, moment): (u64, Moment)) {
    let sim = Sim::of(world.fork());
    let mut first = asked.start(&sim);
    for _ in 0..pass {
        asked.pass(&mut first);
        sim.advance(BUSY);
    }
    let second = Arc::new(Mutex::new(asked.start(&sim)));
    let until = Arc::new(Mutex::new(None));
    let (other, world, ended) = (Arc::clone(&second), sim.clone(), Arc::clone(&until));
    first.stop_at(moment, move || {
        let mut other = other.lock().expect("not poisoned");
        pass_for(&world, &mut other, LEASE * 2);
        *ended.lock().expect("not poisoned") = Some(world.lock().changes);
    });
    asked.pass(&mut first);
    let changes = until.lock().expect("not poisoned").expect("it was stopped");
    assert_eq!(sim.lock().changes, changes, "it sent something of what it had planned");
    asked.pass(&mut first);
    assert_eq!(sim.lock().changes, changes, "it sent something when it went on");
    if let (Asked::Launch, Moment::Heard) = (asked, moment) {
        let mut second = second.lock().expect("not poisoned");
        converge(&sim, &mut second, &[(shop().key(), slots(3, 1))], LIMIT);
    }
}

fn walk(asked: Asked) {
    let world = asked.world();
    let moments = moments(asked, &world);
    each(&moments, |(pass, moment)| format!("stopped in pass {pass}: {moment:?}"), |at| stop(asked, &world, *at));
}

#[test]
fn a_holder_stopped_past_its_lease_at_any_moment_of_a_launch_sends_nothing_more() {
    walk(Asked::Launch);
}

#[test]
fn so_it_does_at_any_moment_of_a_scale_in() {
    walk(Asked::ScaleIn);
}

#[test]
fn so_it_does_at_any_moment_of_a_deletion() {
    walk(Asked::Deletion);
}

#[test]
fn so_it_does_at_any_moment_of_an_upgrade() {
    walk(Asked::Upgrade);
}
