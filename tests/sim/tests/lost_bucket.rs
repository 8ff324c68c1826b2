//! The bucket is empty, or another's, beside machines that live: nobody opens, whatever else happens to them meanwhile, and
//! the operator says that it is stalled and touches none of them.

use std::{sync::OnceLock, time::Duration};

use drover_api::{Slot, bucket::ObjectKey, conditions::ConditionType};
use drover_sim::{
    Declared, Process, Sim, each,
    laws::{BUSY, converge, settled, slots},
    machine::Machine,
    world::{Fork, keys},
};

const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Longer than a process goes on with what it read before (five minutes), and a lease.
const WATCHED: Duration = Duration::from_secs(6 * 60);

/// What the bucket holds from now on.
#[derive(Clone, Copy, Debug)]
enum Bucket {
    Empty,
    /// A set of the same name in another life, with machines elsewhere.
    OfAnotherLife,
}

/// What happens to the leader's machine then.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    MysqldKilled,
    Rebooted,
}

/// Who operates then.
#[derive(Clone, Copy, Debug)]
enum Operator {
    /// With what it has read before. It goes on holding the lock: what else a holder without one does, is the lock's tests'.
    TheSame,
    Another,
}

fn shop(members: u8) -> Declared {
    Declared::new("shop", members, 0)
}

impl Bucket {
    /// Of the stall.
    fn reason(self) -> &'static str {
        match self {
            Bucket::Empty => "RegisterLost",
            Bucket::OfAnotherLife => "OtherIncarnation",
        }
    }
}

fn lose(sim: &Sim, bucket: Bucket) {
    let objects: &[(ObjectKey, Vec<u8>)] = match bucket {
        Bucket::Empty => &[],
        Bucket::OfAnotherLife => of_another_life(),
    };
    sim.lock().fake.look(|world| {
        world.bucket.empty();
        for (key, body) in objects {
            world.bucket.set(key.clone(), Some(body.clone()));
        }
    });
}

fn of_another_life() -> &'static [(ObjectKey, Vec<u8>)] {
    static OBJECTS: OnceLock<Vec<(ObjectKey, Vec<u8>)>> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let (sim, operator) = settled(31, &shop(3), LIMIT);
        operator.release().expect("the bucket is there");
        sim.lock().fake.look(|world| {
            let object = |key: &ObjectKey| Some((key.clone(), world.bucket.object(key)?.to_vec()));
            world.bucket.keys().filter_map(object).collect()
        })
    })
}

fn is_anyone_open(sim: &Sim) -> bool {
    sim.lock().machines.values().any(Machine::is_open_leader)
}

/// Nobody opens; in the end the operator says why nothing is done, and all machines are as they were.
fn stays_closed(sim: &Sim, operator: &mut Process, reason: &str) {
    let machines: Vec<_> = sim.lock().machines.keys().cloned().collect();
    let until = sim.lock().now().plus(WATCHED);
    while sim.lock().now() < until {
        operator.pass();
        sim.lock().check();
        assert!(!is_anyone_open(sim), "a leader opened");
        sim.advance(BUSY * 3);
    }
    let snapshot = operator.operator.snapshots().borrow().clone();
    let stalled = snapshot.sets[0].condition(ConditionType::Stalled).expect("it says so");
    assert_eq!(stalled.reason, reason, "{stalled:?}");
    let world = sim.lock();
    assert!(world.running() == machines && world.machines.len() == machines.len(), "machines were changed");
}

#[test]
fn a_leader_that_goes_down_beside_a_lost_bucket_does_not_open_again() {
    let mut cases = Vec::new();
    for members in [1, 3] {
        for bucket in [Bucket::Empty, Bucket::OfAnotherLife] {
            for meanwhile in [Meanwhile::MysqldKilled, Meanwhile::Rebooted] {
                cases.extend([Operator::TheSame, Operator::Another].map(|who| (members, bucket, meanwhile, who)));
            }
        }
    }
    each(
        &cases,
        |(members, bucket, meanwhile, who)| format!("{members} members, {bucket:?}, {meanwhile:?}, {who:?}"),
        |(members, bucket, meanwhile, who)| {
            let (sim, mut operator) = settled(30, &shop(*members), LIMIT);
            if let Operator::Another = who {
                operator = Process::start(&sim, 'a');
                operator.operator.declare(shop(*members).intents(), vec![]);
            }
            let lock = sim.lock().fake.look(|world| world.bucket.object(&keys().lock()).map(<[u8]>::to_vec));
            lose(&sim, *bucket);
            if let Operator::TheSame = who {
                sim.lock().fake.look(|world| world.bucket.set(keys().lock(), lock));
            }
            let leader = sim.lock().machine_in(&shop(*members).key(), Slot::Member(0)).expect("it is there");
            match meanwhile {
                Meanwhile::MysqldKilled => sim.lock().kill_mysqld(&leader),
                Meanwhile::Rebooted => sim.lock().reboot(&leader),
            }
            sim.advance(BUSY);
            stays_closed(&sim, &mut operator, bucket.reason());
        },
    );
}

/// Every moment of a launch in which an order was taken and nobody is open.
fn ordered(members: u8) -> Vec<Fork> {
    let sim = Sim::new(30);
    sim.record();
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(shop(members).intents(), vec![]);
    converge(&sim, &mut operator, &[(shop(members).key(), slots(members, 0))], LIMIT);
    let mut forks = sim.recorded();
    forks.retain(|fork| {
        let open = fork.world.machines.values().any(Machine::is_open_leader);
        fork.call.starts_with("after an order") && !open
    });
    forks
}

#[test]
fn a_leader_that_was_told_to_open_asks_the_register_and_stays_closed_without_it() {
    for members in [1, 3] {
        let forks = ordered(members);
        let cases: Vec<_> =
            forks.iter().flat_map(|fork| [(fork, Bucket::Empty), (fork, Bucket::OfAnotherLife)]).collect();
        each(
            &cases,
            |(fork, bucket)| format!("{bucket:?} {} of {members} members", fork.call),
            |(fork, bucket)| {
                let sim = Sim::of(fork.world.fork());
                let mut operator = Process::start(&sim, 'a');
                operator.operator.declare(shop(members).intents(), vec![]);
                lose(&sim, *bucket);
                stays_closed(&sim, &mut operator, bucket.reason());
            },
        );
    }
}
