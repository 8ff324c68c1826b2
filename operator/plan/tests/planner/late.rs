//! Machines and volumes that show up late.

use super::*;

#[test]
fn a_machine_that_shows_up_after_it_was_given_up_is_kept_and_no_second_is_launched() {
    let mut world = ready(3, 0);
    let machine = world.machine(M1).clone();
    let agent = world.observed.agents.remove(&machine.id).expect("an agent");
    world.observed.fleet.machines.get_mut(&machine.id).expect("listed").phase = Phase::Terminated;
    world.passes(1, |_, _| false);
    assert_eq!(world.records().slots[&M1].instance, None);
    world.observed.fleet.machines.insert(machine.id.clone(), machine.clone());
    world.observed.agents.insert(machine.id.clone(), agent);
    assert!(world.converge().reports[&key()].ready);
    assert!(!world.done.contains(&"Launch"), "{:?}", world.done);
    assert_eq!(world.records().slots[&M1].instance, Some(machine.id));
}

#[test]
fn a_machine_that_shows_up_while_its_replacement_is_recorded_is_kept_and_nothing_is_sent() {
    for is_of_another_process in [false, true] {
        let mut world = ready(3, 0);
        let machine = world.machine(M1).clone();
        let agent = world.observed.agents.remove(&machine.id).expect("an agent");
        world.observed.fleet.machines.get_mut(&machine.id).expect("listed").phase = Phase::Terminated;
        world.passes(2, |_, action| matches!(action, Action::Launch { .. }));
        let request = world.records().slots[&M1].launch.clone().expect("recorded");
        if is_of_another_process {
            world.observed.sends.remove(&request.token);
        }
        world.observed.fleet.machines.insert(machine.id.clone(), machine.clone());
        world.observed.agents.insert(machine.id.clone(), agent);
        if is_of_another_process {
            // Whether it was sent is not known: only look-ups tell, from one to another five minutes later.
            for seconds in (0..=300).step_by(10) {
                let actions: Vec<_> = world.plan().actions.values().flatten().map(|it| it.action.clone()).collect();
                assert_eq!(actions, [Action::FindByToken { token: request.token.clone() }], "after {seconds} s");
                let now = world.observed.now;
                let send = world.observed.sends.entry(request.token.clone()).or_insert(fresh_send());
                send.minted_here = false;
                (send.looked_up_empty_since, send.last_lookup) = (send.looked_up_empty_since.or(Some(now)), Some(now));
                later(&mut world, 10);
            }
        }
        assert!(world.converge().reports[&key()].ready);
        assert!(!world.done.contains(&"Launch"), "{:?}", world.done);
        assert_eq!(world.records().slots[&M1].instance, Some(machine.id));
    }
}

#[test]
fn what_shows_up_in_a_slot_that_has_ended_is_ended_too() {
    for deleted in [false, true] {
        let mut world = ready(1, 1);
        let mut machine = world.machine(R0).clone();
        let mut volume = world.observed.fleet.volumes.values().find(|volume| volume.slot == R0).expect("one").clone();
        world.set(|set| set.read_replicas = 0);
        world.converge();
        (machine.id, machine.attempt) = ("i-0feedfacefeedface".parse().expect("valid"), 7);
        (volume.id, volume.attached_to, volume.phase) =
            ("vol-0feedfacefeedface".parse().expect("valid"), Some(machine.id.clone()), VolumePhase::Attached);
        if deleted {
            delete(&mut world);
            world.passes(1, |_, _| false);
        }
        world.observed.fleet.machines.insert(machine.id.clone(), machine);
        world.observed.fleet.volumes.insert(volume.id.clone(), volume);
        world.converge();
        let left = if deleted { (0, 0) } else { (1, 1) };
        assert_eq!((world.live_machines(), world.live_volumes()), left, "deleted: {deleted}");
    }
}
