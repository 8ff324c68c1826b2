//! The laws as single histories.

use std::time::Duration;

use drover_sim::{
    Declared, Process, Sim,
    laws::{converge, slots},
};

const LIMIT: Duration = Duration::from_secs(20 * 60);

#[test]
fn a_set_of_three_and_one_is_launched_and_left_alone() {
    let sim = Sim::new(1);
    let shop = Declared::new("shop", 3, 1);
    let mut operator = Process::start(&sim, 'a');
    operator.operator.declare(shop.intents(), vec![]);
    converge(&sim, &mut operator, &[(shop.key(), slots(3, 1))], LIMIT);
    assert!(sim.lock().acknowledged[&shop.key()].len() > 3, "clients were let in");
}
