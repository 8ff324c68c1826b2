//! A scenario: a cloud, a walk, and what is printed when it fails.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Mutex, PoisonError},
};

use crate::{Clock, Cloud};

/// The claim that is being walked.
static CLAIM: Mutex<String> = Mutex::new(String::new());
/// Of a failure, in the one line that says it.
const WHY_CHARS_MAX: usize = 1_000;

/// Runs `walk` on a cloud of its own. When it fails or panics, the tail of every log is printed first; the cloud is swept
/// however it ends.
pub fn scenario(name: &str, walk: impl FnOnce(&Cloud) -> anyhow::Result<()>) -> anyhow::Result<()> {
    walk_on(name, Cloud::up, walk)
}

/// The same on a cloud without machines.
pub fn scenario_without_machines(name: &str, walk: impl FnOnce(&Cloud) -> anyhow::Result<()>) -> anyhow::Result<()> {
    walk_on(name, Cloud::without_machines, walk)
}

fn walk_on(
    name: &str,
    start: fn(&str) -> anyhow::Result<Cloud>,
    walk: impl FnOnce(&Cloud) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let clock = Clock::start();
    let cloud = start(name)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| walk(&cloud)));
    if !matches!(outcome, Ok(Ok(()))) {
        eprintln!("{name} failed after {:?}\n{}", clock.elapsed(), cloud.tails());
    }
    drop(cloud);
    eprintln!("{name}: {:.1} s", clock.elapsed().as_secs_f64());
    let why = match &outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(panic) => Some(words_of(panic.as_ref())),
    };
    if let Some(why) = why {
        // tests/e2e/run.sh says these again at its end.
        let claim = CLAIM.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("failed: {name}: at \"{claim}\": {}", in_one_line(&why));
    }
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Says which claim is being walked.
pub fn heading(text: &str) {
    text.clone_into(&mut CLAIM.lock().unwrap_or_else(PoisonError::into_inner));
    eprintln!("== {text}");
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("a panic without words").to_owned()
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WHY_CHARS_MAX).collect()
}
