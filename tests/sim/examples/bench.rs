//! A realm of 1,000 machines in 250 sets on the cloud in memory: what one interval costs in calls, CPU and memory. Figures
//! only; nothing here fails by being slow. Run by `make bench`.

#![allow(clippy::panic, reason = "a fleet that does not come up has no figures")]

use std::{collections::BTreeMap, time::Duration};

use drover_cloud::flaky::{Counted, Effect};
use drover_control::run::INTERVAL;
use drover_sim::{Declared, Process, Sim};
use nix::sys::resource::{UsageWho, getrusage};

const SETS: usize = 250;
const MEMBERS: u8 = 3;
const READERS: u16 = 1;
const PASSES: u32 = 60;
/// Of DescribeInstances, at most.
const PAGE: usize = 1_000;
/// EC2 documentation, "Request throttling for the Amazon EC2 API": describes with a filter or pages, capacity and refill.
const DESCRIBE_BUCKET: (f64, f64) = (100.0, 20.0);

fn main() {
    let sim = Sim::new(1);
    sim.lock().tick = Duration::from_secs(20);
    let mut operator = Process::start(&sim, 'a');
    let sets: Vec<Declared> = (0..SETS).map(|n| Declared::new(&format!("set-{n}"), MEMBERS, READERS)).collect();
    operator.operator.declare(sets.iter().flat_map(Declared::intents).collect(), vec![]);
    let machines = SETS * usize::from(u16::from(MEMBERS) + READERS);
    let (launched, took, passes) = launch(&sim, &mut operator);
    println!("{machines} machines in {SETS} sets");
    println!(
        "launch: {took:.0} s of virtual time, {passes} passes, {launched:.1} s of CPU with the machines' agents and mysqlds"
    );

    told("  EC2's calls", &ec2_calls(&sim, 0), took / 60.0);

    let (before, position) = (operator.faults.calls(Counted::All), log_position(&sim));
    let changes = sim.lock().changes;
    let started = sim.lock().now();
    let mut cpu = Duration::ZERO;
    for _ in 0..PASSES {
        let begin = cpu_time();
        operator.pass();
        cpu += cpu_time() - begin;
        sim.advance(INTERVAL);
    }
    let minutes = sim.lock().now().since(started).as_secs_f64() / 60.0;
    let calls = operator.faults.calls(Counted::All) - before;
    assert_eq!(sim.lock().changes, changes, "a fleet at rest is changed");
    println!("at rest, {PASSES} passes in {minutes:.0} min: {calls} calls, {:.1} per minute:", calls as f64 / minutes);
    let record = operator.faults.record();
    let mut by_call: BTreeMap<String, usize> = BTreeMap::new();
    for made in record.iter().rev().take(usize::try_from(calls).unwrap_or(usize::MAX)) {
        let call = if made.effect == Effect::Mutates { "PutObject (the lock)" } else { made.call };
        *by_call.entry(call.to_owned()).or_default() += 1;
    }
    told("  by what was asked for", &by_call, minutes);
    let pages = ec2_calls(&sim, position);
    told("  EC2's calls, each page one", &pages, minutes);
    let lists = by_call.get("DescribeInstances").copied().unwrap_or(0);
    assert_eq!(
        pages.get("DescribeInstances"),
        Some(&(lists * machines.div_ceil(PAGE))),
        "instances are not listed by the page"
    );
    let looked_up: Vec<_> = pages.iter().filter(|(_, count)| **count >= machines).collect();
    assert!(looked_up.is_empty(), "machine after machine is asked about: {looked_up:?}");
    let lists = lists as f64;
    println!("CPU per pass at rest: {:.1} ms", cpu.as_secs_f64() * 1000.0 / f64::from(PASSES));
    println!("peak memory, the simulated cloud and machines included: {} MiB", usage().max_rss() / 1024);

    let (capacity, refill) = DESCRIBE_BUCKET;
    let each = (machines as f64 - capacity).max(0.0) / refill;
    println!(
        "for comparison, one describe per machine: {machines} calls a look, {each:.0} s a look in EC2's bucket of {capacity}/{refill} a second,"
    );
    println!("  and {:.0} looks a minute were made here, with {:.0} calls", lists / minutes, lists / minutes);
}

fn log_position(sim: &Sim) -> u64 {
    sim.lock().fake.look(|world| world.ec2.log().position())
}

/// EC2's calls since then, by action.
fn ec2_calls(sim: &Sim, position: u64) -> BTreeMap<String, usize> {
    sim.lock().fake.look(|world| {
        let mut calls = BTreeMap::new();
        for entry in world.ec2.log().since(position) {
            *calls.entry(entry.action.clone()).or_default() += 1;
        }
        calls
    })
}

fn told(title: &str, calls: &BTreeMap<String, usize>, minutes: f64) {
    println!("{title}:");
    for (call, count) in calls {
        println!("    {call}: {count}, {:.1} per minute", *count as f64 / minutes);
    }
}

/// Passes until every set is ready. CPU seconds, virtual seconds, passes.
fn launch(sim: &Sim, operator: &mut Process) -> (f64, f64, u32) {
    let (begin, started) = (cpu_time(), sim.lock().now());
    for pass in 1..2_000 {
        let plan = operator.pass().plan;
        if plan.is_some_and(|plan| plan.is_quiet() && plan.reports.values().all(|report| report.ready)) {
            let took = sim.lock().now().since(started).as_secs_f64();
            return ((cpu_time() - begin).as_secs_f64(), took, pass);
        }
        sim.advance(INTERVAL);
    }
    panic!("the fleet is not ready after 2,000 passes");
}

fn usage() -> nix::sys::resource::Usage {
    getrusage(UsageWho::RUSAGE_SELF).expect("a process can ask about itself")
}

fn cpu_time() -> Duration {
    let usage = usage();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0))
    };
    of(usage.user_time()) + of(usage.system_time())
}
