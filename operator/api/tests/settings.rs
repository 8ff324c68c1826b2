//! The closed list of refused settings against everything that mysqld knows.

use drover_api::settings::refuse;

#[test]
fn every_option_of_mysqld_was_judged_and_the_closed_list_says_so() {
    let judged = include_str!("mysqld_options.txt").lines().filter(|line| !line.starts_with('#'));
    let wrong: Vec<&str> = judged.filter(|line| line.starts_with('+') != refuse(&line[2..], "1").is_none()).collect();
    assert_eq!(wrong, [""; 0], "+ may be set, - is refused");
}
