//! What counts as left on a host.

use std::{cell::RefCell, collections::VecDeque};

use drover_e2e::has_or_will_have_ended;

/// /proc/PID/stat of a process in that state, with those flags and that many bytes of memory.
fn stat(state: &str, flags: u64, bytes: u64) -> String {
    format!("7 (a name) with) {state} 1 7 7 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 5 {bytes} 0")
}

#[test]
fn a_killed_process_is_given_its_time_and_one_that_runs_or_is_of_the_kernel_is_left() {
    assert!(!has_or_will_have_ended(|| stat("S", 0x0040_0000, 4096)));
    assert!(!has_or_will_have_ended(|| stat("S", 0x0020_0040, 0)));
    let looks = RefCell::new(VecDeque::from(["R", "D", "Z"]));
    assert!(has_or_will_have_ended(|| stat(looks.borrow_mut().pop_front().unwrap_or("X"), 0x0040_0004, 0)));
    assert!(looks.borrow().is_empty());
    // It was gone before it was looked at.
    assert!(has_or_will_have_ended(String::new));
}
