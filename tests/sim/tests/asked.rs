//! What people ask for once, on whole sets: done wherever an operator or an agent dies meanwhile, and nothing acknowledged is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use drover_api::{InstanceId, requests::Request, status::Handled};
use drover_sim::{
    Declared, Process, Sim, each,
    laws::{self, converge, pass_for, slots},
};

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Declares the set with a request.
fn ask(operator: &mut Process, set: &Declared, verb: &str, text: &str) {
    let mut intents = set.intents();
    intents.get_mut(&set.key()).expect("declared").requests = vec![Request::read(verb, text)];
    operator.operator.declare(intents, vec![]);
}

/// The answer of the latest pass.
fn answer(operator: &Process, verb: &str) -> Option<Handled> {
    let snapshot = operator.operator.snapshots().borrow().clone();
    snapshot.sets.first()?.handled.get(verb).cloned()
}

/// The mysqld that runs on each machine.
fn starts(sim: &Sim) -> BTreeMap<InstanceId, String> {
    let world = sim.lock();
    let machines = world.machines.iter().filter(|(_, machine)| machine.on);
    machines.filter_map(|(id, machine)| Some((id.clone(), machine.mysqld.as_ref()?.up.start.clone()))).collect()
}

#[test]
fn every_mysqld_of_a_set_begins_anew_one_at_a_time_and_the_primary_opens_in_the_same_epoch() {
    for (members, readers) in [(3, 1), (1, 1)] {
        let shop = Declared::new("shop", members, readers);
        let (sim, mut operator) = laws::settled(41, &shop, LIMIT);
        let (before, epoch) = (starts(&sim), sim.lock().register(&shop.key()).expect("it lives").epoch);
        ask(&mut operator, &shop, "restart", "t1");
        let mut seen = BTreeSet::new();
        while answer(&operator, "restart").is_none() {
            operator.pass();
            sim.lock().check();
            let running = starts(&sim);
            assert!(running.len() + 1 >= before.len(), "two are down at a time: {running:?}");
            seen.extend(running.into_values());
            assert!(seen.len() < 40, "they are restarted again and again: {seen:?}");
            sim.advance(Duration::from_millis(300));
        }
        converge(&sim, &mut operator, &[(shop.key(), slots(members, readers))], LIMIT);
        let after = starts(&sim);
        assert!(before.iter().all(|(id, start)| after[id] != *start), "{before:?} {after:?}");
        assert_eq!(seen.len(), 2 * before.len(), "each once: {seen:?}");
        assert_eq!(sim.lock().register(&shop.key()).expect("it lives").epoch, epoch);
        pass_for(&sim, &mut operator, Duration::from_secs(60));
        assert_eq!(starts(&sim), after);
    }
}

#[test]
fn wherever_operator_and_agents_die_a_restart_is_done_and_what_was_acknowledged_is_there() {
    let seeds: Vec<u64> = (0..12).collect();
    let (operators, agents) = (AtomicU32::new(0), AtomicU32::new(0));
    each(
        &seeds,
        |seed| format!("seed {seed}"),
        |seed| {
            let seed = *seed;
            let shop = Declared::new("shop", 3, 0);
            let (sim, mut operator) = laws::settled(100 + seed, &shop, LIMIT);
            let before = starts(&sim);
            ask(&mut operator, &shop, "restart", "t1");
            let mut step = 0;
            while answer(&operator, "restart").is_none() {
                operator.pass();
                sim.lock().check();
                sim.advance(Duration::from_millis(400));
                step += 1;
                if step == 2 + seed * 4 {
                    operators.fetch_add(1, Ordering::Relaxed);
                    drop(operator);
                    operator = Process::start(&sim, 'a');
                    ask(&mut operator, &shop, "restart", "t1");
                }
                if step % 20 == seed {
                    let machines: Vec<InstanceId> = sim.lock().machines.keys().cloned().collect();
                    let victim = &machines[usize::try_from(step / 20 + seed).expect("small") % machines.len()];
                    agents.fetch_add(1, Ordering::Relaxed);
                    sim.lock().kill_agent(victim);
                }
                assert!(step < 2_000, "it is never answered");
            }
            converge(&sim, &mut operator, &[(shop.key(), slots(3, 0))], LIMIT);
            let after = starts(&sim);
            let answer = answer(&operator, "restart");
            assert!(before.iter().all(|(id, start)| after[id] != *start), "{answer:?} {before:?} {after:?}");
        },
    );
    let (operators, agents) = (operators.into_inner(), agents.into_inner());
    assert!(operators >= 8 && agents >= 12, "{operators} operators and {agents} agents died before the answer");
}

#[test]
fn users_and_databases_are_dropped_on_every_server_when_it_is_asked_for() {
    let clients = "databases: {shop: {}, stock: {}}, users: {app: {database: shop, access: ReadWrite}}";
    let shop = Declared { clients, ..Declared::new("shop", 3, 0) };
    let (sim, mut operator) = laws::settled(42, &shop, LIMIT);
    let fewer = Declared { clients: "databases: {shop: {}}", generation: 2, ..shop };
    for (verb, text) in [("drop-user", "t1 app"), ("drop-database", "t2 stock")] {
        ask(&mut operator, &fewer, verb, text);
        pass_for(&sim, &mut operator, Duration::from_secs(30));
        let answer = answer(&operator, verb).expect("it is answered");
        assert!(answer.outcome.starts_with("done: there is no "), "{answer:?}");
    }
    operator.operator.declare(fewer.intents(), vec![]);
    converge(&sim, &mut operator, &[(fewer.key(), slots(3, 0))], LIMIT);
    let ids: Vec<InstanceId> = starts(&sim).into_keys().collect();
    for id in ids {
        let world = sim.lock();
        assert_eq!((world.users(&id).len(), world.databases(&id)), (0, BTreeSet::from(["shop".into()])), "{id}");
    }
}
