//! A member that came back is joining, and is not heard again: given up after a while, by the order of steps that keeps every
//! acknowledgement (PROTOCOL.md section 6).

use std::time::Duration;

use super::{M0, M1, M2, M4};
use crate::world::{World, key, resolved};
use drover_api::{
    Slot,
    records::Register,
    wire::{LeaderOrder, RoleOrder},
};
use drover_plan::Action;

fn register(world: &mut World) -> Register {
    world.records().register.clone().expect("a register")
}

/// A set in which `joiner` came back in another life, is joint, and was never told to acknowledge: it went silent.
fn joint(members: u8, joiner: Slot) -> World {
    let mut world = World::new(resolved(members, 0));
    assert!(world.converge().reports[&key()].ready);
    world.terminate(joiner);
    for _ in 0..100 {
        world.passes(1, |world, action| is_order(action, joiner) && register(world).joining.is_some());
        if register(&mut world).joining.is_some() {
            world.silence(joiner);
            return world;
        }
    }
    panic!("{joiner} never joins");
}

fn is_order(action: &Action, to: Slot) -> bool {
    matches!(action, Action::Order { slot, .. } if *slot == to)
}

/// What the leader was told while passes were made, in order, and every register that was written.
#[derive(Default)]
struct Told {
    orders: Vec<LeaderOrder>,
    registers: Vec<Register>,
}

impl Told {
    fn note(&mut self, action: &Action) {
        match action {
            Action::Order { slot: M0, wanted, .. } => match &wanted.role {
                RoleOrder::Leader(leader) => self.orders.push(leader.clone()),
                _ => panic!("the leader is told to be another"),
            },
            Action::PutRegister { register, .. } => self.registers.push((**register).clone()),
            _ => {}
        }
    }

    /// The highest marker that was asked for while `slot` had a voter's account.
    fn marker_of_voter(&self, slot: Slot) -> u64 {
        let votes = |order: &&LeaderOrder| {
            order.accounts.iter().any(|account| account.slot == slot && account.credential.user.contains("voter"))
        };
        self.orders.iter().filter(votes).map(|order| order.marker).max().unwrap_or(0)
    }
}

fn pass(world: &mut World, passes: usize, told: &mut Told) {
    world.passes(passes, |_, action| {
        told.note(action);
        false
    });
}

fn life(register: &Register, slot: Slot) -> u64 {
    register.voters.iter().find(|voter| voter.slot == slot).expect("it votes").life
}

#[test]
fn a_joiner_that_stays_silent_is_taken_back_and_another_member_is_admitted() {
    let mut world = joint(5, M2);
    let before = register(&mut world);
    world.terminate(M4);
    let mut told = Told::default();
    pass(&mut world, 40, &mut told);
    assert!(told.registers.is_empty(), "given up within a minute: {:#?}", told.registers);

    pass(&mut world, 60, &mut told);
    let [withdrawing, alone, ..] = &told.registers[..] else { panic!("{:#?}", told.registers) };
    assert!(withdrawing.withdrawing && withdrawing.joining == before.joining, "both sets count until it is shut out");
    assert_eq!((&alone.voters, &alone.joining, alone.withdrawing), (&before.voters, &None, false));
    assert!(alone.marker > told.marker_of_voter(M2), "the joiner may have acknowledged the marker that proves its end");
    let after = register(&mut world);
    assert_eq!((life(&after, M2), life(&after, M4), after.joining.clone()), (1, 2, None), "{after:#?}");

    world.wake(M2);
    assert!(world.converge().reports[&key()].ready);
    assert_eq!(life(&register(&mut world), M2), 2);
}

#[test]
fn a_joiner_whose_machine_is_gone_is_not_waited_for() {
    let mut world = joint(5, M2);
    world.terminate(M2);
    let mut told = Told::default();
    pass(&mut world, 8, &mut told);
    assert!(told.registers.last().is_some_and(|register| register.joining.is_none()), "{:#?}", told.registers);
    // It ended twice within minutes: its slot is filled again after a pause.
    world.frozen.clear();
    pass(&mut world, 60, &mut told);
    assert!(world.converge().reports[&key()].ready);
}

#[test]
fn a_joiner_whose_machine_is_not_shown_by_ec2_is_not_gone() {
    let mut world = joint(5, M2);
    let id = world.machine(M2).id.clone();
    world.observed.fleet.machines.remove(&id);
    let mut told = Told::default();
    pass(&mut world, 30, &mut told);
    assert!(told.registers.is_empty(), "{:#?}", told.registers);
}

#[test]
fn a_joiner_is_not_given_up_while_the_others_could_not_prove_anything_without_it() {
    let mut world = joint(3, M2);
    world.silence(M1);
    let mut told = Told::default();
    pass(&mut world, 400, &mut told);
    assert!(told.registers.is_empty(), "{:#?}", told.registers);
    world.wake(M2);
    pass(&mut world, 10, &mut told);
    assert_eq!(life(&register(&mut world), M2), 2, "it is back, and completes");
}

#[test]
fn a_joiner_that_comes_back_while_it_is_shut_out_is_needed_when_the_others_are_lost() {
    let mut world = joint(3, M2);
    let mut told = Told::default();
    // The leader takes its orders, and its marker is never acknowledged.
    let stuck = |world: &mut World, passes, told: &mut Told| {
        world.passes(passes, |_, action| {
            told.note(action);
            is_order(action, M0)
        });
    };
    stuck(&mut world, 70, &mut told);
    assert!(register(&mut world).withdrawing);
    world.silence(M1);
    stuck(&mut world, 10, &mut told);
    assert!(register(&mut world).withdrawing, "nobody is there yet who could be needed");
    world.wake(M2);
    pass(&mut world, 20, &mut told);
    let after = register(&mut world);
    assert_eq!((life(&after, M2), after.joining, after.withdrawing), (2, None, false));
    let [withdrawn, needed, complete] = &told.registers[..] else { panic!("{:#?}", told.registers) };
    assert!(withdrawn.withdrawing && !needed.withdrawing && needed.joining.is_some());
    assert!(withdrawn.marker < needed.marker && needed.marker < complete.marker, "each step has markers of its own");
}

#[test]
fn who_joins_and_fails_again_and_again_does_not_stand_before_the_others() {
    let mut world = joint(5, M2);
    world.terminate(M4);
    world.wake(M2);
    // It is heard, and never acknowledges.
    for _ in 0..400 {
        world.passes(1, |world, action| {
            let votes = matches!(action, Action::Order { slot: M2, wanted, .. }
                if matches!(&wanted.role, RoleOrder::Replica(replica) if replica.acknowledges));
            if votes && world.records().register.as_ref().is_some_and(|register| register.joining.is_some()) {
                return true;
            }
            false
        });
    }
    assert_eq!(life(&register(&mut world), M4), 2, "{:#?}", register(&mut world));
    world.observed.now = world.observed.now.plus(Duration::from_secs(1));
    assert!(world.converge().reports[&key()].ready);
}
