//! The laws as single histories.

use std::{collections::BTreeSet, time::Duration};

use drover_api::{InstanceId, Slot, conditions::ConditionType, records::RegisterState};
use drover_cloud::{ec2::NoCapacity, flaky::Odds};
use drover_sim::{
    Declared, Process, Sim, each,
    laws::{self, BUSY, converge, pass_for, rest, slots},
    world::keys,
};

const LIMIT: Duration = Duration::from_secs(20 * 60);

fn settled(seed: u64, set: &Declared) -> (Sim, Process) {
    laws::settled(seed, set, LIMIT)
}

fn machine(sim: &Sim, set: &Declared, slot: Slot) -> InstanceId {
    sim.lock().machine_in(&set.key(), slot).expect("the slot is filled")
}

#[test]
fn clients_are_let_in_and_what_they_were_told_is_kept() {
    let shop = Declared::new("shop", 3, 1);
    let (sim, _operator) = settled(1, &shop);
    assert!(sim.lock().told(&shop.key()) > 3);
}

/// Law 12: time and randomness come in as arguments, so one seed is one history, call for call.
#[test]
fn a_seed_is_one_history_and_another_is_another() {
    let history = |seed: u64| {
        let shop = Declared::new("shop", 3, 1);
        let sim = Sim::new(seed);
        sim.record();
        let mut operator = Process::start(&sim, 'a');
        operator.faults.set_odds(Odds { throttled: 50, unsent: 30, reply_lost: 60 });
        operator.operator.declare(shop.intents(), vec![]);
        converge(&sim, &mut operator, &[(shop.key(), slots(3, 1))], LIMIT);
        let calls: Vec<_> = sim.recorded().into_iter().map(|fork| (fork.world.now(), fork.call)).collect();
        let machines: Vec<_> = sim.lock().fake.look(|world| world.ec2.instances().cloned().collect());
        (calls, machines)
    };
    assert_eq!(history(11), history(11));
    assert_ne!(history(11), history(12));
}

#[test]
fn another_operator_adopts_everything_and_changes_nothing() {
    let shop = Declared::new("shop", 3, 1);
    let (sim, operator) = settled(2, &shop);
    drop(operator);
    let before = sim.lock().changes;
    let mut next = Process::start(&sim, 'a');
    next.operator.declare(shop.intents(), vec![]);
    converge(&sim, &mut next, &[(shop.key(), slots(3, 1))], LIMIT);
    assert_eq!(sim.lock().changes, before);
}

#[test]
fn a_machine_in_a_zone_that_cannot_be_asked_is_not_replaced_and_one_that_is_gone_is() {
    let shop = Declared::new("shop", 3, 1);
    let (sim, mut operator) = settled(3, &shop);
    let lost = machine(&sim, &shop, Slot::Member(1));
    let zone = sim.lock().fake.look(|world| world.ec2.instance(lost.as_str()).map(|it| it.zone.clone()));
    let out = BTreeSet::from([zone.expect("it is there")]);
    sim.lock().machine(&lost).cut = true;
    sim.lock().fake.look(|world| world.ec2.faults().zone_outages = out);
    pass_for(&sim, &mut operator, Duration::from_secs(30 * 60));
    assert_eq!(machine(&sim, &shop, Slot::Member(1)), lost, "it was replaced while nobody could tell");
    assert_eq!(sim.lock().filled(&shop.key()).0, slots(3, 1));

    sim.lock().machine(&lost).cut = false;
    sim.lock().fake.look(|world| world.ec2.faults().zone_outages.clear());
    sim.lock().terminate(&lost);
    converge(&sim, &mut operator, &[(shop.key(), slots(3, 1))], LIMIT);
    assert_ne!(machine(&sim, &shop, Slot::Member(1)), lost);
}

#[test]
fn an_empty_bucket_beside_living_machines_stalls_and_changes_nothing() {
    let shop = Declared::new("shop", 3, 1);
    let (sim, operator) = settled(4, &shop);
    drop(operator);
    sim.lock().fake.look(|world| world.bucket.empty());
    let mut next = Process::start(&sim, 'a');
    next.operator.declare(shop.intents(), vec![]);
    // Its lock, and the binary that it carries.
    pass_for(&sim, &mut next, Duration::from_secs(20));
    let position = sim.lock().fake.look(|world| world.ec2.log().position());
    assert_eq!(pass_for(&sim, &mut next, Duration::from_secs(15 * 60)), 0);
    let changed = sim.lock().fake.look(|world| {
        let of_sets = world.bucket.keys().filter(|key| keys().resource_of(key).is_some()).count();
        of_sets + world.ec2.log().since(position).filter(|entry| entry.changed_something()).count()
    });
    assert_eq!(changed, 0);
    let snapshot = next.operator.snapshots().borrow().clone();
    let stalled = snapshot.sets[0].condition(ConditionType::Stalled).expect("it says so");
    assert_eq!(stalled.reason, "RegisterLost");
}

#[test]
fn a_set_of_three_whose_leader_died_stays_closed_and_is_not_touched() {
    let shop = Declared::new("shop", 3, 0);
    let (sim, mut operator) = settled(6, &shop);
    let leader = machine(&sim, &shop, Slot::Member(0));
    sim.lock().kill_mysqld(&leader);
    pass_for(&sim, &mut operator, Duration::from_secs(60));
    rest(&sim, &mut operator);
    assert!(sim.lock().machines.values().all(|machine| !machine.is_open_leader()));
    let snapshot = operator.operator.snapshots().borrow().clone();
    assert!(!snapshot.sets[0].ready);
    assert!(snapshot.sets[0].condition(ConditionType::PrimaryLost).is_some());
    assert_eq!(machine(&sim, &shop, Slot::Member(0)), leader);
}

#[test]
fn a_set_of_one_opens_again_on_its_own_volume_in_a_later_epoch() {
    let till = Declared::new("till", 1, 0);
    let (sim, mut operator) = settled(7, &till);
    let first = machine(&sim, &till, Slot::Member(0));
    sim.advance(Duration::from_secs(60));
    let told = sim.lock().told(&till.key());
    sim.lock().terminate(&first);
    pass_for(&sim, &mut operator, Duration::from_secs(60));
    converge(&sim, &mut operator, &[(till.key(), slots(1, 0))], LIMIT);
    assert_ne!(machine(&sim, &till, Slot::Member(0)), first);
    let register = sim.lock().register(&till.key()).expect("it lives");
    assert!(register.epoch.0 == 2 && register.state == RegisterState::Active && register.opened, "{register:?}");
    assert!(told > 0 && sim.lock().told(&till.key()) > told, "it is written to again");
}

#[test]
fn launches_that_ec2_gives_up_at_once_are_paced_whoever_operates_and_go_on_when_they_succeed() {
    let shop = Declared::new("shop", 3, 0);
    let sim = Sim::new(8);
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(shop.intents(), vec![]);
    let until = sim.lock().now().plus(Duration::from_secs(10 * 60));
    let mut passes = 0;
    while sim.lock().now() < until {
        operator.pass();
        sim.lock().give_up_pending("Client.VolumeLimitExceeded");
        sim.advance(BUSY);
        passes += 1;
        if passes == 150 {
            // Another operator begins with an empty memory, and finds the pause in the records.
            drop(operator);
            operator = Process::start(&sim, 'a');
            operator.operator.declare(shop.intents(), vec![]);
        }
    }
    let launches = sim.lock().fake.look(|world| world.ec2.instances().count());
    assert!((3 * 3..=3 * 7).contains(&launches), "{launches} launches for three slots in ten minutes");
    let snapshot = operator.operator.snapshots().borrow().clone();
    let stalled = snapshot.sets[0].condition(ConditionType::Stalled).expect("it says so");
    assert!(stalled.message.contains("Client.VolumeLimitExceeded"), "{stalled:?}");
    converge(&sim, &mut operator, &[(shop.key(), slots(3, 0))], LIMIT);
}

const ZONES: [&str; 3] = ["eu-test-1a", "eu-test-1b", "eu-test-1c"];

/// A world in which a zone has no capacity for any type, and an operator of a set.
fn without_capacity_in(zone: &str, set: &Declared) -> (Sim, Process) {
    let sim = Sim::new(10);
    let refused = NoCapacity { zone: Some(zone.into()), instance_type: None };
    sim.lock().fake.look(|world| world.ec2.faults().no_capacity = vec![refused]);
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(set.intents(), vec![]);
    (sim, operator)
}

/// RunInstances calls that brought a machine, and those that were refused.
fn launches(sim: &Sim) -> (usize, usize) {
    sim.lock().fake.look(|world| {
        let log = world.ec2.log();
        let calls = log.since(0).filter(|entry| entry.action == "RunInstances");
        let (made, refused): (Vec<_>, Vec<_>) = calls.partition(|entry| entry.changed_something());
        (made.len(), refused.len())
    })
}

#[test]
fn a_zone_without_capacity_is_passed_by_where_the_spread_is_preferred_and_that_is_told() {
    let cases: Vec<(&str, u8)> = ZONES.iter().flat_map(|zone| [(*zone, 3), (*zone, 5)]).collect();
    each(
        &cases,
        |(zone, members)| format!("{members} members and nothing in {zone}"),
        |(zone, members)| {
            let shop = Declared { zone_spread: "Preferred", ..Declared::new("shop", *members, 1) };
            let (sim, mut operator) = without_capacity_in(zone, &shop);
            converge(&sim, &mut operator, &[(shop.key(), slots(*members, 1))], LIMIT);
            let there = sim.lock().fake.look(|world| world.ec2.instances().filter(|it| it.zone == *zone).count());
            assert_eq!(there, 0);
            let told = operator.operator.snapshots().borrow().sets[0].awaiting.clone();
            assert!(told.iter().any(|line| line.contains("the set is lost with that zone")), "{told:?}");
        },
    );
}

#[test]
fn a_zone_without_capacity_is_waited_for_where_the_spread_is_required_and_nothing_is_launched_elsewhere() {
    each(
        &ZONES,
        |zone| format!("nothing in {zone}"),
        |zone| {
            let shop = Declared { zone_spread: "Required", ..Declared::new("shop", 3, 1) };
            let (sim, mut operator) = without_capacity_in(zone, &shop);
            pass_for(&sim, &mut operator, Duration::from_secs(15 * 60));
            let members = sim.lock().filled(&shop.key()).0.into_iter().filter(|slot| slot.is_member()).count();
            assert_eq!(members, 2);
            let (made, refused) = launches(&sim);
            // Two members and a read replica, which stands where there is room; and both types every three minutes for each
            // slot that would stand there.
            assert_eq!(made, 3);
            assert!((2 * 4..=2 * 2 * 6).contains(&refused), "{refused} launches were refused in 15 minutes");
            let set = operator.operator.snapshots().borrow().sets[0].clone();
            let told = set.awaiting.iter().any(|line| line.contains("no capacity") && line.contains(zone));
            assert!(!set.ready && told, "{:?}", set.awaiting);

            sim.lock().fake.look(|world| world.ec2.faults().no_capacity.clear());
            converge(&sim, &mut operator, &[(shop.key(), slots(3, 1))], LIMIT);
            let zones: BTreeSet<String> = sim.lock().fake.look(|world| {
                let members = world.ec2.instances().filter(|it| it.tags["drover:slot"].starts_with('m'));
                members.map(|it| it.zone.clone()).collect()
            });
            assert_eq!(zones, ZONES.map(String::from).into());
        },
    );
}

#[test]
fn a_joiner_that_goes_silent_holds_up_no_other_member_and_loses_nothing() {
    for seed in 1..=6 {
        let shop = Declared::new("shop", 5, 0);
        let (sim, mut operator) = settled(20 + seed, &shop);
        // A life is raised by a random step.
        let changed = |sim: &Sim| -> Vec<usize> {
            let voters = sim.lock().register(&shop.key()).expect("it lives").voters;
            voters.iter().enumerate().filter(|(_, voter)| voter.life != 1).map(|(at, _)| at).collect()
        };
        let back = |sim: &Sim, operator: &mut Process, slot: Slot, until: &dyn Fn(&Sim) -> bool| {
            let lost = machine(sim, &shop, slot);
            sim.lock().reboot(&lost);
            for _ in 0..600 {
                operator.pass();
                sim.lock().check();
                if until(sim) {
                    return lost;
                }
                sim.advance(Duration::from_millis(500));
            }
            panic!("{slot} does not come back");
        };
        let is_joint = |sim: &Sim| sim.lock().register(&shop.key()).expect("it lives").joining.is_some();
        let silent = back(&sim, &mut operator, Slot::Member(2), &is_joint);
        sim.lock().machine(&silent).cut = true;
        back(&sim, &mut operator, Slot::Member(4), &|sim| changed(sim) == [4] && !is_joint(sim));
        sim.lock().machine(&silent).cut = false;
        converge(&sim, &mut operator, &[(shop.key(), slots(5, 0))], LIMIT);
        assert_eq!(changed(&sim), [2, 4]);
    }
}

#[test]
fn an_operator_whose_lock_was_removed_goes_on_above_what_agents_have_taken() {
    let shop = Declared::new("shop", 3, 0);
    let (sim, first) = settled(9, &shop);
    // The lock has changed hands.
    first.release().expect("the bucket is there");
    let mut second = Process::start(&sim, 'a');
    second.operator.declare(Declared { readers: 1, ..shop.clone() }.intents(), vec![]);
    converge(&sim, &mut second, &[(shop.key(), slots(3, 1))], LIMIT);
    drop(second);
    sim.lock().fake.look(|world| world.bucket.set(keys().lock(), None));
    let mut third = Process::start(&sim, 'a');
    third.operator.declare(Declared { readers: 2, ..shop.clone() }.intents(), vec![]);
    converge(&sim, &mut third, &[(shop.key(), slots(3, 2))], LIMIT);
    assert!(third.operator.snapshots().borrow().lock.fence > 2);
}
